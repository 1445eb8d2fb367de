"""Imports point downwards only, as docs/architecture/1-parts.md draws it."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mien

SOURCE = Path(mien.__file__).parent

# From the top down. A package may import those of lower layers, and nothing of its own layer but itself.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"server"},
    {"app", "connections"},
    {"http", "housekeeping"},
    {"builtin", "library"},
    {"faces", "tasks", "nodes"},
    {"inference"},
    {"workers"},
    {"engine", "storage"},
    {"vision"},
    {"zoo", "apps", "net"},
    {"quotas"},
    {"metrics", "logs", "keys", "places"},
    {"settings"},
    {"config"},
    {"base64", "decode", "encoded"},
    {
        "errors",
        "atomic",
        "private",
        "confined",
        "detection_size",
        "locks",
        "file_types",
        "backoff",
        "ids",
        "imports",
        "machine",
        "hosts",
        "__init__",
    },
]
HEAVY = {"numpy", "onnxruntime", "cv2", "PIL", "grpc", "fastapi", "sqlalchemy"}
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}


def package_of(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def imported(module: Path) -> tuple[tuple[str, str], ...]:
    """What a module imports, at its top or inside its functions: the library, and the package if it is ours."""
    return tuple(_imported(module))


def _imported(module: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"mien.{name.name}" for name in node.names] if node.module == "mien" else [str(node.module)]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            continue
        for name in names:
            library, _, rest = name.partition(".")
            package = rest.partition(".")[0]
            yield library, (package if package in LAYER else "__init__") if library == "mien" else ""


def test_imports_point_downwards() -> None:
    wrong = []
    for module in sorted(SOURCE.rglob("*.py")):
        package = package_of(module)
        if package == "__init__":
            continue  # names of the library for type checkers; what they stand for is imported when first used
        assert package in LAYER, f"{package} is new: draw it in docs/architecture/1-parts.md and give it a layer here"
        wrong += [
            f"{module.relative_to(SOURCE)} imports {other}"
            for library, other in imported(module)
            if library == "mien" and other != package and LAYER[other] <= LAYER[package]
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("library", "packages"),
    [
        ("fastapi", {"http", "app"}),
        ("starlette", {"http", "app", "connections"}),
        ("uvicorn", {"server", "connections"}),
    ],
)
def test_web_frameworks_stay_at_the_edge(library: str, packages: set[str]) -> None:
    users = {package_of(module) for module in SOURCE.rglob("*.py") for name, _ in imported(module) if name == library}
    assert users <= packages


@pytest.mark.parametrize(
    ("library", "ours"),
    [
        ("infsh", {"infsh", "inferencesh"}),  # under its own names too, when asked for
        ("inferencesh", {"infsh", "inferencesh"}),
        ("lumen_client", {"infsh", "inferencesh", "lumen_client"}),
        ("ifr_clients", {"ifr_clients"}),
    ],
)
def test_the_libraries_need_no_server(library: str, ours: set[str]) -> None:
    found = importlib.util.find_spec(library)
    assert found is not None
    assert found.origin is not None
    names = {name for module in Path(found.origin).parent.rglob("*.py") for name, _ in imported(module)}
    assert names & {"mien", "infsh", "inferencesh", "lumen_client", "ifr_clients"} <= ours


@pytest.mark.parametrize("library", ["inferencesh", "lumen_client", "ifr_clients"])
def test_importing_a_client_loads_nothing_heavy(library: str) -> None:
    loaded = modules_after(f"import {library}")
    assert library in loaded
    assert not loaded & {*HEAVY, "mien"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not modules_after("import mien") & HEAVY


def test_the_library_needs_no_server_and_no_network() -> None:
    loaded = modules_after("from mien import Faces")
    assert "onnxruntime" in loaded
    assert not loaded & {"fastapi", "uvicorn", "grpc", "sqlalchemy", "httpx2", "infsh", "typer"}


def modules_after(code: str) -> set[str]:
    """The libraries that a fresh Python has loaded after that."""
    code = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
