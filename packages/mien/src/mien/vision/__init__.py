"""Images in, numbers out: decode, detect, align, embed, draw. Pure, synchronous, no web."""
