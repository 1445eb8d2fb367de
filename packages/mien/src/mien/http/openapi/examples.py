"""Requests and their answers as a real server gave them: a test sends them again, and records them."""

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def all_examples() -> dict[str, Any]:
    """By operation id: `body`, `status` and `answer`."""
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("examples.json").read_text())
    return found


def add_example(operation: dict[str, Any]) -> None:
    """Put the operation's example, if there is one, into its JSON body and the response of that status."""
    example = all_examples().get(operation["operationId"])
    if example is None:
        return
    if example["body"] is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
    operation["responses"][str(example["status"])]["content"]["application/json"] |= {"example": example["answer"]}
