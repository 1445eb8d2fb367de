"""Running apps: supervised worker processes, the warm pool, placement."""
