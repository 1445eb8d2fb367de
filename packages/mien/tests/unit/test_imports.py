"""Imports point downwards only, as docs/architecture.md draws it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mien

SOURCE = Path(mien.__file__).parent

# Each room and what it may import. Everything may import `errors` and `settings`, which import nothing of ours.
ALLOWED = {
    "errors": set(),
    "settings": set(),
    "zoo": set(),
    "net": set(),
    "engine": {"zoo"},
    "vision": {"engine", "zoo"},
    "metrics": set(),
    "logs": set(),
    "keys": set(),
    "services": {"vision", "net", "engine", "zoo", "metrics"},
    "database": set(),
    "files": {"database", "metrics"},
    "tasks": {"database", "files", "net", "engine", "metrics"},
    "apps": {"files", "metrics"},
    "workers": {"apps", "tasks", "files", "engine", "metrics"},
    "nodes": {"services", "engine", "net", "metrics"},
    "runtime": {
        "services",
        "nodes",
        "workers",
        "tasks",
        "apps",
        "files",
        "database",
        "vision",
        "net",
        "engine",
        "zoo",
        "metrics",
    },
    "platform": {
        "services",
        "workers",
        "tasks",
        "apps",
        "files",
        "database",
        "net",
        "engine",
        "metrics",
    },
    "api": {
        "runtime",
        "platform",
        "net",
        "services",
        "nodes",
        "tasks",
        "apps",
        "files",
        "vision",
        "engine",
        "metrics",
        "keys",
    },
    "server": {"api", "runtime", "platform", "services", "nodes", "engine", "metrics", "keys", "logs"},
    "cli": {"server", "runtime", "services", "apps", "vision", "engine", "zoo", "metrics", "keys", "logs"},
    "__main__": {"cli"},
    "__init__": set(),
}
EVERYWHERE = {"errors", "settings", "__init__"}
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def room_of(module: str) -> str:
    return module.partition("/")[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
    """Rooms that a module imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "mien":
                yield from (name.name if name.name in ALLOWED else "__init__" for name in node.names)
            elif (node.module or "").startswith("mien."):
                yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("mien."))


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    room = room_of(module)
    assert room in ALLOWED, f"{room} is a new room: draw it in docs/architecture.md and add it here"
    foreign = set(imported_rooms(SOURCE / module)) - {room} - ALLOWED[room] - EVERYWHERE
    assert not foreign, f"{module} imports {', '.join(sorted(foreign))}, which {room} must not"


def test_the_picture_has_no_circles() -> None:
    placed: set[str] = set()
    while len(placed) < len(ALLOWED):
        ready = {room for room, below in ALLOWED.items() if room not in placed and below <= placed}
        assert ready, f"a circle among {set(ALLOWED) - placed}"
        placed |= ready


@pytest.mark.parametrize(("library", "room"), [("fastapi", "api"), ("starlette", "api"), ("uvicorn", "server")])
def test_the_web_stays_at_the_edge(library: str, room: str) -> None:
    users = {
        room_of(module)
        for module in MODULES
        for node in ast.walk(ast.parse((SOURCE / module).read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library)
        or (isinstance(node, ast.Import) and any(name.name.split(".")[0] == library for name in node.names))
    }
    assert users <= {room, "server"}
