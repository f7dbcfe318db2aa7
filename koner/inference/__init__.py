"""Inference: the tagger, its runtimes, constrained decoding, batching and answers."""
