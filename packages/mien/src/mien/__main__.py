"""`python -m mien` is equivalent to `mien`."""

from mien.imports import importing

with importing():
    from mien.cli.main import run

run()
