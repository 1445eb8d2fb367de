"""Contact sheets: bounded pages, every face with words below."""

import numpy as np

from mien.vision.contact_sheet import COLUMNS, ROWS, Page

RED = np.full((112, 112, 3), (0, 0, 255), np.uint8)


def test_a_page_is_as_large_as_it_is_filled() -> None:
    page = Page()
    page.add(RED, ["a.jpg", "#1"])
    assert page.pixels().shape == (152, 122, 3)
    for _ in range(COLUMNS):
        page.add(RED, ["a.jpg", "#1"])
    assert page.pixels().shape == (304, 1220, 3)


def test_a_page_is_full_at_some_point() -> None:
    page = Page()
    while not page.is_full:
        page.add(RED, ["a.jpg", "#1"])
    assert page.faces == COLUMNS * ROWS
    assert page.pixels().shape == (1824, 1220, 3)


def test_crops_keep_their_colours_and_words_stay_below_them() -> None:
    page = Page()
    page.add(RED, ["a very long name of an image that is wider than its face.jpg", "日本 ünï \udce9 \n"])
    pixels = page.pixels()
    assert (pixels[5:117, 5:117] == RED).all()
    words = (pixels[118:] < 128).any(axis=(0, 2))
    assert words.any()
    assert not words[118:].any()
