"""Running apps: supervised worker processes, the pool of warm workers, placement."""
