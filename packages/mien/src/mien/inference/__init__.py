"""Inference services that requests select by name, through any API."""
