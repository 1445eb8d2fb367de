"""The structure of image files: what decoding would cost, and the part of a file that its first image needs."""
