"""The command `mien`."""
