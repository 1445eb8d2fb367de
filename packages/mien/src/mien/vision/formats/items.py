"""The items of a HEIF file (ISO/IEC 23008-12): images, what they are made of, and where their data is."""

from dataclasses import dataclass, field

from mien.errors import ImageTruncated
from mien.vision.formats.boxes import Cursor, box, boxes, full_box
from mien.vision.formats.still import cut_off, not_read, too_many

MOST_ITEMS = 4096
"""An image of 8,000 × 8,000 pixels in tiles of 256 × 256 with transparency has 2,050."""
MOST_ENTRIES = 16384
"""Properties of items, references between items, and parts of their data; of each, over all items."""


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an item, such as its size; `essential` if it cannot be read without."""

    number: int
    """Its place among the file's properties."""
    kind: bytes
    content: memoryview
    essential: bool


@dataclass(slots=True)
class Item:
    """An item."""

    kind: bytes
    properties: list[Property] = field(default_factory=list)
    parts: list[memoryview] = field(default_factory=list)
    """Its data."""

    def property(self, kind: bytes) -> memoryview | None:
        """The content of its first property of this kind."""
        return next((found.content for found in self.properties if found.kind == kind), None)

    def length(self) -> int:
        """Bytes of its data."""
        return sum(len(part) for part in self.parts)

    def data(self) -> memoryview:
        """Its data; a copy only if it is in several parts."""
        return self.parts[0] if len(self.parts) == 1 else memoryview(b"".join(self.parts))


@dataclass(slots=True)
class Items:
    """All items of a file."""

    primary: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    """Kind, the item that refers, and those that it refers to."""

    def referred(self, kind: bytes, number: int) -> tuple[int, ...]:
        """What an item refers to."""
        return next((to for k, source, to in self.references if k == kind and source == number), ())


def read_items(view: memoryview, kind: str) -> Items:
    """The items of a file. `kind` is the format's name in messages.

    Raises ImageTooLarge for too many, ImageFormatUnsupported for a film without a still image, ImageTruncated if data
    is outside of the file, IndexError for other damage.
    """
    found: dict[bytes, memoryview] = {}
    for name, content in boxes(view):
        found.setdefault(name, content)
    if b"meta" not in found:
        raise not_read(kind, "moving pictures only") if b"moov" in found else cut_off(kind)
    meta = found[b"meta"]
    parts: dict[bytes, memoryview] = {}
    for name, content in boxes(meta[4:]):
        parts.setdefault(name, content)
    reader = _Reader(kind, parts)
    reader.read(view)
    return reader.found


class _Reader:
    """One reading of a `meta` box."""

    def __init__(self, kind: str, parts: dict[bytes, memoryview]) -> None:
        self._kind, self._parts = kind, parts
        self._entries = 0
        self.found = Items()

    def read(self, view: memoryview) -> None:
        self._names()
        primary = self._cursor(b"pitm")
        version, _ = primary.version()
        self.found.primary = primary.uint(2 if version == 0 else 4)
        self._properties()
        self._references()
        self._places(view)

    def _cursor(self, name: bytes) -> Cursor:
        if name not in self._parts:
            raise IndexError(f"there is no {name!r} box")
        return Cursor(self._parts[name])

    def _number_of_items(self, number: int) -> int:
        if number > MOST_ITEMS:
            raise too_many(self._kind, "items", MOST_ITEMS)
        return number

    def _count(self, number: int) -> int:
        self._entries += number
        if self._entries > MOST_ENTRIES:
            raise too_many(self._kind, "properties, references or parts of items", MOST_ENTRIES)
        return number

    def _names(self) -> None:
        cursor = self._cursor(b"iinf")
        version, _ = cursor.version()
        self._number_of_items(cursor.uint(2 if version == 0 else 4))
        for name, content in boxes(cursor.rest()):
            entry = Cursor(content)
            version, _ = entry.version()
            if name != b"infe" or version < 2:  # those of before HEIF have no type
                continue
            number = entry.uint(2 if version == 2 else 4)
            entry.take(2)
            self.found.items.setdefault(number, Item(bytes(entry.take(4))))

    def _properties(self) -> None:
        known: list[tuple[bytes, memoryview]] = []
        given: list[memoryview] = []
        for name, content in boxes(self._parts.get(b"iprp", memoryview(b""))):
            if name == b"ipco":
                known.extend(boxes(content))
            elif name == b"ipma":
                given.append(content)
        self._entries = 0
        for content in given:
            self._associations(Cursor(content), known)

    def _associations(self, cursor: Cursor, known: list[tuple[bytes, memoryview]]) -> None:
        version, flags = cursor.version()
        size = 2 if flags & 1 else 1
        for _ in range(self._number_of_items(cursor.uint(4))):
            item = self.found.items.get(cursor.uint(2 if version == 0 else 4))
            for _ in range(self._count(cursor.uint(1))):
                value = cursor.uint(size)
                essential, number = divmod(value, 1 << (8 * size - 1))
                if item is not None and number:
                    item.properties.append(Property(number, *known[number - 1], bool(essential)))

    def _references(self) -> None:
        if b"iref" not in self._parts:
            return
        cursor = self._cursor(b"iref")
        size = 2 if cursor.version()[0] == 0 else 4
        self._entries = 0
        for name, content in boxes(cursor.rest()):
            entry = Cursor(content)
            source, count = entry.uint(size), self._count(entry.uint(2))
            self.found.references.append((name, source, tuple(entry.uint(size) for _ in range(count))))

    def _places(self, view: memoryview) -> None:
        cursor = self._cursor(b"iloc")
        version, _ = cursor.version()
        sizes = cursor.uint(2)
        offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        wide = 4 if version == 2 else 2
        self._entries = 0
        for _ in range(self._number_of_items(cursor.uint(wide))):
            item = self.found.items.get(cursor.uint(wide))
            method = cursor.uint(2) & 15 if version else 0
            cursor.take(2)  # which file: always this one, as in every decoder
            start, parts = cursor.uint(base), []
            for _ in range(self._count(cursor.uint(2))):
                cursor.take(index if version else 0)
                begin = start + cursor.uint(offset)
                parts.append((begin, cursor.uint(length)))
            if item is not None and not item.parts:
                item.parts = [self._part(view, method, *part) for part in parts]

    def _part(self, view: memoryview, method: int, begin: int, length: int) -> memoryview:
        if method == 1:
            view = self._parts.get(b"idat", memoryview(b""))
        elif method:
            raise IndexError("data that is in other items")
        end = begin + length if length else len(view)  # no length: to the end
        if end > len(view) or begin > end:
            raise ImageTruncated(f"the {self._kind} image ends before its last pixel; was the upload incomplete?")
        return view[begin:end]


def file_of(items: Items, brand: bytes) -> bytes:
    """A file that holds these items and nothing else. They are numbered anew, in order."""
    numbers = {old: new for new, old in enumerate(items.items, 1)}
    blob = b"".join(part for item in items.items.values() for part in item.parts)
    head = box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf")
    start = len(head) + len(_meta(items, numbers, 0)) + 8
    return b"".join([head, _meta(items, numbers, start), (8 + len(blob)).to_bytes(4, "big"), b"mdat", blob])


def _meta(items: Items, numbers: dict[int, int], start: int) -> bytes:
    names = [
        full_box(b"infe", 2, 0, _u16(numbers[old]), _u16(0), item.kind, b"\0") for old, item in items.items.items()
    ]
    return full_box(
        b"meta",
        0,
        0,
        full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", 0, 0, _u16(numbers[items.primary])),
        full_box(b"iinf", 0, 0, _u16(len(names)), *names),
        _references_box(items, numbers),
        _properties_box(items, numbers),
        _places_box(items, numbers, start),
    )


def _references_box(items: Items, numbers: dict[int, int]) -> bytes:
    found = []
    for kind, source, targets in items.references:
        kept = [numbers[target] for target in targets if target in numbers]
        if source in numbers and kept:
            found.append(box(kind, _u16(numbers[source]), _u16(len(kept)), *map(_u16, kept)))
    return full_box(b"iref", 0, 0, *found) if found else b""


def _properties_box(items: Items, numbers: dict[int, int]) -> bytes:
    known: dict[int, bytes] = {}
    for item in items.items.values():
        known.update({found.number: box(found.kind, found.content) for found in item.properties})
    places = {number: place for place, number in enumerate(known, 1)}
    given = []
    for old, item in items.items.items():
        given += [_u16(numbers[old]), bytes([len(item.properties)])]
        given += [_u16(found.essential << 15 | places[found.number]) for found in item.properties]
    associations = full_box(b"ipma", 0, 1, len(items.items).to_bytes(4, "big"), *given)
    return box(b"iprp", box(b"ipco", *known.values()), associations)


def _places_box(items: Items, numbers: dict[int, int], start: int) -> bytes:
    places = []
    for old, item in items.items.items():
        length = item.length()
        places += [_u16(numbers[old]), _u16(0), _u16(1), start.to_bytes(4, "big"), length.to_bytes(4, "big")]
        start += length
    return full_box(b"iloc", 0, 0, b"\x44\0", _u16(len(items.items)), *places)


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")
