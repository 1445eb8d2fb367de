"""What the server logs, and how."""

import subprocess
import sys

LOG = """
import logging
import structlog
from mien.logs import configure_logs
from mien.settings import Settings
configure_logs(Settings(log_format="console").logging)
structlog.get_logger().info("ready", models=["yunet"])
logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
logging.getLogger("httpx2").info("GET https://example.com/?secret=1")
logging.getLogger("alembic").warning("a warning")
"""


def test_a_log_in_a_file_has_no_colours_and_no_chatter_of_libraries() -> None:
    log = subprocess.run([sys.executable, "-c", LOG], capture_output=True, text=True, check=True).stderr
    assert "\x1b" not in log
    assert "ready" in log
    assert "a warning" in log
    assert "SQLiteImpl" not in log
    assert "secret" not in log
