"""Apps as they are deployed: packages, environments, the registry of versions."""
