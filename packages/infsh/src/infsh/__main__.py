"""`infsh` and `python -m infsh`."""

import sys

from infsh._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
