"""Normalization, sentences, morphemes and lines of text."""
