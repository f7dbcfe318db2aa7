"""The audit of the annotation: a DVC project of its own (run `koner audit`, or `dvc repro` in this folder)."""
