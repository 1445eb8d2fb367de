"""Answers as they are recorded: what differs from run to run is replaced, everything else is kept."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

LONG_TEXT = 4000
"""Characters from which on a text in JSON is recorded by its length and its beginning."""
MANY = 40
"""Items from which on a list is recorded by its number, its first two and its last."""
LONG = 24
"""Numbers from which on a list of floats is recorded as sums."""
DIGITS = 6
ENCODED = ("result", "result_b64")
JPEGS = ("facedata",)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d| UTC)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ID = re.compile(r"(?<![0-9A-Za-z])(?=[a-z]*[0-9])[0-9a-z]{26}(?![0-9A-Za-z])")
_HEX_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{16}(?![0-9A-Za-z])")
_SIGNATURE = re.compile(r"(expires|signature)=[^&\"\s]+")
_MILLISECONDS = re.compile(r"\d+\.\d+ ms\b")
_CURSOR = re.compile(r"(?<![\w.])\d+\.\d+\.\d+(?![\w.])")
_HASH = re.compile(r'"[0-9a-f]{64}"')
_RUN = re.compile(r"(.)\1{7,}")
_PROCESS = re.compile(r"(?<=/workers/)[0-9a-f]{12}(?=/)")
_CUT_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-z]{16,25}…")
_PROCESSING = re.compile(r"(processing_time_ms['\" ]*[=:│]['\" ]*)[\d.]+")
_SHORT_ID = re.compile(r"(short_id['\": ]+)[0-9a-z]{8}\b")
_TIMING = re.compile(r".*_ms|average_latency(_ns)?|throughput_qps|uptime.*")
_WORKER = ("worker_id", "worker")
_OPAQUE = ("revision", "cursor", "next_cursor", "short_id", "after")
"""Counts of writes, which depend on how log lines and progress were gathered, and what is made of them."""
_FLEETING_HEADERS = ("x-request-id", "retry-after", "webhook-timestamp", "webhook-signature")


class Mask:
    """Knows what to replace in the answers of one server."""

    def __init__(self, fixed: Mapping[str, str]) -> None:
        """`fixed`: text → what stands for it: URLs, folders, versions."""
        self._fixed = dict(fixed)
        self.captured: dict[str, str] = {}

    def headers(self, headers: list[tuple[str, str]], body_length: int | None) -> dict[str, Any]:
        """By lower-case name, sorted. `body_length`: what Content-Length is expected to say; None: it is recorded."""
        found: dict[str, Any] = {}
        for name, value in sorted((name.lower(), value) for name, value in headers if name.lower() != "date"):
            shown: Any = self.text(value)
            if name in _FLEETING_HEADERS:
                shown = "<there>"
            elif name == "content-length" and value == str(body_length):
                shown = "<length>"
            elif name == "etag" and _HASH.fullmatch(value):
                shown = value  # that of a file's content, which is the same in every run
            elif name in ("etag", "last-modified"):
                shown = "<there>"
            elif value.startswith("{"):
                shown = {"json": self.value(json.loads(value))}
            found[name] = [*known, shown] if (known := _listed(found.get(name))) else shown
        return found

    def body(self, body: bytes, content_type: str) -> Any:
        """A body by its media type."""
        kind = content_type.partition(";")[0].strip().lower()
        if not body:
            return None
        if kind in ("application/json", "application/problem+json") or kind.endswith("+json"):
            return {**_json_style(body), "json": self.value(json.loads(body))}
        if "msgpack" in kind:
            return {"msgpack": self.value(msgspec.msgpack.decode(body))}
        if body.startswith(b"\xff\xd8"):
            return {"jpeg": jpeg_size(body)}
        if kind == "text/plain" and b"# HELP" in body:
            return {"metrics": metric_names(body.decode())}
        if kind.startswith("text/") or "ndjson" in kind:
            return {"lines": [self.line(line) for line in body.decode().split("\n")]}
        return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}

    def line(self, line: str) -> Any:
        """One line of a text: its JSON after any `data: `, else the text."""
        prefix = "data: " if line.startswith("data: {") else ""
        rest = line.removeprefix(prefix)
        if rest.startswith(("{", "[{")):
            try:
                return {"prefix": prefix, **_json_style(rest.encode()), "json": self.value(json.loads(rest))}
            except ValueError:
                pass
        shown = _CURSOR.sub("<cursor>", self.text(line)) if line.startswith("id:") else self.text(line)
        return _RUN.sub(lambda run: f"{run[1]}×{len(run[0])}", shown)

    def value(self, value: Any, key: str = "") -> Any:
        """A JSON value. The order of keys stays."""
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(item, str(name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            if len(value) >= LONG and all(isinstance(item, float) for item in value):
                return {"floats": sums(list(value))}
            if len(value) >= MANY:
                return {
                    "items": len(value),
                    "first": [self.value(item, key) for item in value[:2]],
                    "last": self.value(value[-1], key),
                }
            return [self.value(item, key) for item in value]
        if isinstance(value, bytes):
            return {"binary": self.body(value, "")}
        if value is None or isinstance(value, bool):
            return value
        if _TIMING.fullmatch(key):
            return f"<{type(value).__name__}>"
        if isinstance(value, float):
            # What remains of a request's deadline when its task is made: milliseconds less, or more on a busy machine.
            return float(round(value)) if key == "timeout" and value >= 1 else _rounded(value)
        if key in _OPAQUE:
            return f"<{key}>"
        if key == "port":
            return "<port>"
        return self._string(value, key) if isinstance(value, str) else value

    def _string(self, value: str, key: str) -> Any:
        if key == "request_id":
            return "<request id>"
        if key in _WORKER and value != "engine":
            return "<worker>"
        if key in JPEGS:
            return {"base64 jpeg": jpeg_size(base64.b64decode(value))}
        if key in ENCODED and value:
            data = base64.b64decode(value)
            try:
                return {"base64": {**_json_style(data), "json": self.value(json.loads(data))}}
            except ValueError:
                return {"base64": self.text(data.decode("utf-8", "backslashreplace"))}
        return self.text(value) if len(value) < LONG_TEXT else {"text": len(value), "begins": self.text(value[:80])}

    def text(self, text: str) -> str:
        """Text with everything replaced that differs from run to run."""
        for value, name in sorted(self.captured.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(value, f"<{name}>")
        for value, name in sorted(self._fixed.items(), key=lambda pair: -len(pair[0])):
            # A port of this run must not be found within a time of it.
            text = (
                re.sub(rf"(?<![\d.]){value}(?!\d)", f"<{name}>", text)
                if value.isdigit()
                else text.replace(value, f"<{name}>")
            )
        text = _TIME.sub("<time>", text)
        text = _DATE.sub("<date>", text)
        text = _SIGNATURE.sub(r"\1=<\1>", text)
        text = _ID.sub("<id>", text)
        text = _HEX_ID.sub("<hex id>", text)
        text = _SHORT_ID.sub(r"\1<short id>", text)
        text = _PROCESS.sub("<process>", text)
        text = _CUT_ID.sub("<id>…", text)
        text = _PROCESSING.sub(r"\1<ms>", text)
        return _MILLISECONDS.sub("<ms>", text)


def joined_frames(mask: Mask, body: bytes, content_type: str) -> dict[str, Any]:
    """What the frames of a running task's stream add up to: statuses and log lines, each once, and the last frame."""
    frames: list[dict[str, Any]] = []
    other: set[str] = set()
    for line in body.decode().split("\n"):
        prefix = "data: " if line.startswith("data: ") else ""
        if line.startswith(("data: {", "{")):
            frames.append(json.loads(line.removeprefix(prefix)))
        elif line and not line.startswith(":"):
            other.add(re.sub(r"\d+", "<n>", line))
    last = {key: value for key, value in frames[-1].items() if key not in ("new_events", "new_logs")}
    return {
        "frames": "data: " if "event-stream" in content_type else "lines",
        "other lines": sorted(other),
        "every frame has": sorted(set.intersection(*(set(frame) for frame in frames))),
        "statuses": [event["status"] for frame in frames for event in frame["new_events"]],
        "log": [mask.text(line["content"]) for frame in frames for line in frame["new_logs"]],
        "last": mask.value(last),
    }


def sums(numbers: list[float]) -> dict[str, Any]:
    """A long list of floats in a few numbers, which change when any of it does."""
    return {
        "n": len(numbers),
        "first": [_rounded(number) for number in numbers[:4]],
        "length": _rounded(math.sqrt(sum(number * number for number in numbers))),
        "sum": _rounded(sum(numbers)),
        "weighted": _rounded(sum(number * math.sin(place) for place, number in enumerate(numbers, 1))),
    }


def jpeg_size(data: bytes) -> list[int]:
    """Width and height in pixels, by the frame header: the bytes depend on the encoder's version."""
    place = 2
    while place < len(data) - 9:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return [
                int.from_bytes(data[place + 7 : place + 9], "big"),
                int.from_bytes(data[place + 5 : place + 7], "big"),
            ]
        place += 2 + length
    raise ValueError("a JPEG without a frame header")


def metric_names(text: str) -> list[str]:
    """Every metric with its type and the names of its labels."""
    kinds = dict(line.split(" ")[2:4] for line in text.split("\n") if line.startswith("# TYPE "))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for line in text.split("\n"):
        name = line.partition("{")[0].partition(" ")[0]
        owner = next((known for known in (name, name.rpartition("_")[0]) if known in kinds), "")
        if owner and "{" in line:
            labels[owner] |= set(re.findall(r'[{,](\w+)="', line))
    return sorted(f"{name} {kind} {','.join(sorted(labels[name]))}".strip() for name, kind in kinds.items())


def _json_style(body: bytes) -> dict[str, str]:
    """How JSON is written, where values are masked and bytes cannot be compared."""
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', body)
    found = {} if not re.search(rb"\s", bare.strip()) else {"style": "spaced"}
    if rb"\u" in body:
        found["escapes"] = "ascii"
    return found


def _rounded(number: float) -> float | str:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else str(number)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
