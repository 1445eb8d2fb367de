"""Mien: a self-hosted inference server for faces, images and your own Python models."""

import os
from importlib.metadata import version

__version__ = version("mien")

# ONNX Runtime gives the machine an id and reports to its maker, unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
