"""CenterFace: any batch, any height and width that 32 divides."""

from pathlib import Path

from mien.zoo.convert import graph as edit

CHANNELS = (1, 2, 2, 10)


def convert(source: Path) -> bytes:
    """`input.1` [N, 3, H, W] to heat map, size, offset and landmarks [N, channels, H / 4, W / 4]."""
    model = edit.read(source)
    edit.tidy(model.graph)
    edit.reshape_value(model.graph.input[0], ["N", 3, "H", "W"])
    for output, channels in zip(model.graph.output, CHANNELS, strict=True):
        edit.reshape_value(output, ["N", channels, "H4", "W4"])
    return edit.serialise(model)
