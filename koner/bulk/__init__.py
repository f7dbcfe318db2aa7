"""Tagging of a corpus of any size: blocks of rows, engines, and an output folder of Parquet files."""
