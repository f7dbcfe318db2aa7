"""Where the annotation of a corpus is probably wrong, and how corrections come back."""
