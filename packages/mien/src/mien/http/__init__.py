"""HTTP: what every API shares, and one package per API, which parses, calls and serialises. No inference, no SQL."""
