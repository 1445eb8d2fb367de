"""Every setting, command, error code, metric and route is in the documentation."""

import re
from pathlib import Path

import pytest
import typer

import mien.errors
from mien.app import create_app
from mien.cli.main import app as commands
from mien.config.names import OTHER_NAMES
from mien.errors import MienError
from mien.metrics import Metrics
from mien.settings import RENAMED, Settings, Variables, sections

DOCS = Path(__file__).parents[4] / "docs"


@pytest.fixture(scope="module")
def words() -> set[str]:
    """Everything in the documentation that looks like a name, a command or a route."""
    text = "\n".join(path.read_text() for path in sorted(DOCS.rglob("*.md")))
    return {text} | set(re.findall(r"[A-Za-z0-9_]+", text))


@pytest.fixture(scope="module")
def text(words: set[str]) -> str:
    return max(words, key=len)


def missing(names: list[str], where: set[str]) -> list[str]:
    return sorted(name for name in names if name not in where)


def test_every_setting_is_documented(words: set[str]) -> None:
    names = [f"MIEN_{name.upper()}" for name in Variables.model_fields]
    assert missing(names, words) == []


def test_every_section_of_the_configuration_file_is_documented(text: str) -> None:
    page = text.partition("### Configuration file")[2].partition("\n## ")[0]
    assert [name for name in sections() if name and f"`{name}`" not in page] == []


def test_every_error_code_is_documented(words: set[str]) -> None:
    codes = {kind.code for kind in vars(mien.errors).values() if isinstance(kind, type) and issubclass(kind, MienError)}
    assert missing(list(codes), words) == []


def test_every_metric_is_documented(words: set[str]) -> None:
    names = []
    for family in Metrics().registry.collect():
        names.append(f"{family.name}_total" if family.type == "counter" else family.name)
    assert missing(names, words) == []


def test_every_command_is_documented(text: str) -> None:
    root = typer.main.get_command(commands)
    names = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        names += [f"mien {name} {sub}" for sub in getattr(command, "commands", {})] or [f"mien {name}"]
    assert sorted(name for name in names if name not in text) == []


def test_every_route_is_documented(text: str, tmp_path: Path) -> None:
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    assert sorted(path for path in paths if path not in text) == []


@pytest.mark.parametrize("page", ["architecture/README.md", "insightface.md", "models.md", "operations.md"])
def test_the_documented_pages_exist(page: str) -> None:
    assert (DOCS / page).exists()


def test_the_documentation_names_no_setting_that_does_not_exist(words: set[str]) -> None:
    known = {f"MIEN_{name.upper()}" for name in (*Variables.model_fields, *RENAMED)}
    known |= OTHER_NAMES
    known |= {"MIEN_RECOGNIZER", "MIEN_SERVICE_HOST"}  # examples of what is no setting
    named = {word for word in words if re.fullmatch(r"MIEN_[A-Z_]+[A-Z]", word)}
    assert sorted(named - known) == []
