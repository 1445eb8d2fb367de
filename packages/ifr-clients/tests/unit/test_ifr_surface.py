"""What the package promises to those who import it."""

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ifr_clients
from ifr_clients import IFRClient, IFRClientAsync

PACKAGE = Path(ifr_clients.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]


def parameters(function):
    return [
        (name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    ]


def test_extract_begins_with_the_parameters_of_the_original_in_its_order():
    assert parameters(IFRClient.extract)[:12] == [
        ("data", inspect.Parameter.empty),
        ("mode", "paths"),
        ("threshold", 0.6),
        ("extract_embedding", True),
        ("return_face_data", False),
        ("return_landmarks", False),
        ("embed_only", False),
        ("limit_faces", 0),
        ("min_face_size", 0),
        ("img_req_headers", None),
        ("use_msgpack", True),
        ("raw_response", True),
    ]
    assert parameters(IFRClient.server_info)[:2] == [("server", None), ("show", True)]
    assert parameters(IFRClient)[:2] == [("host", "http://localhost"), ("port", 18081)]


@pytest.mark.parametrize(
    "name", ["__init__", "extract", "extract_many", "compare", "draw", "health", "server_info", "close"]
)
def test_both_clients_have_the_same_methods(name):
    assert parameters(getattr(IFRClient, name)) == parameters(getattr(IFRClientAsync, name))
    assert getattr(IFRClient, name).__doc__


def test_the_modules_of_the_original_are_still_there():
    from ifr_clients.ifr_client import IFRClient as Blocking
    from ifr_clients.ifr_client_async import IFRClientAsync as Asynchronous

    assert (Blocking, Asynchronous) == (IFRClient, IFRClientAsync)


def test_pixels_need_neither_numpy_nor_pil_to_be_installed():
    program = (
        "import sys\n"
        "sys.modules['numpy'] = sys.modules['PIL'] = None\n"
        "import ifr_clients\n"
        "try:\n"
        "    ifr_clients.IFRClient().extract([3], mode='data')\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout.startswith("data[0] is int: mode='data' takes encoded images"), done.stderr


def test_all_that_is_exported_exists():
    assert all(hasattr(ifr_clients, name) for name in ifr_clients.__all__)


def test_the_version_is_the_projects():
    assert ifr_clients.__version__ == (PACKAGE.parents[3] / "VERSION").read_text().strip()


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_importing_changes_nothing():
    program = (
        "import logging, signal, socket, threading, warnings\n"
        "state = lambda: (list(logging.root.handlers), logging.root.level, list(warnings.filters),\n"
        "                 threading.active_count(), socket.getdefaulttimeout(), signal.getsignal(signal.SIGINT))\n"
        "import httpx2, pydantic, ormsgpack, asyncio\n"
        "before = state()\n"
        "import ifr_clients, ifr_clients.schemas, ifr_clients.common_utils\n"
        "assert state() == before, (before, state())\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def imported_by(module):
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_library_needs_its_three_dependencies_and_nothing_else():
    needed = {name for module in PACKAGE.glob("*.py") for name in imported_by(module)}
    third = needed - set(sys.stdlib_module_names) - {"ifr_clients"}

    assert third == {"httpx2", "ormsgpack", "pydantic", "pydantic_core"}
    assert {dependency.partition(">=")[0] for dependency in PROJECT["dependencies"]} == third - {"pydantic_core"}


def test_what_does_io_is_in_the_two_modules_for_it():
    io, shells = {"httpx2", "socket", "asyncio", "threading", "concurrent", "time"}, ("_sync_io", "_async_io")
    who = {module.stem: set(imported_by(module)) & io for module in PACKAGE.glob("*.py")}

    assert {name for name, used in who.items() if "httpx2" in used} == {"_environment", "_transport", *shells}
    assert {name for name, used in who.items() if used} == {"_environment", "_transport", *shells, "_base", "_progress"}
    assert who["_transport"] == who["_environment"] == {"httpx2"}
    assert who["_base"] == who["_progress"] == {"time"}  # clocks only
