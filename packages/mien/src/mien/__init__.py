"""Mien: a self-hosted inference server for faces, pictures and your own Python models."""

__version__ = "0.1.0"
