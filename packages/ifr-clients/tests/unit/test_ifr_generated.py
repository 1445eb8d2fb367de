"""The clients that block are generated from those for asyncio, and nobody edited the result."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_generated_clients_are_up_to_date():
    check = subprocess.run(
        [sys.executable, "tools/generate_sync.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr
