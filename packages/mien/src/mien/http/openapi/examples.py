"""Requests and their answers as a real server gave them: a test sends them again, and records them."""

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def all_examples() -> dict[str, Any]:
    """By operation id: `sent` and `received`, each with its `type` and `example`; `sent` is None without a body. Bytes
    have no example. `status`: of the response."""
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("examples.json").read_text())
    return found


def add_example(operation: dict[str, Any]) -> None:
    """Put the operation's example, if there is one, into its body and the response of that status."""
    example = all_examples().get(operation["operationId"])
    if example is None:
        return
    if example["sent"] is not None:
        _show(operation["requestBody"], example["sent"])
    _show(operation["responses"][str(example["status"])], example["received"])


def _show(body: dict[str, Any], message: dict[str, Any]) -> None:
    if "example" in message:
        content = body["content"]
        content.get(message["type"], content.get("*/*"))["example"] = message["example"]
