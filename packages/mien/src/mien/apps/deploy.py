"""Deploying: turns a folder into an immutable version, builds its environment and extracts its schemas."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec

from mien.apps.environment import Environment, EnvironmentSpec
from mien.apps.environments import Environments
from mien.apps.package import AppPackage, PackageLimits, copy_package, read_package
from mien.apps.patterns import undecided_patterns
from mien.apps.process import GuardedProcess, ProcessLimits, clean_environment
from mien.apps.record import AppVersion, Deployed, FunctionSchema
from mien.apps.reference import AppRef, is_name, parse_ref
from mien.apps.registry import CONTENT, AppRegistry
from mien.errors import AppInvalid
from mien.settings import Apps, Workers

MOST_LINES = 20
Log = Callable[[str], None]
ERROR_CHARS = 4000


class _Schemas(msgspec.Struct):
    """The kernel's description of an app."""

    functions: dict[str, FunctionSchema]
    default_function: str = "run"
    concurrency: int = 1
    setup_schema: dict[str, object] | None = None


class Deployer:
    """Deploys apps to a registry. Runs code of the app (when building and importing it), so it is for admins only."""

    def __init__(self, apps: Apps, workers: Workers, registry: AppRegistry, environments: Environments) -> None:
        self._apps = apps
        self._workers = workers
        self._registry = registry
        self._environments = environments

    async def deploy(self, folder: Path, name: str | None = None, log: Log = lambda line: None) -> Deployed:
        """Deploy the app in `folder` as `name` (`namespace/name`), or under the name in its inf.yml.

        The same files always make the same version; deploying it again makes it the latest. Raises AppInvalid,
        EnvironmentFailed.
        """
        limits = PackageLimits(self._apps.app_max_bytes, self._apps.app_max_files)
        package = await asyncio.to_thread(read_package, folder, limits)
        ref = self._name(package, name)
        if package.packages:
            log(f"packages.txt is not installed; this machine must provide: {', '.join(package.packages)}")
        with self._registry.staging() as staged:
            version = await asyncio.to_thread(copy_package, package, staged / CONTENT)
            spec = EnvironmentSpec(package.requirements, package.manifest.python, staged / CONTENT, version)
            environment = await self._environments.ensure(spec, log)
            schemas = await self._schemas(environment, staged)
            for line in await asyncio.to_thread(_left_to_the_app, schemas):
                log(line)
            record = AppVersion(
                namespace=ref.namespace,
                name=ref.name,
                version=version,
                created=datetime.now(UTC),
                manifest=package.manifest,
                functions=schemas.functions,
                default_function=schemas.default_function,
                concurrency=schemas.concurrency,
                setup_schema=schemas.setup_schema,
                requirements=package.requirements,
                packages=package.packages,
                files=len(package.files),
                size=package.size,
            )
            return await asyncio.to_thread(self._registry.publish, staged, record)

    def _name(self, package: AppPackage, name: str | None) -> AppRef:
        namespace = package.manifest.namespace or self._apps.app_namespace
        given = name or package.manifest.name or package.folder.resolve().name.lower()
        if "/" not in given and not is_name(given):
            raise AppInvalid(f"{given!r} is not a valid app name; set one with --name, or as `name` in inf.yml")
        ref = parse_ref(given, namespace)
        if ref.version or ref.function:
            raise AppInvalid(f"expected namespace/name, without a version or function; got {given}")
        return ref

    async def _schemas(self, environment: Environment, staged: Path) -> _Schemas:
        """Import the app in its own environment and get its schemas."""
        home = staged / "home"
        (home / "tmp").mkdir(parents=True)
        process = await GuardedProcess.start(
            [str(environment.python), "-m", "infsh._kernel", "schemas", str(staged / CONTENT)],
            environment=clean_environment(home, environment.path, {}),
            folder=staged / CONTENT,
            limits=ProcessLimits(self._workers.app_memory),
        )
        try:
            async with asyncio.timeout(self._workers.app_start_seconds):
                answer, said = await asyncio.gather(process.stdout.read(), process.stderr.read())
                ended = await process.wait()
        except TimeoutError:
            seconds = self._workers.app_start_seconds
            raise AppInvalid(f"the app did not finish its import within {seconds:g} s") from None
        finally:
            process.kill()
            await process.wait()
        if not ended.ok:
            words = said.decode(errors="replace").replace(f"{staged / CONTENT}/", "").strip()[-ERROR_CHARS:]
            raise AppInvalid(words or f"the app's import {ended.describe()}")
        return msgspec.json.decode(answer, type=_Schemas)


def _left_to_the_app(schemas: _Schemas) -> list[str]:
    """What the server will not check before it accepts a task."""
    inputs = [function.input_schema for function in schemas.functions.values()]
    patterns = dict.fromkeys(undecided_patterns([*inputs, schemas.setup_schema]))
    return [
        f"the pattern {pattern[:200]!r} is not one that RE2 can match (lookaround, backreferences): values are checked "
        "against it by the app only, when the task runs"
        for pattern in islice(patterns, MOST_LINES)
    ]
