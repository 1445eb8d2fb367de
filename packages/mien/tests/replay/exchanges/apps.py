"""Apps: deployed, listed, rolled back, removed. They have no requirements, so their environment is made in no time."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

from ..steps import Http, Step, get

KIT = '''
import asyncio
import os
from pathlib import Path
from typing import Any

from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File


class AppSetup(BaseAppSetup):
    name: str = "kit"


class AppInput(BaseAppInput):
    do: str = "echo"
    text: str = ""
    times: int = 1
    seconds: float = 0.0
    file: File | None = None


class AppOutput(BaseAppOutput):
    text: str = ""
    count: int = 0
    file: File | None = None


class App(BaseApp):
    async def setup(self, config: AppSetup) -> None:
        self.count = 0
        print("setting up", config.name)

    async def run(self, given: AppInput) -> Any:
        self.count += 1
        if given.do == "fail":
            raise ValueError("this went wrong: " + given.text)
        if given.do == "exit":
            os._exit(3)
        if given.do == "large":
            yield AppOutput(text="x" * 60_000)
            return
        if given.do == "secret":
            yield AppOutput(text=str(len(os.environ["TOKEN"])))
            return
        if given.do == "file":
            content = Path(given.file.path).read_bytes()
            target = Path("out.bin")
            target.write_bytes(content[::-1])
            yield AppOutput(text=given.file.filename or "", count=len(content), file=File(path=str(target.resolve())))
            return
        for number in range(given.times):
            print(f"line {number + 1} of {given.text}")
            await asyncio.sleep(given.seconds)
            yield AppOutput(text=given.text * (number + 1), count=self.count)

    async def other(self, given: AppInput) -> AppOutput:
        """Does something else."""
        return AppOutput(text="other " + given.text)
'''
MANIFEST = """
name: kit
namespace: test
description: A kit of small deeds
category: tools
service: kit_service
secrets:
  - key: TOKEN
    description: something secret
variants:
  big:
    name: Big
    env: {SIZE: big}
"""
GREEDY = "name: greedy\nnamespace: test\nresources:\n  ram: 1000000000000000\n"
PLAIN = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput


class AppInput(BaseAppInput):
    text: str


class AppOutput(BaseAppOutput):
    text: str


class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(text=given.text.upper())
"""
LINES = {"Accept": "application/x-ndjson"}


def packed(files: Mapping[str, str | bytes], *, mode: int = 0o644) -> bytes:
    """A zip file, the same in every run."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content)
    return data.getvalue()


def tarred(files: dict[str, str], kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(content.encode()) if kind == tarfile.REGTYPE else 0
            entry.linkname = "" if kind == tarfile.REGTYPE else "/etc/passwd"
            archive.addfile(entry, io.BytesIO(content.encode()))
    return data.getvalue()


def deploy(name: str, body: bytes, *, query: str = "", **more: Any) -> Http:
    """`POST /apps`."""
    return Http(f"apps/deploy: {name}", "POST", f"/apps{query}", body, **more)


def steps() -> list[Step]:
    """All of them; `test/kit` and `test/greedy` stay."""
    kit = {"inf.yml": MANIFEST, "inference.py": KIT}
    older = packed({"inf.yml": "name: plain\nnamespace: test\n", "inference.py": PLAIN})
    newer = packed({"inf.yml": "name: plain\nnamespace: test\ndescription: newer\n", "inference.py": PLAIN})
    return [
        get("apps/none deployed", "/apps"),
        deploy("kit", packed(kit), capture={"app.kit": "data.version_id"}),
        deploy("the same again", packed(kit)),
        deploy("plain", older, capture={"app.plain1": "data.version_id"}),
        deploy("newer, told", newer, headers=LINES),
        deploy("in a folder, as tar, named", tarred({"x/inference.py": PLAIN}), query="?name=local/tarred"),
        deploy("greedy", packed({"inf.yml": GREEDY, "inference.py": PLAIN})),
        *_refused(),
        get("apps/list", "/apps"),
        get("apps/list, bare", "/apps", headers={"X-API-Version": "2"}),
        get("apps/show", "/apps/test/kit"),
        get("apps/show a version", "/apps/test/plain@{{app.plain1}}"),
        get("apps/show built in", "/apps/mien/faces"),
        get("apps/show unknown", "/apps/test/nothing"),
        get("apps/show unknown version", "/apps/test/plain@ffffff"),
        get("apps/show no reference", "/apps/Not%20A%20Name"),
        Http("apps/rollback", "POST", "/apps/test/plain/rollback"),
        Http("apps/rollback with nothing before", "POST", "/apps/test/plain/rollback"),
        Http("apps/rollback unknown", "POST", "/apps/test/nothing/rollback"),
        Http("apps/rollback built in", "POST", "/apps/mien/faces/rollback"),
        Http("apps/remove a version", "DELETE", "/apps/test/plain@{{app.plain1}}"),
        Http("apps/remove", "DELETE", "/apps/local/tarred"),
        Http("apps/remove again", "DELETE", "/apps/local/tarred"),
        Http("apps/remove built in", "DELETE", "/apps/mien/faces"),
        Http("apps/method", "PUT", "/apps"),
        get("apps/services with an app", "/v1/tasks"),
    ]


def _refused() -> list[Step]:
    many: dict[str, str | bytes] = {f"{number}.txt": "x" for number in range(13)}
    bodies: dict[str, bytes] = {
        "no archive": b"not an archive",
        "nothing": b"",
        "cut zip": packed({"inference.py": PLAIN})[:-10],
        "empty zip": packed({}),
        "no inference.py": packed({"inf.yml": "name: x\n"}),
        "leaves its folder": packed({"../evil.py": "x", "inference.py": PLAIN}),
        "absolute path": packed({"/etc/x": "x", "inference.py": PLAIN}),
        "link": tarred({"inference.py": "x"}, tarfile.SYMTYPE),
        "too many files": packed({**many, "inference.py": PLAIN}),
        "too large": packed({"inference.py": PLAIN, "big.bin": bytes(60_001)}),
        "body too large": bytes(60_001),
        "syntax error": packed({"inference.py": "def (", "inf.yml": "name: broken\nnamespace: test\n"}),
        "broken manifest": packed({"inference.py": PLAIN, "inf.yml": "name: [\n"}),
        "bad name": packed({"inference.py": PLAIN, "inf.yml": "name: 'Not A Name'\n"}),
    }
    return [
        *(deploy(f"refused: {name}", body) for name, body in bodies.items()),
        deploy("refused: no name", packed({"inference.py": PLAIN}), query="?name=a/b/c"),
        deploy(
            "refused, told",
            packed({"inference.py": "x = 1\n", "inf.yml": "name: broken\nnamespace: test\n"}),
            headers=LINES,
        ),
    ]
