"""Files: Parquet, tables, metrics, atomic writes, and the hub."""
