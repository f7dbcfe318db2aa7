"""What to annotate next: the texts of a pool that a model is least certain of, without repetitions."""
