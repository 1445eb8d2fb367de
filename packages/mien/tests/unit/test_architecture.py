"""What the pages of docs/architecture and CONTRIBUTING.md name exists, and parts and layers are in the code's order."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

from packages.mien.tests.unit.test_imports import LAYER, LAYERS
from tools.draw_diagrams import mark_of

ROOT = Path(__file__).parents[4]
PAGES = [*sorted((ROOT / "docs" / "architecture").glob("*.md")), ROOT / "CONTRIBUTING.md"]
BASES = [ROOT, *(ROOT / "packages" / place for place in ("mien/src/mien", "infsh/src/infsh", "mien/tests"))]
APP = ROOT / "packages" / "mien" / "src" / "mien" / "app.py"
_FILE = re.compile(r"`([\w/.-]+\.py)(?::([\w.]+))?`")


def found(path: str) -> Path | None:
    return next((base / path for base in BASES if (base / path).is_file()), None)


@lru_cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes and constants of a module, and what its classes define, as `Class.name`."""
    names: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.ClassDef(name=name, body=inner):
                    names.add(prefix + name)
                    visit(inner, f"{prefix}{name}.")
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    names.add(prefix + name)
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    names.add(prefix + name)

    visit(ast.parse(path.read_text()).body, "")
    return frozenset(names)


def rows(page: str, heading: str) -> list[list[str]]:
    """The first cells' names of the first table below a heading."""
    text = (ROOT / "docs" / "architecture" / page).read_text().partition(f"\n## {heading}\n")[2]
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, f"{page} has no table below {heading!r}"
    return [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table[1].splitlines()]


def test_what_the_pages_name_exists() -> None:
    named = {(page.name, *match) for page in PAGES for match in _FILE.findall(page.read_text())}
    assert len(named) > 200
    missing = []
    for page, path, name in sorted(named):
        file = found(path)
        if file is None:
            missing.append(f"{page}: there is no {path}")
        elif name and name not in names_in(file):
            missing.append(f"{page}: {path} has no {name}")
    assert not missing, "\n".join(missing)


def test_each_promise_names_a_test() -> None:
    page = (ROOT / "docs" / "architecture" / "5-promises.md").read_text()
    promises = re.findall(r"^- (.*(?:\n  .*)*)", page, re.MULTILINE)
    assert len(promises) > 30
    assert [promise for promise in promises if not re.search(r"test_\w+\.py", promise)] == []


def test_the_parts_are_in_the_order_of_their_start() -> None:
    module = ast.parse(APP.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = {node.name: ast.unparse(node.body) for node in module if isinstance(node, kinds)}
    source = functions["start"]
    for _ in functions:  # as if each stood where it is called
        source = re.sub(rf"(?<![.\w])({'|'.join(functions)})\(", lambda call: f"{functions[call[1]]}\n(", source)
    parts = [name for row in rows("1-parts.md", "The composition root") for name in row]
    places = [match.start() if (match := re.search(rf"\b{part}\b[.(,]", source)) else -1 for part in parts]
    assert [part for part, place in zip(parts, places, strict=True) if place < 0] == []
    assert places == sorted(places)


def test_the_layers_are_those_of_the_imports() -> None:
    documented = [set(row) for row in rows("1-parts.md", "Layers")]
    assert documented == [layer - {"__init__"} for layer in LAYERS if layer != {"__main__"}]


def test_the_diagram_of_the_layers_is_in_their_order() -> None:
    boxes = re.findall(r'label="([^"\\]+)\\n', (ROOT / "docs" / "architecture" / "layers.dot").read_text())
    drawn = [package for box in boxes[:-1] for package in box.split()]  # the last one stands for all layers below
    ranks = [LAYER[package] for package in drawn]
    assert ranks == sorted(ranks)
    assert set(drawn) == {package for package, rank in LAYER.items() if rank <= max(ranks)} - {"__main__"}


@pytest.mark.parametrize("name", ["layers", "image", "task"])
def test_diagrams_are_drawn_from_their_sources(name: str) -> None:
    folder = ROOT / "docs" / "architecture"
    drawn = (folder / f"{name}.svg").read_text()
    assert drawn.endswith(f"{mark_of((folder / f'{name}.dot').read_text())}\n"), "make diagrams"


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)
