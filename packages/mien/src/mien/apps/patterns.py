"""Regular expressions of apps' schemas, matched in linear time by RE2.

Python's `re` can take exponential time for 27 characters, and holds the interpreter lock meanwhile. What RE2 does not
express, or would match differently, is undecided here: the app's own validation, in its process, decides.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import re2

LONGEST_PATTERN = 512
MAX_MEMORY = 1 << 18
"""Bytes of a compiled pattern. Both limits bound how long compiling takes, which holds the interpreter lock; matching
does not."""
STEPS_PER_SECOND = 50_000_000
"""Characters × instructions of a pattern. RE2 passes several times as many, also with patterns that are slow for it."""
KNOWN = 1024
MOST_DEPTH = 64
_ASCII_CLASSES = re.compile(r"\\[wWdDsSbB]|\(\?[a-zA-Z]*i|\[\[:")
"""Classes that mean ASCII in RE2 and Unicode in other engines."""


class Undecided(Exception):
    """The server cannot say whether a value is valid; the app can."""


def matches(pattern: str, text: str, seconds: float) -> bool:
    """Whether the pattern is found in the text. Raises Undecided, also if it might take more than `seconds`."""
    compiled = compiled_pattern(pattern)
    if compiled is None or len(text) * compiled.programsize > seconds * STEPS_PER_SECOND:
        raise Undecided
    if not text.isascii() and _ASCII_CLASSES.search(pattern):
        raise Undecided
    try:
        return compiled.search(text) is not None
    except UnicodeEncodeError:  # a lone surrogate
        raise Undecided from None


@lru_cache(KNOWN)
def compiled_pattern(pattern: str) -> Any:
    """The pattern in RE2's form; None if RE2 cannot express it."""
    if len(pattern) > LONGEST_PATTERN:
        return None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError):
        return None


def undecided_patterns(schema: Any, depth: int = 0) -> Iterator[str]:
    """The patterns of a schema that RE2 cannot express."""
    if depth > MOST_DEPTH:
        return
    if isinstance(schema, dict):
        named = schema.get("patternProperties")
        given = [schema.get("pattern"), *(named if isinstance(named, dict) else ())]
        yield from (one for one in given if isinstance(one, str) and compiled_pattern(one) is None)
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from undecided_patterns(part, depth + 1)
