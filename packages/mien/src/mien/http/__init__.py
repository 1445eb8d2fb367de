"""Wire adapters, one package per door: parse, call, serialise. No inference, no SQL."""
