"""Mien: a self-hosted inference server for faces, images and your own Python models."""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mien")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

# ONNX Runtime sends telemetry with an id of this machine, unless that is disabled before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
