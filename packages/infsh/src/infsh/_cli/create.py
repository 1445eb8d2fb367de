"""`infsh init`: creates a small working app."""

from pathlib import Path

from infsh._errors import InfshError
from infsh._manifest import parse_manifest

_INF_YML = """\
name: {name}
namespace: {namespace}
description: Says hello.
category: other
resources:
  gpu: {{count: 0}}
  ram: 1GB
"""
_INFERENCE = """\
from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup


class AppSetup(BaseAppSetup):
    greeting: str = "Hello"


class AppInput(BaseAppInput):
    name: str


class AppOutput(BaseAppOutput):
    text: str


class App(BaseApp):
    async def setup(self, config: AppSetup):
        self.greeting = config.greeting

    async def run(self, app_input: AppInput) -> AppOutput:
        self.logger.info("greeting %s", app_input.name)
        return AppOutput(text=f"{self.greeting}, {app_input.name}!")

    async def unload(self):
        pass
"""
_FILES = {
    "inference.py": _INFERENCE,
    "__init__.py": "from .inference import App, AppInput, AppOutput, AppSetup\n",
    "requirements.txt": "",
    "input.json": '{"name": "world"}\n',
}


def create(name: str) -> Path:
    """Creates the folder and returns it. Raises InfshError if it exists or the name is invalid."""
    namespace, _, short = name.rpartition("/")
    parse_manifest({"name": short, "namespace": namespace or None})
    folder = Path(short)
    try:
        folder.mkdir()
        (folder / "inf.yml").write_text(_INF_YML.format(name=short, namespace=namespace or "null"))
        for file, content in _FILES.items():
            (folder / file).write_text(content)
    except FileExistsError as error:
        raise InfshError(f"{folder} already exists: choose another name") from error
    except OSError as error:
        raise InfshError(f"cannot create {folder}: {error.strerror}") from error
    return folder
