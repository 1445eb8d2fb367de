"""JSON and MessagePack of callers: their values are counted before a parser sees them."""
