"""`python -m mien` is equivalent to `mien`."""

from mien.cli.main import run

run()
