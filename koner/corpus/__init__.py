"""Annotated sentences: schema, checks, sources, statistics and splits."""
