"""Deploying apps: packages, environments, the registry of versions."""
