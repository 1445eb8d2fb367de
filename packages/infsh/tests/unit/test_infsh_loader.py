"""From a folder to an app: class, functions, signatures, schemas."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infsh import AppInvalid
from infsh._kernel.loader import load_app

RUN = "def run(self, app_input: AppInput) -> AppOutput:\n        return AppOutput(text='x')\n"


pytestmark = pytest.mark.usefixtures("restored_imports")


def loaded(app_folder, body, **rest):
    return load_app(app_folder(body, **rest))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (f"class App(BaseApp):\n    {RUN}", "App"),
        (f"class Anything(BaseApp):\n    {RUN}", "Anything"),
        (f"class Base(BaseApp):\n    {RUN}\nclass Mine(Base): pass", "Mine"),
        (f"class App:\n    {RUN}", "App"),
        (f"class Other(BaseApp):\n    {RUN}\nclass App(BaseApp):\n    {RUN}", "App"),
    ],
)
def test_the_class_is_found(body, name, app_folder):
    assert loaded(app_folder, body).app_class.__name__ == name


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x = 1", "inference.py has no app"),
        (f"class A(BaseApp):\n    {RUN}\nclass B(BaseApp):\n    {RUN}", r"several apps \(A, B\)"),
        ("class App(BaseApp): pass", "App has no run method"),
    ],
)
def test_what_is_not_an_app_is_rejected_with_the_reason(body, said, app_folder):
    with pytest.raises(AppInvalid, match=said):
        loaded(app_folder, body)


@pytest.mark.parametrize("plain_name", [True, False])
def test_relative_and_plain_imports_work(plain_name, app_folder):
    folder = app_folder(
        "from .helper import VALUE\nfrom other_helper import OTHER\n"
        f"class App(BaseApp):\n    x = VALUE + OTHER\n    {RUN}",
        helper="VALUE = 1",
        other_helper="OTHER = 2",
        __init__="from .inference import App",
    )
    if plain_name:
        folder = folder.rename(folder.with_name("plain_app_name"))
    app = load_app(folder)
    assert app.app_class.x == 3
    assert Path.cwd() == folder


@pytest.mark.parametrize(
    ("signature", "arguments"),
    [
        ("self", ()),
        ("self, metadata", ("metadata",)),
        ("self, where: Metadata", ("metadata",)),
        ("self, config", ("setup",)),
        ("self, config: AppSetup", ("setup",)),
        ("self, config, metadata", ("setup", "metadata")),
        ("self, *, x=1", ()),
    ],
)
def test_setup_is_called_by_its_parameters(signature, arguments, app_folder):
    app = loaded(
        app_folder,
        "class AppSetup(BaseAppSetup):\n    a: int = 1\n"
        f"class App(BaseApp):\n    def setup({signature}): ...\n    {RUN}",
    )
    assert app.setup_arguments == arguments
    assert app.setup_value('{"a": 5}').a == 5
    assert app.setup_value(None).a == 1
    with pytest.raises(AppInvalid, match="the setup is invalid: `a`"):
        app.setup_value({"a": "x"})
    with pytest.raises(AppInvalid, match="the setup is not JSON"):
        app.setup_value("{")


@pytest.mark.parametrize(
    ("run", "output", "metadata"),
    [
        ("def run(self, x: AppInput) -> AppOutput: ...", "AppOutput", False),
        ("def run(self, x: 'AppInput', m) -> 'AppOutput': ...", "AppOutput", True),
        ("async def run(self, x: AppInput) -> 'AsyncIterator[Other]': ...", "Other", False),
        ("async def run(self, x: AppInput, **rest) -> AsyncGenerator[Other, None]: ...", "Other", False),
        ("def run(self, x: AppInput) -> Iterator[Other]: ...", "Other", False),
        ("def run(self, x): ...", "AppOutput", False),
        ("def run(self, x: AppInput) -> 'Unknown': ...", "AppOutput", False),
    ],
)
def test_types_come_from_annotations(run, output, metadata, app_folder):
    app = loaded(
        app_folder,
        "from collections.abc import AsyncGenerator, AsyncIterator, Iterator\n"
        f"class Other(AppOutput): ...\nclass App(BaseApp):\n    {run}",
    )
    function = app.functions["run"]
    assert function.input_type.__name__ == "AppInput"
    assert function.output_type.__name__ == output
    assert function.takes_metadata is metadata


def test_concurrency_is_that_of_the_manifest_then_of_the_class(app_folder):
    body = f"class App(BaseApp):\n    concurrency = 3\n    {RUN}"
    assert loaded(app_folder, body).concurrency == 3
    assert loaded(app_folder, body, manifest="name: a\nconcurrency: 5").concurrency == 5


def test_a_default_function_must_exist(app_folder):
    with pytest.raises(AppInvalid, match="`default_function` names absent"):
        loaded(app_folder, f"class App(BaseApp):\n    {RUN}", manifest="name: a\ndefault_function: absent")


def test_a_folder_without_the_file(tmp_path):
    with pytest.raises(AppInvalid, match=r"has no inference\.py"):
        load_app(tmp_path)


def test_schemas_are_printed_alone(app_folder):
    folder = app_folder(f"print('noise')\nos.system('echo noise')\nclass App(BaseApp):\n    {RUN}")
    done = _schemas(folder)
    schemas = json.loads(done.stdout)
    assert schemas["version"] == 1
    assert schemas["setup_schema"] is None
    assert schemas["functions"]["run"]["description"] == ""
    assert list(schemas["functions"]["run"]["input_schema"]["properties"]) == ["text"]


def test_schemas_of_a_broken_app_are_a_sentence(app_folder):
    done = _schemas(app_folder("raise RuntimeError('broken')"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("the app cannot be imported: RuntimeError: broken (inference.py")


def _schemas(folder):
    command = [sys.executable, "-m", "infsh._kernel", "schemas", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
