"""A DVC project of its own, not run by the pipeline: makes a base model of raw text (`dvc repro` in this folder)."""
