"""Mien: a self-hosted inference server for faces, images and your own Python models."""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mien")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

# ONNX Runtime gives the machine an id and reports to its maker, unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
