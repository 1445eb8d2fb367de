"""Computer vision: decode, detect, align, embed, draw. Pure, synchronous functions, independent of any API."""
