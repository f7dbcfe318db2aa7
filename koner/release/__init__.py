"""The model that `dvc.lock` pins, and the models of other revisions."""
