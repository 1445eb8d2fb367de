"""A user without a home directory, as in many containers: commands and packages work, or say what to set."""

import subprocess
import sys
from pathlib import Path

import pytest

# No HOME and no account: what `docker run --user 12345` gives.
HOMELESS = """
import pwd, sys
def no_account(uid): raise KeyError(uid)
pwd.getpwuid = no_account
"""
COMMAND = HOMELESS + "sys.argv[0] = 'mien'\nfrom mien.cli.main import run\nrun()"


def python(script: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", [("serve",), ("keys", "list"), ("config", "show")])
def test_a_command_says_which_variables_to_set(command: tuple[str, ...]) -> None:
    done = python(COMMAND, *command)
    assert done.returncode == 1
    for variable in ("MIEN_DATA_DIR", "MIEN_CACHE_DIR"):
        assert f"error (settings): {variable}: ~/." in done.stderr
    assert "this user has none: set this setting, or HOME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [(("models", "list"), ""), (("apps", "list"), "no apps are deployed here; `mien apps deploy PATH` deploys one\n")],
)
def test_a_command_works_with_places_of_its_own(command: tuple[str, ...], said: str, tmp_path: Path) -> None:
    places = {"MIEN_DATA_DIR": str(tmp_path / "data"), "MIEN_CACHE_DIR": str(tmp_path / "cache")}
    done = python(COMMAND, *command, **places)
    assert (done.returncode, done.stderr) == (0, said)


def test_a_path_below_the_home_is_told() -> None:
    done = python(COMMAND, "run", "a/b", "--file", "x=~/photo.jpg")
    assert (done.returncode, done.stderr.strip()) == (1, "error (bad_request): --file x=~/photo.jpg: no such file")


def test_apps_and_clients_say_what_to_set() -> None:
    script = """
import infsh, inferencesh, ifr_clients
inferencesh.Inference(api_key="x").close()
for code in ("infsh.StorageDir.CACHE.path", "infsh.File('https://example.invalid/a').path"):
    try:
        eval(code)
    except infsh.FileUnavailable as error:
        print(error)
"""
    done = python(HOMELESS + script)
    wanted = "this user has no home directory: set INFSH_CACHE_DIR to an absolute path, or set HOME"
    assert (done.stderr, done.stdout.splitlines()) == ("", [wanted, wanted])
