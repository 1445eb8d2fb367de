"""Finds the files in a task's input, at any depth, and replaces them by their URLs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from inferencesh._content import Content, from_base64, is_file, of_data_uri, of_object, of_path, remote_uri
from infsh import File


@dataclass(frozen=True, slots=True)
class Rules:
    """What is treated as a file."""

    paths: bool = True
    """Strings that are paths of existing files."""
    base64: bool = False
    """Strings that look like base64."""
    only_files: bool = False
    """Only `File` objects."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Placeholder in a tree for the content with that index."""

    number: int


class Finder:
    """Collects contents and replaces them with slots."""

    def __init__(self) -> None:
        self.contents: list[Content] = []
        self._slots: dict[int, tuple[Any, Slot]] = {}  # keeping the object alive keeps its id unique

    def tree(self, value: Any, rules: Rules, name: str) -> Any:
        """A copy of `value` with slots. Raises UploadError, TypeError or ValueError, which name the place."""
        try:
            return self._tree(value, rules, name)
        except RecursionError:
            raise ValueError(f"{name} is nested too deeply, or contains itself") from None

    def _tree(self, value: Any, rules: Rules, place: str) -> Any:
        if isinstance(value, str):
            return self._text(value, rules)
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {key: self._tree(item, rules, f"{place}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._tree(item, rules, f"{place}[{number}]") for number, item in enumerate(value)]
        if isinstance(value, BaseModel):
            return {key: self._tree(item, rules, f"{place}.{key}") for key, item in value}
        return self._object(value, rules, place)

    def _text(self, text: str, rules: Rules) -> Any:
        if rules.only_files:
            return text
        if text[:5].lower() == "data:" and "," in text:
            return self._slot(text, of_data_uri(text))
        if rules.paths and is_file(text):
            return self._slot(text, of_path(Path(text)))
        if rules.base64 and (data := from_base64(text)) is not None:
            return self._slot(text, Content(data, len(data)))
        return text

    def _object(self, value: Any, rules: Rules, place: str) -> Any:
        if isinstance(value, File) and (uri := remote_uri(value)) is not None:
            return uri
        if id(value) in self._slots:
            return self._slots[id(value)][1]
        wanted = isinstance(value, File) or not rules.only_files
        found = of_object(value) if wanted else None
        if found is None:
            raise TypeError(f"{place} is a {type(value).__name__}, which JSON cannot represent")
        return self._slot(value, found)

    def _slot(self, value: Any, content: Content) -> Slot:
        self.contents.append(content)
        slot = Slot(len(self.contents) - 1)
        self._slots[id(value)] = (value, slot)
        return slot

    def close(self) -> None:
        """Remove temporary data."""
        for content in self.contents:
            content.close()


def fill(tree: Any, uris: list[str]) -> Any:
    """The tree with URLs in its slots."""
    if isinstance(tree, Slot):
        return uris[tree.number]
    if isinstance(tree, dict):
        return {key: fill(item, uris) for key, item in tree.items()}
    if isinstance(tree, list):
        return [fill(item, uris) for item in tree]
    return tree
