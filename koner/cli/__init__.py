"""The `koner` command."""
