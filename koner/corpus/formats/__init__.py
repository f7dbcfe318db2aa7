"""Formats of annotated corpora, each with a reader and a writer."""
