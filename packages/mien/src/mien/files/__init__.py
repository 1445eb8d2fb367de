"""Blobs with records, and signed URLs."""
