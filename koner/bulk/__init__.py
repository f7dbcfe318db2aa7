"""Tagging a corpus of any size: files at any address, in blocks that an engine works off, to a folder of Parquet."""
