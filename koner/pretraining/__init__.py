"""Pretraining of a base model on raw text."""
