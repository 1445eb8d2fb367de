"""Render docs/architecture/*.dot to SVG. Needs Graphviz (`apt-get install graphviz`); nothing else in here does.

Each SVG says which source it was drawn from, so that a test without Graphviz can tell whether it is current.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "architecture"


def mark_of(source: str) -> str:
    """The comment that ends the SVG of a source."""
    return f"<!-- source {hashlib.sha256(source.encode()).hexdigest()} -->"


def main() -> int:
    """Draw all of them; the exit status."""
    if shutil.which("dot") is None:
        sys.stderr.write("Graphviz is not installed. On Debian and Ubuntu: apt-get install graphviz\n")
        return 1
    for path in sorted(FOLDER.glob("*.dot")):
        source = path.read_text()
        drawn = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, text=True, check=True).stdout
        path.with_suffix(".svg").write_text(f"{drawn.rstrip()}\n{mark_of(source)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
