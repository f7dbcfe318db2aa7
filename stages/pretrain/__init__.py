"""The pretraining of a base model on raw text: a DVC project of its own (run `dvc repro` in this folder)."""
