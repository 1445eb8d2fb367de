"""Bodies that are made to cost a server far more than their sender. `size` is about that of the body, in bytes."""

import gzip
from collections.abc import Callable, Iterator
from types import MappingProxyType

JSON = "application/json"
MSGPACK = "application/msgpack"
FORM = "multipart/form-data; boundary=b"
Body = tuple[str, bytes, dict[str, str]]
"""Media type, bytes, further headers."""


def _repeated(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


def _json(before: bytes, unit: bytes, after: bytes) -> Callable[[int], Body]:
    return lambda size: (JSON, before + _repeated(unit, size) + after, {})


def _msgpack(unit: bytes, values: int, after: bytes = b"") -> Callable[[int], Body]:
    """`{"images": {"data": [unit, ...]}}`."""

    def body(size: int) -> Body:
        count = size // len(unit) * values
        head = b"\x81\xa6images\x81\xa4data\xdd" + count.to_bytes(4, "big")
        return MSGPACK, head + _repeated(unit, size) + after, {}

    return body


def _form(unit: bytes) -> Callable[[int], Body]:
    return lambda size: (FORM, _repeated(unit, size) + b"--b--\r\n", {})


def _bomb(content: Callable[[int], Body]) -> Callable[[int], Body]:
    """The content in gzip: about a thousandth of `size`."""

    def body(size: int) -> Body:
        kind, data, _ = content(size)
        return kind, gzip.compress(data, 1, mtime=0), {"Content-Encoding": "gzip"}

    return body


_DATA = b'{"images":{"data":['
_PART = b'--b\r\nContent-Disposition: form-data; name="payload"; filename="x"\r\n\r\nx\r\n'
_FIELD = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n'
_HEADER = b'--b\r\nContent-Disposition: form-data; name="payload"; filename="x"\r\n'
KINDS: MappingProxyType[str, Callable[[int], Body]] = MappingProxyType(
    {
        "JSON numbers": _json(_DATA, b"1,", b"1]}}"),
        "JSON lists": _json(_DATA, b"[],", b"1]}}"),
        "JSON texts": _json(_DATA, b'"",', b"1]}}"),
        "JSON names": _json(b"{", b'"a":1,', b'"b":1}'),
        "JSON nested": _json(b"", b"[", b""),
        "JSON digits": _json(b'{"threshold":', b"9", b"}"),
        "JSON escapes": _json(_DATA + b'"', b'\\"', b'"]}}'),
        "JSON backslashes": _json(_DATA + b'"', b"\\\\", b'"]}}'),
        "JSON surrogates": _json(_DATA + b'"', b"\\ud83d\\ude00", b'"]}}'),
        "JSON half surrogates": _json(_DATA + b'"', b"\\ud83d", b'"]}}'),
        "JSON wide text": _json(_DATA + b'"\xf0\x9f\x98\x80', b"x", b'"]}}'),
        "JSON base64": _json(_DATA + b'"', b"QUJD", b'"]}}'),
        "JSON base64 of spaces": _json(_DATA + b'"', b"    ", b'"]}}'),
        "JSON spaces": _json(b"", b" ", b"{}"),
        "JSON unfinished": _json(_DATA + b'"', b"x", b""),
        "not UTF-8": _json(_DATA + b'"', b"\x80", b'"]}}'),
        "MessagePack lists": _msgpack(b"\x90", 1),
        "MessagePack nested": _msgpack(b"\x91", 1, b"\xc0"),
        "MessagePack mixed": _msgpack(b"\x90\x01\xca1234\xa1x", 4),
        "MessagePack floats": _msgpack(b"\xcb12345678", 1),
        "MessagePack empty texts": _msgpack(b"\xa0", 1),
        "MessagePack lying": lambda size: (MSGPACK, b"\xdd\xff\xff\xff\xff" + bytes(size), {}),
        "form parts": _form(_PART),
        "form fields": _form(_FIELD),
        "form headers": lambda size: (FORM, _HEADER + _repeated(b"X: y\r\n", size), {}),
        "form one header": lambda size: (FORM, _HEADER + b"X: " + _repeated(b"y", size), {}),
        "form near boundaries": lambda size: (FORM, _HEADER + b"\r\n" + _repeated(b"\r\n--", size), {}),
        "form carriage returns": lambda size: (FORM, _HEADER + b"\r\n" + _repeated(b"\r", size), {}),
        "form preamble": lambda size: (FORM, _repeated(b"x\r\n", size) + _PART + b"--b--\r\n", {}),
        "urlencoded": lambda size: ("application/x-www-form-urlencoded", _repeated(b"a=1&", size), {}),
        "gzip of zeros": _bomb(lambda size: (JSON, bytes(size), {})),
        "gzip of lists": _bomb(_json(_DATA, b"[],", b"1]}}")),
        "gzip beyond the limit": _bomb(lambda size: (JSON, bytes(4 * size), {})),
    }
)
"""By name: the body of about that many bytes."""
PATHS = (
    "/extract",
    "/compare",
    "/draw_detections",
    "/multipart/extract",
    "/v1/infer?service=embedding",
    "/run",
    "/apps/run",
    "/tasks/list",
    "/files",
)
"""Every route that reads a body into memory, or a form."""


def attacks(size: int) -> Iterator[tuple[str, str, Body]]:
    """Every kind of body with each path that reads its type."""
    for name, make in KINDS.items():
        body = make(size)
        for path in PATHS:
            if body[0] != FORM or path in ("/multipart/extract", "/v1/infer?service=embedding", "/files"):
                yield name, path, body
