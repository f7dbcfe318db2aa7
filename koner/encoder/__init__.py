"""The base model: its weights, vocabulary and tokenizer."""
