"""Loads an app's folder: its class, its functions and their JSON schemas."""

import collections.abc
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PydanticUserError, ValidationError

from infsh._app import BaseApp
from infsh._errors import AppInvalid
from infsh._kernel import traces
from infsh._manifest import FILE_NAME, Manifest, read_manifest
from infsh._metadata import Metadata

SCHEMAS_VERSION = 1

_LIFECYCLE = {name for name in dir(BaseApp) if not name.startswith("_")} - {"run"}
_STREAMS = (
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.Generator,
    collections.abc.Iterator,
    collections.abc.Awaitable,
    collections.abc.Coroutine,
)
_UNRESOLVED = (NameError, TypeError, AttributeError, SyntaxError)


@dataclass(frozen=True, slots=True)
class Function:
    """A method that a task can call."""

    name: str
    input_type: type[BaseModel] | None
    """None: the input is passed unvalidated."""
    output_type: type[BaseModel] | None
    takes_metadata: bool
    description: str = ""

    def schemas(self) -> dict[str, Any]:
        return {
            "description": self.description,
            "input_schema": _schema(self.input_type, "validation"),
            "output_schema": _schema(self.output_type, "serialization"),
        }


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An imported app."""

    folder: Path
    app_class: type[Any]
    manifest: Manifest
    functions: dict[str, Function]
    setup_type: type[BaseModel] | None
    setup_arguments: tuple[str, ...] = field(default=())
    """The arguments of `setup`: some of `setup`, `metadata`, in order."""

    @property
    def default_function(self) -> str:
        """The function of a task that names none."""
        return self.manifest.default_function if self.manifest.default_function in self.functions else "run"

    @property
    def concurrency(self) -> int:
        """Concurrent runs."""
        declared = self.manifest.concurrency or getattr(self.app_class, "concurrency", 1)
        return declared if isinstance(declared, int) and declared >= 1 else 1

    def schemas(self) -> dict[str, Any]:
        """What `python -m infsh._kernel schemas` prints."""
        return {
            "version": SCHEMAS_VERSION,
            "default_function": self.default_function,
            "concurrency": self.concurrency,
            "setup_schema": _schema(self.setup_type, "validation") if self.setup_type else None,
            "functions": {name: function.schemas() for name, function in self.functions.items()},
        }

    def setup_value(self, given: Any) -> Any:
        """The argument `setup`: of the app's type where it has one. Raises AppInvalid."""
        if isinstance(given, str):
            try:
                given = json.loads(given) if given.strip() else None
            except ValueError as error:
                raise AppInvalid(f"the setup is not JSON: {error}") from error
        given = {} if given is None else given
        if self.setup_type is None:
            return given
        try:
            return self.setup_type.model_validate(given)
        except ValidationError as error:
            raise AppInvalid(traces.invalid("setup", error)) from error


def load_app(path: Path) -> LoadedApp:
    """Imports the app of a folder (or of one Python file) and makes its folder the current one.

    Raises AppInvalid or ManifestInvalid; and whatever the app's own code raises while it is imported.
    """
    path = path.resolve()
    folder, module_name = (path, "inference") if path.is_dir() else (path.parent, path.stem)
    if not (folder / f"{module_name}.py").is_file():
        raise AppInvalid(f"{folder} has no {module_name}.py: an app is a folder with inf.yml and inference.py")
    manifest = read_manifest(folder) if (folder / FILE_NAME).exists() else _unnamed(folder)
    os.chdir(folder)
    module = importlib.import_module(f"{_package(folder)}.{module_name}")
    app_class = find_class(module)
    loaded = LoadedApp(
        folder=folder,
        app_class=app_class,
        manifest=manifest,
        functions=_functions(app_class, module),
        setup_type=_setup_type(app_class, module),
        setup_arguments=_setup_arguments(app_class),
    )
    if manifest.default_function != "run" and manifest.default_function not in loaded.functions:
        raise AppInvalid(
            f"{FILE_NAME}: `default_function` names {manifest.default_function}, which the app does not have"
        )
    return loaded


def find_class(module: types.ModuleType) -> type[Any]:
    """The class `App`, else the only subclass of BaseApp. Raises AppInvalid."""
    named = getattr(module, "App", None)
    if isinstance(named, type) and named is not BaseApp and callable(getattr(named, "run", None)):
        return named
    values = [value for value in vars(module).values() if isinstance(value, type)]
    classes = [cls for cls in dict.fromkeys(values) if issubclass(cls, BaseApp) and cls is not BaseApp]
    own = [cls for cls in classes if cls.__module__ == module.__name__] or classes
    leaves = [cls for cls in own if not any(other is not cls and issubclass(other, cls) for other in own)]
    if len(leaves) == 1:
        return leaves[0]
    file = Path(module.__file__ or module.__name__).name
    if not leaves:
        raise AppInvalid(f"{file} has no app: write a class that derives from BaseApp and has a run method")
    names = ", ".join(cls.__name__ for cls in leaves)
    raise AppInvalid(f"{file} has several apps ({names}): name the right one App")


def _unnamed(folder: Path) -> Manifest:
    return Manifest(name="".join(c if c.isalnum() or c in "_.-" else "-" for c in folder.name).lstrip("_.-") or "app")


def _package(folder: Path) -> str:
    """Makes the folder a package, under its own name if possible, so that child processes can import it too."""
    sys.path.append(str(folder))
    name = folder.name
    if name.isidentifier() and name not in sys.modules and importlib.util.find_spec(name) is None:
        sys.path.append(str(folder.parent))
    else:
        name = next(name for n in itertools.count() if (name := f"infsh_app_{n}") not in sys.modules)
        initial = folder / "__init__.py"
        spec = importlib.util.spec_from_loader(name, None, is_package=True)
        if initial.exists():
            spec = importlib.util.spec_from_file_location(name, initial, submodule_search_locations=[str(folder)])
        assert spec is not None  # noqa: S101  # a .py file always has a loader
        spec.submodule_search_locations = [str(folder)]
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if spec.loader is not None:
            spec.loader.exec_module(module)
    return name


# --- signatures


def _functions(app_class: type[Any], module: types.ModuleType) -> dict[str, Function]:
    found = {}
    for name in ["run", *_method_names(app_class)]:
        method = getattr(app_class, name)
        if name == "run" and method is getattr(BaseApp, "run", None):
            continue
        function = _function(name, method, module)
        if function is not None:
            found[name] = function
    if not found:
        raise AppInvalid(f"{app_class.__name__} has no run method and no other method with an annotated input")
    return found


def _method_names(app_class: type[Any]) -> list[str]:
    """Public methods of the app, in the order of their definition, its own before inherited ones."""
    names: dict[str, None] = {}
    for cls in app_class.__mro__:
        if cls in {BaseApp, object}:
            continue
        for name, value in vars(cls).items():
            if inspect.isfunction(value) and not name.startswith("_") and name not in _LIFECYCLE | {"run"}:
                names.setdefault(name)
    return list(names)


def _function(name: str, method: Callable[..., Any], module: types.ModuleType) -> Function | None:
    parameters = _positional(method)
    hints = _hints(method)
    input_type = _model(hints.get(parameters[0].name)) if parameters else None
    output_type = _model(_yielded(hints.get("return")))
    if name == "run":
        input_type = input_type or _model(getattr(module, "AppInput", None))
        output_type = output_type or _model(getattr(module, "AppOutput", None))
        if not parameters:
            raise AppInvalid("run must take the input: write run(self, app_input)")
    elif input_type is None:
        return None
    description = inspect.cleandoc(method.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return Function(name, input_type, output_type, len(parameters) > 1, description)


def _setup_type(app_class: type[Any], module: types.ModuleType) -> type[BaseModel] | None:
    arguments = _setup_arguments(app_class)
    if "setup" not in arguments:
        return _model(getattr(module, "AppSetup", None))
    method = app_class.setup
    annotated = _model(_hints(method).get(_positional(method)[0].name))
    return annotated or _model(getattr(module, "AppSetup", None))


def _setup_arguments(app_class: type[Any]) -> tuple[str, ...]:
    method = getattr(app_class, "setup", None)
    parameters = _positional(method) if method is not None else []
    if not parameters:
        return ()
    if len(parameters) >= 2:
        return ("setup", "metadata")
    wants_metadata = parameters[0].name in {"metadata", "meta"} or _is_metadata(_hints(method).get(parameters[0].name))
    return ("metadata",) if wants_metadata else ("setup",)


def _is_metadata(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Metadata)


def _positional(method: Any) -> list[inspect.Parameter]:
    """The parameters after `self` that can be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(method).parameters.values() if p.kind in kinds][1:]


def _hints(method: Any) -> dict[str, Any]:
    """The annotations that can be resolved; unresolvable ones are omitted."""
    method = inspect.unwrap(method)
    try:
        return typing.get_type_hints(method)
    except _UNRESOLVED:
        return {name: _resolved(value, method) for name, value in getattr(method, "__annotations__", {}).items()}


def _resolved(annotation: Any, method: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    return getattr(sys.modules.get(method.__module__), annotation.strip("'\""), None)


def _yielded(annotation: Any) -> Any:
    if typing.get_origin(annotation) in _STREAMS:
        arguments = typing.get_args(annotation)
        last = typing.get_origin(annotation) is collections.abc.Coroutine
        return arguments[-1 if last else 0] if arguments else None
    return annotation


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _schema(model: type[BaseModel] | None, mode: typing.Literal["validation", "serialization"]) -> dict[str, Any]:
    if model is None:
        return {}
    try:
        return model.model_json_schema(mode=mode)
    except PydanticUserError as error:
        raise AppInvalid(f"{model.__name__} has no JSON schema: {error.message}") from error
