"""Faces in a program, without a server: `from mien import Faces`."""
