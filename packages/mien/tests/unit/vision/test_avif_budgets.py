"""No AVIF costs more than what it shows: sizes are those of its streams, and only what is shown is decoded."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PilImage

from mien.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageTruncated
from mien.vision.formats import av1, avif, boxes, items
from mien.vision.formats.av1 import frame_sizes
from mien.vision.formats.items import Item, Items, Property, file_of
from mien.vision.image import decode, read_still
from mien.vision.types import Image

PIXELS = 200 * 200


def read(data: bytes, max_pixels: int = PIXELS) -> Image:
    return decode(data, max_pixels=max_pixels, max_bytes=1 << 25)


def gradient(mode: str = "RGB", width: int = 64, height: int = 64) -> PilImage.Image:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows % 50 * 5, columns % 60 * 4, rows // 8 + columns // 8, rows + columns], axis=-1)
    return PilImage.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)


def saved(image: PilImage.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "AVIF", speed=10, **options)  # type: ignore[arg-type]
    return file.getvalue()


RGB = saved(gradient())
RGBA = saved(gradient("RGBA"))


def parsed(data: bytes) -> Items:
    return items.read_items(memoryview(data), "AVIF")


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The container, but not the stream, says that it has this size."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def with_stream(data: bytes, stream: bytes, place: int = 0) -> bytes:
    """Another stream in the primary image, or in the next one."""
    found = parsed(data)
    number = list(found.items)[place]
    found.items[number] = replace(found.items[number], parts=[memoryview(stream)])
    return file_of(found, b"avif")


def stream_of(data: bytes) -> bytes:
    found = parsed(data)
    return bytes(found.items[found.primary].data())


# --- sizes


def test_a_stream_larger_than_its_container_says_is_not_decoded() -> None:
    data = with_size(saved(gradient(width=1000, height=1000)), 64, 64)
    with pytest.raises(ImageTooLarge, match="is 1000x1000, 1000000 pixels; this server decodes at most 40000"):
        read(data)
    with pytest.raises(ImageTruncated, match="gives its size twice, as 64x64 and as 1000x1000 pixels"):
        read(data, max_pixels=10**7)


def test_a_stream_smaller_than_its_container_says_is_refused() -> None:
    with pytest.raises(ImageTruncated, match="twice"):
        read(with_size(RGB, 200, 200))


def test_a_stream_padded_to_whole_blocks_is_read() -> None:
    assert read(with_size(RGB, 60, 50)).shape == (50, 60, 3)


def test_the_stream_of_transparency_is_checked_as_well() -> None:
    large = stream_of(saved(gradient("L", 1000, 1000)))
    with pytest.raises(ImageTooLarge, match="1000x1000"):
        read(with_stream(RGBA, large, place=1))


def written(*fields: tuple[int, int]) -> bytes:
    """Fields, each a value and its bits, as a header."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields if count)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def unit(kind: int, content: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(content)]) + content


SEQUENCE = unit(
    1,
    written(
        *[(0, 3), (0, 1), (0, 1)],  # profile, several frames, full header
        *[(0, 1), (0, 1), (0, 5), (0, 12), (0, 5)],  # no times; one operating point
        *[(11, 4), (11, 4), (63, 12), (63, 12), (0, 1)],  # 64 x 64, in fields of 12 bits
        *[(0, 3), (0, 4), (0, 1), (1, 1), (1, 1)],  # screen content and integer motion as the frame says
    ),
)
FRAME = unit(6, written(*[(0, 1), (0, 2), (1, 1), (0, 1), (0, 1), (0, 1)]) + bytes(8))
LARGER = unit(6, written(*[(0, 1), (0, 2), (1, 1), (0, 1), (0, 1), (1, 1), (3999, 12), (2999, 12)]) + bytes(8))


def test_a_frame_larger_than_its_sequence_says_is_not_decoded() -> None:
    assert frame_sizes(memoryview(SEQUENCE + FRAME)) == [(64, 64)]
    assert frame_sizes(memoryview(SEQUENCE + LARGER)) == [(4000, 3000)]
    with pytest.raises(ImageTooLarge, match="4000x3000"):
        read(with_stream(RGB, SEQUENCE + LARGER))
    with pytest.raises(ImageTooLarge, match="4000x3000"):
        read(with_stream(RGB, stream_of(RGB) + SEQUENCE + LARGER))


def test_each_frame_counts() -> None:
    stream = stream_of(RGB)
    with pytest.raises(ImageTooLarge, match="frames"):
        read(with_stream(RGB, stream * (av1.MOST_FRAMES + 1)))
    with pytest.raises(ImageTooLarge, match="pixels in its frames"):
        read(with_stream(RGB, stream * 3), max_pixels=64 * 64)
    assert read(with_stream(RGB, stream * 3)).shape == (64, 64, 3)


def test_a_stream_without_a_frame_is_refused() -> None:
    for stream in (b"", SEQUENCE, FRAME, SEQUENCE + FRAME[:3]):
        with pytest.raises(ImageTruncated):
            read(with_stream(RGB, stream))


def test_a_flood_of_units_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="units"):
        read(with_stream(RGB, unit(15, b"") * (av1.MOST_UNITS + 1)))


# --- grids


def grid(columns: int, rows: int, size: tuple[int, int], tile: bytes = RGB, repeated: bool = False) -> bytes:
    """An image made of tiles that are all the same."""
    one = parsed(tile).items[1]
    shape = memoryview(struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size))
    sized = Property(99, b"ispe", memoryview(bytes(4) + struct.pack(">II", *size)), False)
    others = [found for found in one.properties if found.kind not in (b"ispe", b"av1C")]
    whole = Item(b"grid", [sized, *others], [shape])
    count = 1 if repeated else columns * rows
    tiles = dict.fromkeys(range(2, 2 + count), one)
    made_of = tuple(tiles) * (columns * rows if repeated else 1)
    return file_of(Items(1, {1: whole, **tiles}, [(b"dimg", 1, made_of)]), b"avif")


def test_a_grid_is_put_together() -> None:
    image = read(grid(3, 2, (192, 128)))
    assert image.shape == (128, 192, 3)
    inside = 8  # colours of neighbours reach across the edges, as chroma is subsampled
    assert (image[64 + inside :, 128 + inside :] == read(RGB)[inside:, inside:]).all()


def sharing(data: bytes, length: int) -> bytes:
    """The grid, cut to this length after its first tile's start; all tiles have the data of the first."""
    places = [data.index(b"iloc") + 18 + 14 * index for index in range(len(parsed(data).items))]
    (first,) = struct.unpack_from(">I", data, places[1])
    shared = bytearray(data[: first + length])
    for place in places[2:]:
        struct.pack_into(">I", shared, place, first)
    return bytes(shared)


def test_tiles_that_share_their_data_are_read() -> None:
    data = grid(2, 2, (128, 128))
    shared = sharing(data, len(stream_of(RGB)))
    assert len(shared) < len(data) - 2 * len(stream_of(RGB))
    assert (read(shared) == read(data)).all()


def test_all_tiles_count() -> None:
    with pytest.raises(ImageTooLarge, match="256x250"):
        read(grid(4, 4, (256, 250)))
    with pytest.raises(ImageTooLarge, match="pixels in its frames"):
        read(grid(3, 3, (64, 64)), max_pixels=64 * 64)


def test_tiles_far_beyond_the_edges_are_refused() -> None:
    wide = saved(gradient(width=1200, height=1200))
    with pytest.raises(ImageTooLarge, match="pixels in its tiles"):
        read(grid(1, 1, (64, 64), wide), max_pixels=10**7)


def test_a_grid_is_made_of_its_own_tiles() -> None:
    with pytest.raises(ImageTruncated, match="each of them once"):
        read(grid(2, 2, (128, 128), repeated=True))
    found = parsed(grid(2, 2, (128, 128)))
    found.references = [(b"dimg", 1, (2, 3, 4))]
    with pytest.raises(ImageTruncated, match="3 tiles for 4 places"):
        read(file_of(found, b"avif"))
    found.references = [(b"dimg", 1, (2, 3, 4, 1))]
    with pytest.raises(ImageTruncated, match="each of them once"):
        read(file_of(found, b"avif"))


@pytest.mark.parametrize("kind", [b"iovl", b"iden", b"tmap", b"hvc1", b"jpeg"])
def test_other_items_are_not_read(kind: bytes) -> None:
    found = parsed(RGB)
    found.items[1].kind = kind
    with pytest.raises(ImageFormatUnsupported, match=f"items of type '{kind.decode()}'"):
        read(file_of(found, b"avif"))


def test_a_property_that_must_be_understood_is_not_passed_over() -> None:
    found = parsed(RGB)
    found.items[1].properties.append(Property(50, b"what", memoryview(b""), False))
    assert (read(file_of(found, b"avif")) == read(RGB)).all()
    found.items[1].properties.append(Property(51, b"ever", memoryview(b""), True))
    with pytest.raises(ImageFormatUnsupported, match="'ever'"):
        read(file_of(found, b"avif"))


# --- the container


def test_only_what_is_shown_reaches_the_decoder() -> None:
    others = [gradient().rotate(angle) for angle in (10, 90, 200)]
    data = saved(gradient(), save_all=True, append_images=others, xmp=b"x" * 50_000, icc_profile=b"y" * 50_000)
    still = read_still(data, max_pixels=PIXELS)
    assert b"moov" in data
    assert len(still.data) < len(RGB) + 100
    assert (read(data)[..., ::-1] == np.asarray(PilImage.open(io.BytesIO(data)).convert("RGB"))).all()


def test_an_animation_without_a_still_image_is_not_read() -> None:
    data = b"\0\0\0\x14ftypavis\0\0\0\0avis" + boxes.box(b"moov", bytes(100))
    with pytest.raises(ImageFormatUnsupported, match="moving pictures"):
        read(data)


def test_transparency_stays() -> None:
    assert (read(RGBA) != read(RGB)).any()
    whole = PilImage.open(io.BytesIO(RGBA)).convert("RGBA")
    white = PilImage.new("RGBA", whole.size, "white")
    white.alpha_composite(whole)
    assert np.abs(read(RGBA)[..., ::-1].astype(int) - np.asarray(white.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("turns", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_an_avif_is_turned_as_pillow_turns_it(turns: int | None, axis: int | None) -> None:
    found = parsed(RGB)
    for number, kind, value in ((50, b"irot", turns), (51, b"imir", axis)):
        if value is not None:
            found.items[1].properties.append(Property(number, kind, memoryview(bytes([value])), True))
    data = file_of(found, b"avif")
    assert read_still(data, max_pixels=PIXELS).orientation == PilImage.open(io.BytesIO(data)).getexif().get(274, 1)


def test_data_that_many_items_share_is_not_read_again_and_again() -> None:
    found = parsed(grid(2, 2, (128, 128)))
    padding = memoryview(b"\x7a\xff\xff\x7f" + bytes((1 << 21) - 1))  # one unit of 2 MB
    for number in (2, 3, 4, 5):
        found.items[number] = replace(found.items[number], parts=[*found.items[number].parts, padding])
    data = file_of(found, b"avif")
    assert read(data).shape == (128, 128, 3)
    with pytest.raises(ImageTruncated, match="items are longer than the file"):
        read(sharing(data, 5 << 19))


def meta_of(*parts: bytes) -> bytes:
    return b"\0\0\0\x14ftypavif\0\0\0\0avif" + boxes.full_box(b"meta", 0, 0, *parts)


def infe(number: int) -> bytes:
    return boxes.full_box(b"infe", 2, 0, number.to_bytes(2, "big"), bytes(2), b"av01", b"\0")


PITM = boxes.full_box(b"pitm", 0, 0, b"\0\1")
IINF = boxes.full_box(b"iinf", 0, 0, b"\0\1", infe(1))


@pytest.mark.parametrize(
    "parts",
    [
        [PITM, boxes.full_box(b"iinf", 1, 0, struct.pack(">I", items.MOST_ITEMS + 1))],
        [PITM, IINF, boxes.full_box(b"iloc", 2, 0, b"\x44\0", struct.pack(">I", 1 << 31))],
        [PITM, IINF, boxes.full_box(b"iloc", 1, 0, b"\0\0", struct.pack(">HHHHH", 1, 1, 0, 0, 65535))],
        [PITM, IINF, boxes.full_box(b"iref", 0, 0, boxes.box(b"dimg", b"\0\1\xff\xff", bytes(2 * 65535)))],
        [
            PITM,
            IINF,
            boxes.box(b"iprp", boxes.box(b"ipco", boxes.box(b"free")), boxes.full_box(b"ipma", 0, 0, b"\xff" * 4)),
        ],
    ],
    ids=["items", "places", "parts", "references", "properties"],
)
def test_floods_in_the_container_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(ImageTooLarge, match="too many"):
        read(meta_of(*parts))


def test_a_flood_of_boxes_is_refused() -> None:
    with pytest.raises(ImageTruncated):
        read(RGB[:32] + boxes.box(b"free") * (boxes.MOST_BOXES + 1) + RGB[32:])


@pytest.mark.parametrize("end", [20, 100, 250, -1])
def test_a_file_that_ends_early_is_refused(end: int) -> None:
    with pytest.raises(ImageTruncated):
        read(RGB[:end])


@pytest.mark.parametrize("data", [RGB, RGBA, grid(2, 2, (128, 128))], ids=["colours", "transparency", "grid"])
def test_whatever_is_damaged_the_size_that_was_checked_is_the_size_that_is_decoded(data: bytes) -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        broken = bytearray(data)
        for at in random.integers(0, min(len(data), 600), 3):
            broken[at] = random.integers(0, 256)
        try:
            image = read(bytes(broken))
        except ImageError:
            continue
        assert image.shape[1::-1] == read_still(bytes(broken), max_pixels=PIXELS).upright_size


def test_the_budget_of_frames_leaves_room_for_transparency_and_edges() -> None:
    side, tile = 8000, 512
    padded = -(-side // tile) * tile
    assert 2 * padded**2 <= avif.FRAME_PIXELS * side**2
