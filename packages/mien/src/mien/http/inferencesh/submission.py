"""`POST /run`: its body becomes a submission, which is checked before a task exists."""

import re
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from mien.apps.input_schemas import SchemaKey
from mien.apps.record import AppVersion
from mien.apps.reference import AppRef, parse_ref
from mien.encoded import Encoded
from mien.engine.offload import LARGE_BODY
from mien.errors import AppUnknown, InvalidField, MienError, RequestError
from mien.http.context import context_of
from mien.http.inferencesh.context import RequestContext
from mien.http.inferencesh.rendering import EARLIEST, LATEST
from mien.net.urls import parse_url
from mien.storage.file_records import SCHEME
from mien.storage.links import file_references, needs_internalizing
from mien.tasks.builtin import BUILTIN
from mien.tasks.input_files import require_files
from mien.tasks.records import Submission, setup_key

INFRA = ("cloud", "private", "private_first")
MAX_KEY_LENGTH = 200
MAX_SECONDS = 1e9
MAX_WORKERS = 100
MAX_URL = 8192
NEW_SESSION = "new"
_VERSION = re.compile(r"[0-9a-f]{4,64}")


Instant: TypeAlias = Annotated[str | float | None, Meta(description="RFC 3339 with an offset, or seconds since 1970.")]


class RunParams(msgspec.Struct):
    """The body of `POST /run`. Other fields are ignored, as older servers do."""

    app: Annotated[str, Meta(description="`[namespace/]name[@version][:function]`")]
    input: Annotated[Any, Meta(description="As the app's input schema has it.")] = None
    setup: Annotated[Any, Meta(description="As the app's setup schema has it.")] = None
    infra: Annotated[str | None, Meta(description=f"One of {', '.join(INFRA)}; all run here.")] = None
    variant: str | None = None
    version: Annotated[str | None, Meta(description="The version's id, if `app` has none.")] = None
    function: Annotated[str | None, Meta(description="The app's default, if `app` has none.")] = None
    workers: Annotated[list[str] | None, Meta(description="Ids of the workers that may run it.")] = None
    webhook: Annotated[str | None, Meta(description="A URL that is told the end of the task.")] = None
    session: Annotated[str | None, Meta(description=f"A session's id, or `{NEW_SESSION}`.")] = None
    session_timeout: Annotated[float | None, Meta(description="Seconds without a call after which it ends.")] = None
    run_at: Instant = None
    deadline: Instant = None
    timeout: Annotated[float | None, Meta(description="Seconds that an attempt may take.")] = None
    retries: Annotated[int | None, Meta(description="New attempts after lost workers.")] = None
    priority: Annotated[int | None, Meta(description="-100..100; 0 if it is missing.")] = None
    idempotency_key: Annotated[str | None, Meta(description=f"At most {MAX_KEY_LENGTH} characters.")] = None
    metadata: dict[str, Any] | None = None
    stream: Annotated[Any, Meta(description="`true`: the answer is the task's stream, if Accept names one.")] = None


def read_params(body: dict[str, Any]) -> RunParams:
    """Raises InvalidField that names the field."""
    try:
        return msgspec.convert(body, RunParams)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").lstrip(".")
        if "missing required field" in message:
            field, message = "app", "this field is required"
        raise InvalidField(
            f"{field}: {message}" if field else message, ({"type": "type", "loc": field.split("."), "msg": message},)
        ) from None


class _App:
    """The app of a submission, deployed or built in."""

    def __init__(self, name: str, version: AppVersion | None) -> None:
        self.name = name
        self.version = version
        self.id = version.version if version else ""
        self.functions: dict[str, dict[str, Any]] = (
            {name: function.input_schema for name, function in version.functions.items()}
            if version
            else {"run": BUILTIN[name].input_schema}
        )
        self.default = version.default_function if version else "run"
        self.setup_schema = version.setup_schema if version else None

    def has_variant(self, key: str) -> bool:
        return key == "default" if self.version is None else self.version.manifest.variant(key) is not None

    @property
    def variants(self) -> tuple[str, ...]:
        return ("default",) if self.version is None else self.version.variants


async def read_submission(params: RunParams, ctx: RequestContext) -> Submission:
    """The submission. Raises AppUnknown, RequestError, InvalidField and session errors."""
    app, named = _app(params, ctx)
    function = _function(params, named, app)
    session = params.session
    known = None
    if session and session != NEW_SESSION:
        known = ctx.parts.sessions.check(session, ctx.reach)
    variant = params.variant or (known.variant if known and known.app == app.name else "default")
    if not app.has_variant(variant):
        raise RequestError(f"variant: {app.name} has no variant {variant[:60]!r}; it has {', '.join(app.variants)}")
    given, encoded = await _value(params.input, "input", ctx)
    setup, encoded_setup = await _value(params.setup, "setup", ctx)
    key, schema = (app.name, app.id, f"{function}()"), app.functions[function]
    await _check(ctx, encoded.size, key, schema, {} if given is None else given, "input")
    if setup is not None:
        await _check(ctx, encoded_setup.size, (app.name, app.id, "setup"), app.setup_schema, setup, "setup")
    submission = Submission(
        app=app.name,
        app_version=app.id,
        variant=variant,
        function=function,
        infra=_infra(params.infra),
        workers=_workers(params.workers or []),
        input=encoded,
        setup=setup,
        webhook=_webhook(params.webhook),
        session_timeout=_seconds("session_timeout", params.session_timeout),
        owner=ctx.owner,
        priority=_range("priority", params.priority or 0, -100, 100),
        idempotency_key=_key(params, ctx),
        deadline=read_time("deadline", params.deadline),
        timeout=_seconds("timeout", params.timeout),
        run_at=read_time("run_at", params.run_at),
        retries=None if params.retries is None else _range("retries", params.retries, 0, 100),
        metadata=params.metadata or {},
    )
    return submission if not session else _in_session(submission, session, params, ctx)


def _in_session(submission: Submission, session: str, params: RunParams, ctx: RequestContext) -> Submission:
    if submission.app_version == "":
        raise RequestError(f"session: {submission.app} is built in and keeps no state")
    sessions, parts = ctx.parts.sessions, ctx.parts
    if session == NEW_SESSION:
        known = sessions.open(
            app=submission.app,
            app_version=submission.app_version,
            variant=submission.variant,
            setup_key=setup_key(submission.setup),
            owner=submission.owner,
            timeout=submission.session_timeout or parts.settings.workers.app_idle_seconds,
            key=submission.idempotency_key,
        )
        known.setup = submission.setup
    else:
        known = sessions.join(
            session,
            app=submission.app,
            variant=params.variant,
            setup_key=None if params.setup is None else setup_key(submission.setup),
            owner=ctx.reach,
        )
    known.calls += 1
    return msgspec.structs.replace(
        submission, session_id=known.id, app_version=known.app_version, setup=known.setup, session_timeout=known.timeout
    )


def _app(params: RunParams, ctx: RequestContext) -> tuple[_App, str | None]:
    """The app and the function that its reference names."""
    ref = parse_ref(params.app.strip(), ctx.parts.settings.apps.app_namespace)
    if ref.version is None and params.version and params.version != "latest":
        if not _VERSION.fullmatch(params.version):
            raise AppUnknown(f"version: {params.version[:80]!r} is not a version id of {ref.app}")
        ref = AppRef(ref.namespace, ref.name, params.version, ref.function)
    if ref.app in BUILTIN and ref.version is None:
        return _App(ref.app, None), ref.function
    deployed = ctx.parts.apps.resolve(AppRef(ref.namespace, ref.name, ref.version))
    return _App(deployed.version.app, deployed.version), ref.function


def _function(params: RunParams, named: str | None, app: _App) -> str:
    function = named or params.function or app.default
    if function not in app.functions:
        if function == "run":
            return app.default
        raise RequestError(f"function: {app.name} has no function {function[:60]!r}; it has {', '.join(app.functions)}")
    return function


async def _value(value: Any, name: str, ctx: RequestContext) -> tuple[Any, Encoded]:
    """The value and its JSON text, with files of this server by their internal names. Raises InvalidField without one.

    It is encoded first: most texts contain no file, so that most values need not be walked and copied.
    """
    links, encoded, run = ctx.parts.links, Encoded.of(value), context_of(ctx.request).bodies.offload.run
    if needs_internalizing(encoded.text):
        value = await run(encoded.size, links.internalize, value, ctx.base)
        encoded = Encoded.of(value)
    if SCHEME in encoded.text:
        references = await run(encoded.size, file_references, value)
        await require_files(ctx.parts.files, references, name, ctx.owner)
    return value, encoded


async def _check(
    ctx: RequestContext, size: int, key: SchemaKey, schema: dict[str, Any] | None, value: Any, name: str
) -> None:
    """Raise InvalidField if the value violates the schema. What takes long does so in a thread: large values, and
    schemas that demand much of small ones."""
    checks, offload = ctx.parts.checks, context_of(ctx.request).bodies.offload
    if size > LARGE_BODY or not checks.check_quickly(key, schema, value, name):
        await offload.run(max(size, LARGE_BODY + 1), checks.check, key, schema, value, name)


def _workers(names: list[str]) -> tuple[str, ...]:
    if len(names) > MAX_WORKERS or any(len(name) > MAX_KEY_LENGTH for name in names):
        raise InvalidField(f"workers: expected at most {MAX_WORKERS} names of at most {MAX_KEY_LENGTH} characters")
    return tuple(names)


def _infra(infra: str | None) -> str:
    if infra and infra not in INFRA:
        raise InvalidField(f"infra: expected one of {', '.join(INFRA)}; got {infra[:40]!r}")
    return infra or "cloud"


def _webhook(url: str | None) -> str | None:
    if not url:
        return None
    if len(url) > MAX_URL:
        raise InvalidField(f"webhook: expected a URL of at most {MAX_URL} characters; got {len(url)}")
    try:
        parse_url(url)
    except MienError as error:
        raise InvalidField(f"webhook: {error.message}") from None
    return url


def _key(params: RunParams, ctx: RequestContext) -> str | None:
    header = ctx.request.headers.get("idempotency-key")
    if header and params.idempotency_key and header != params.idempotency_key:
        raise RequestError("idempotency_key: the body and the Idempotency-Key header differ")
    key = params.idempotency_key or header
    if key and len(key) > MAX_KEY_LENGTH:
        raise InvalidField(f"idempotency_key: at most {MAX_KEY_LENGTH} characters; got {len(key)}")
    return key or None


def _range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidField(f"{name}: expected a number in {low}..{high}; got {_shown(value)}")
    return value


def _seconds(name: str, value: float | None) -> float | None:
    if value is not None and not 0 < value <= MAX_SECONDS:
        raise InvalidField(f"{name}: expected more than 0 and at most {MAX_SECONDS:.0f} seconds; got {_shown(value)}")
    return value


def read_time(name: str, value: str | float | None) -> float | None:
    """Seconds since 1970 from a number or RFC 3339: a time that `rendering.rfc3339` can show.

    Raises InvalidField.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return _time_of_text(name, value)
    if isinstance(value, bool) or not 0 <= value <= LATEST:
        raise InvalidField(f"{name}: expected seconds since 1970, at most {LATEST:.0f}; got {_shown(value)}")
    return float(value)


def _time_of_text(name: str, value: str) -> float:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidField(f"{name}: expected a time such as 2030-01-31T12:00:00Z; got {value[:40]!r}")
    seconds = at.timestamp()
    if not EARLIEST <= seconds <= LATEST:  # its offset can move it out of the years that dates have
        raise InvalidField(f"{name}: expected a time in the years 1 to 9999 of UTC; got {value[:40]!r}")
    return seconds


def _shown(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]
