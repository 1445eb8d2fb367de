"""Recorded answers as the JSON that they were made from, with any value of the same type where one was replaced."""

from collections.abc import Iterator
from typing import Any

REPLACED = {"<float>": 0.5, "<int>": 1, "<str>": "", "<NoneType>": None, "<port>": 8080}
TEXTS = ({"base64 jpeg"}, {"base64"}, {"binary"}, {"text", "begins"})


def value(recorded: Any) -> Any:
    """What `Mask.value` was given, as far as its types go."""
    if isinstance(recorded, str):
        return REPLACED.get(recorded, recorded)
    if isinstance(recorded, list):
        return [value(item) for item in recorded]
    if not isinstance(recorded, dict):
        return recorded
    if set(recorded) in TEXTS:
        return "text"
    if set(recorded) == {"floats"}:
        return recorded["floats"]["first"]
    if set(recorded) == {"items", "first", "last"}:
        return value([*recorded["first"], recorded["last"]])
    return {name: value(item) for name, item in recorded.items()}


def objects(body: Any) -> Iterator[Any]:
    """The JSON and MessagePack values of a recorded body: one, or one for each line of a stream that has one."""
    if not isinstance(body, dict):
        return
    if "frames" in body:
        yield value({**body["last"], "new_events": [], "new_logs": []})
    for name in ("json", "msgpack"):
        if name in body:
            yield value(body[name])
    for line in body.get("lines", ()):
        if isinstance(line, dict):
            yield value(line["json"])
