"""The server's settings: typed, documented, grouped by component, read from `MIEN_*` variables once at startup."""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import urlsplit

from platformdirs import user_cache_path, user_data_path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mien.config.fetch_headers import FetchHeaders, checked_headers
from mien.config.file import TOP, FileSource, Sections
from mien.config.names import is_service_link, unknown_variables, variable, without_service_links
from mien.config.origins import parse_origin
from mien.detection_size import DetectionSize, parse_detection_size
from mien.errors import InvalidSettings
from mien.hosts import ANY_ADDRESS

MIB = 1024 * 1024
DAY = 86400.0


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # neither HOME nor an account
        raise ValueError(f"{path} needs a home directory, and this user has none: set this setting, or HOME") from None


def _of_user(place: Callable[[str], Path], written: str) -> Path:
    """The user's own place on this platform; as `written` if there is no home, for the validator to refuse."""
    try:
        return place("mien")
    except RuntimeError:
        return Path(written)


def _split_commas(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(
                f"expected an address or a network, such as 127.0.0.1 or 10.0.0.0/8; got {value!r}"
            ) from None
    return values


def _interfaces(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.IPv4Address(value)
        except ValueError:
            raise ValueError(f"expected IPv4 addresses of this machine, such as 192.168.0.7; got {value!r}") from None
    return values


def _base_url(text: str) -> str:
    """Raises ValueError for what is no http(s) URL with a host that could be the base of others."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or not _VISIBLE.fullmatch(text) or text.endswith(("?", "#")):
        raise ValueError("expected the URL at which clients reach this server, such as https://faces.example/mien")
    return text


def _addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        host, _, port = value.removeprefix("grpcs://").removeprefix("grpc://").rpartition(":")
        if not host or "/" in host or not port.isdecimal() or not 0 < int(port) <= 65535:
            raise ValueError(f"expected host:port, or grpcs://host:port for TLS; got {value!r}")
    return values


_VISIBLE = re.compile(r"[!-~]+")


def _origin(text: str) -> str:
    """An origin as browsers send it: in lower case, without a default port. Raises ValueError."""
    if text in ("*", "null"):
        return text
    known = parse_origin(text)
    if known is None:
        raise ValueError(f"expected origins such as https://a.example:8443, `null` or `*`; got {text!r}")
    return str(known)


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_origin(value) for value in values)


def _json_object(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # its words would repeat what may be secret
        raise ValueError('expected a JSON object, such as {"NAME": "value"}') from None


def _none_word(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


PRESETS = MappingProxyType(
    {
        "minimal": {
            "mdns_scan_seconds": 60.0,
            "node_forget_seconds": 600.0,
            "node_limit": 5,
            "node_health_seconds": 0.0,
            "chunk_threshold": 256 * 1024,
            "chunk_max_bytes": 64 * 1024,
            "log_level": "warning",
            "log_format": "console",
        },
        "lightweight": {
            "mdns_scan_seconds": 45.0,
            "node_forget_seconds": 300.0,
            "node_limit": 10,
            "node_health_seconds": 30.0,
            "chunk_threshold": 512 * 1024,
            "chunk_max_bytes": 128 * 1024,
            "log_level": "info",
            "log_format": "json",
        },
        "basic": {
            "mdns_scan_seconds": 30.0,
            "node_forget_seconds": 300.0,
            "node_limit": 20,
            "node_health_seconds": 10.0,
            "chunk_threshold": MIB,
            "chunk_max_bytes": 256 * 1024,
            "log_level": "info",
            "log_format": "json",
        },
        "brave": {
            "mdns_scan_seconds": 15.0,
            "node_forget_seconds": 120.0,
            "node_limit": 50,
            "node_health_seconds": 5.0,
            "chunk_threshold": 4 * MIB,
            "chunk_max_bytes": MIB,
            "log_level": "info",
            "log_format": "json",
        },
    }
)
"""Settings by name of their preset; docs/nodes.md lists them in a table."""
DEFAULT_PORTS = (8080, 18081)
"""The ports of the original servers, so that clients of either find this one."""


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
KeepDays = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none_word)]
OptionalName = Annotated[str | None, BeforeValidator(_none_word)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
AbsolutePaths = Annotated[tuple[AbsolutePath, ...], NoDecode, BeforeValidator(_split_commas)]
Secrets = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_json_object)]


class Group(BaseModel):
    """The settings of one component, which gets these and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Locations(Group):
    """Directories."""

    data_dir: AbsolutePath = Field(
        default_factory=lambda: _of_user(user_data_path, "~/.local/share/mien"),
        validate_default=True,
        description="All server state: keys, tasks, files.",
    )
    cache_dir: AbsolutePath = Field(
        default_factory=lambda: _of_user(user_cache_path, "~/.cache/mien"),
        validate_default=True,
        description="What can be recreated: models, environments, measurements. Honours XDG_CACHE_HOME.",
    )
    manifests_dir: AbsolutePath | None = Field(
        default=None, description="Your own model manifests, one TOML file per model."
    )
    images_root: AbsolutePath | None = Field(
        default=None, description="Directory below which requests may name images by path. None: paths are rejected."
    )

    @property
    def models_dir(self) -> Path:
        """Converted, verified model files."""
        return self.cache_dir / "models"

    @property
    def environments_dir(self) -> Path:
        """Environments of apps."""
        return self.cache_dir / "environments"

    @property
    def apps_dir(self) -> Path:
        """Deployed apps."""
        return self.data_dir / "apps"

    @property
    def workers_dir(self) -> Path:
        """Run directories of worker processes."""
        return self.data_dir / "workers"


class Listening(Group):
    """Addresses, access control and shutdown."""

    host: str = Field(default="127.0.0.1", description="Address to listen on. Anything but loopback requires API keys.")
    port: int | None = Field(
        default=None, ge=0, le=65535, description="The only port to listen on. None: 8080 and 18081."
    )
    auth: bool = Field(
        default=True, description="False (`--no-auth`) lets a server without API keys listen on any address."
    )
    cors_origins: Annotated[CommaList, AfterValidator(_origins)] = Field(
        default=(), description="Origins whose web pages may call this server, e.g. `https://a.example`. `*`: any."
    )
    public_url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None,
        description="Base of file URLs if clients reach this server through a proxy. None: taken from each request.",
    )
    trusted_proxies: Annotated[CommaList, AfterValidator(_networks)] = Field(
        default=(),
        description="Addresses and networks of proxies whose `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` are "
        "believed. Empty: nobody's.",
    )
    tls_certificate: AbsolutePath | None = Field(
        default=None, description="PEM file with the certificate chain: HTTPS instead of HTTP on all ports."
    )
    tls_key: AbsolutePath | None = Field(
        default=None, description="PEM file with the certificate's private key. None: it is in MIEN_TLS_CERTIFICATE."
    )
    tls_password_file: AbsolutePath | None = Field(
        default=None, description="File whose first line is the password of an encrypted MIEN_TLS_KEY."
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of HTTP connections; beyond it, those that wait for their clients give way. "
        "None: as many as open files allow, at most 4096.",
    )
    max_url_bytes: int = Field(default=8192, ge=256, description="Maximum size of a URL in bytes; above it 414.")
    max_header_bytes: int = Field(
        default=32 * 1024, ge=1024, description="Maximum size of a request's headers in bytes; above it 431."
    )
    max_headers: int = Field(default=100, ge=16, description="Maximum number of a request's headers; above it 431.")
    header_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Seconds in which a connection must send a request's headers, and complete the TLS handshake.",
    )
    keep_alive_seconds: float = Field(
        default=75.0,
        gt=0,
        description="Seconds until a connection without a further request is closed. More than load balancers wait.",
    )
    stalled_seconds: float = Field(
        default=30.0, gt=0, description="Seconds after which a client that reads nothing of its response is cut off."
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="Seconds that running requests get to finish after SIGTERM."
    )

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports to listen on."""
        return DEFAULT_PORTS if self.port is None else (self.port,)

    @property
    def own_urls(self) -> tuple[str, ...]:
        """Base URLs of this server on its own machine, one per port."""
        host = "127.0.0.1" if self.host in ANY_ADDRESS else self.host
        return tuple(self.url(host, port) for port in self.ports)

    def url(self, host: str, port: int) -> str:
        """The base URL of an address at which this server listens."""
        scheme = "http" if self.tls_certificate is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Logging(Group):
    """Log level and format."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: console on a terminal, JSON lines elsewhere."
    )


class Limits(Group):
    """Limits of requests and of the queue; sizes are checked before memory is allocated for them."""

    max_body_bytes: int = Field(default=64 * MIB, gt=0, description="Maximum request body in bytes; above it 413.")
    max_values: int = Field(
        default=500_000,
        gt=0,
        description="Maximum number of values in a JSON or MessagePack body, texts and names counted as 2, lists and "
        "maps as 3; above it 413.",
    )
    max_images: int = Field(default=256, gt=0, description="Maximum number of images per request; above it 413.")
    max_image_bytes: int = Field(default=48 * MIB, gt=0, description="Maximum size of an encoded image in bytes.")
    max_pixels: int | None = Field(
        default=None,
        gt=0,
        description="Maximum number of pixels of an image, checked in its header. Unset: by format, from 66 million "
        "(AVIF) to 200 million (baseline JPEG); decoding takes at most 1.2 GB.",
    )
    max_faces: int = Field(
        default=1024, gt=0, description="Maximum number of faces per image; those with the best scores are kept."
    )
    request_timeout: float = Field(default=120.0, gt=0, description="Deadline of a request in seconds; after it 504.")
    queue_images: int = Field(
        default=512, gt=0, description="Maximum number of images queued or running; above it 429."
    )
    queue_bytes: int = Field(
        default=512 * MIB, gt=0, description="Maximum request bytes queued or running; above it 429."
    )


class Fetching(Group):
    """Fetching URLs in requests."""

    fetch_private: bool = Field(default=False, description="True allows URLs on private addresses in requests.")
    fetch_timeout: float = Field(default=20.0, gt=0, description="Seconds for fetching one URL, including retries.")
    fetch_tries: int = Field(default=3, ge=1, le=10, description="Attempts per URL in case of transient failures.")
    fetch_concurrency: int = Field(default=16, ge=1, description="URLs fetched concurrently.")
    fetch_headers: Annotated[
        FetchHeaders, NoDecode, BeforeValidator(checked_headers), BeforeValidator(_json_object)
    ] = Field(
        default_factory=dict,
        description="Headers (JSON object) for every fetched URL, or by origin; values are never shown by the API.",
    )


class Models(Group):
    """The models that a server loads."""

    detector: str = Field(default="yunet", description="Face detector: the name of a manifest.")
    recogniser: str = Field(default="fr_feature", description="Face recogniser: the name of a manifest.")
    recognisers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)] = Field(
        default=(), description="Recognisers, by comma, that requests may choose instead: names of manifests."
    )
    age_model: OptionalName = Field(default="age", description="Age model, for `extract_ga`. `none` turns it off.")
    gender_model: OptionalName = Field(
        default="gender", description="Gender model, for `extract_ga`. `none` turns it off."
    )
    mask_model: OptionalName = Field(default="mask", description="Mask model, for `detect_masks`. `none` turns it off.")
    pose_model: OptionalName = Field(
        default="fr_pose", description="Head pose model, for `return_pose`. `none`: only roll, from the landmarks."
    )
    landmark_model: OptionalName = Field(
        default="fr_landmark", description="Model of 68 landmarks, for `return_landmarks_68`. `none` turns it off."
    )
    image_model: OptionalName = Field(
        default="efficientnet_lite0",
        description="Image model, for `embedding` and `classification`. `none` turns it off.",
    )
    text_model: OptionalName = Field(default="minilm", description="Text model, for `embedding`. `none` turns it off.")
    clip_model: OptionalName = Field(
        default=None,
        description="CLIP or SigLIP, for `embedding` of images and texts into one space and `classification` by "
        "labels of the request. `none`: loaded only by `mien models load`.",
    )
    detection_size: Annotated[DetectionSize, BeforeValidator(parse_detection_size)] = Field(
        default="auto",
        description="Longest side, in pixels, to which images are scaled down for detection, `auto` or `full`, if a "
        "request sets none.",
    )
    rotate: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto`: also faces that lie on their side or are upside down; `off`: not. If a request sets none.",
    )
    refine: bool = Field(default=True, description="Second landmark pass on each face: better embeddings.")
    offline: bool = Field(default=False, description="True: never download models, only use the cache.")


class Execution(Group):
    """How models are executed on this machine."""

    providers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)] = Field(
        default=("cpu",), description="Execution providers in order of preference: cpu, cuda, tensorrt, coreml."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Thread budget of all models together. None: the usable cores, by affinity and CPU quota.",
    )
    lanes: int | None = Field(
        default=None, ge=1, description="Sessions per model. None: as tuned, else the thread budget."
    )
    lane_threads: int | None = Field(default=None, ge=1, description="Threads per session. None: as tuned, else 1.")
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Threads that decode and prepare images. None: the thread budget, more where batching pays off.",
    )
    max_batch: int | None = Field(
        default=None,
        ge=1,
        description="Maximum batch size per model call. None: as tuned, else 1 on a CPU, 32 on a GPU.",
    )
    batch_wait_ms: float = Field(
        default=0.0, ge=0, le=1000, description="Coalescing window: time a batch waits to fill up."
    )


class Api(Group):
    """Defaults of the APIs, and compatibility with original clients."""

    strict_metadata: bool = Field(default=False, description="True: built-in services reject unknown metadata keys.")
    status_words: Literal["success", "ok"] = Field(
        default="success",
        description="Status of images: `success` for success/error; `ok` for ok/failed, as in the original server.",
    )
    default_threshold: float = Field(default=0.6, ge=0, le=1, description="Detection threshold if a request sets none.")
    default_return_face_data: bool = Field(default=False, description="`return_face_data` if a request says nothing.")
    default_return_landmarks: bool = Field(default=False, description="`return_landmarks` if a request says nothing.")
    default_extract_embedding: bool = Field(default=True, description="`extract_embedding` if a request says nothing.")
    default_extract_ga: bool = Field(default=False, description="`extract_ga` if a request says nothing.")
    default_detect_masks: bool = Field(default=False, description="`detect_masks` if a request says nothing.")
    status_table: Literal["A", "B"] = Field(
        default="B",
        description="Task status numbers of clients that cannot be told apart: `A` up to client 0.6.0, `B` from 0.6.1.",
    )


class Apps(Group):
    """Deployed apps and their environments."""

    app_namespace: str = Field(
        default="local",
        pattern="^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$",
        description="Namespace of apps that are referenced, or deployed, without one.",
    )
    app_max_bytes: int = Field(
        default=512 * MIB, gt=0, description="Maximum total size of a deployed app's files in bytes."
    )
    app_max_files: int = Field(default=10_000, gt=0, description="Maximum number of files of a deployed app.")
    app_constraints: AbsolutePath | None = Field(
        default=None, description="A pip constraints file for the environments of all apps."
    )
    environment_keep_days: KeepDays = Field(
        default=30.0,
        description="Days after their last use until environments that no deployed version needs are removed. "
        "`none`: never.",
    )


class Workers(Group):
    """Worker processes of apps."""

    app_secrets: Secrets = Field(
        default_factory=dict,
        description="Secrets (JSON object) that an app gets as environment variables if its inf.yml names them.",
    )
    app_memory: int = Field(
        default=2048 * MIB, gt=0, description="Memory limit, in bytes, of a worker whose app sets no `ram`."
    )
    workers_memory: int | None = Field(
        default=None,
        gt=0,
        description="Memory limit, in bytes, of all workers together. None: 80 % of the machine's or container's.",
    )
    app_workers: int = Field(default=8, ge=1, description="Maximum number of worker processes.")
    app_input_dirs: AbsolutePaths = Field(
        default=(), description="Directories whose files callers may name by path as `File` inputs; with commas."
    )
    app_output_dirs: AbsolutePaths = Field(
        default=(),
        description="Directories whose files apps may return, besides their own and the temporary one; with commas.",
    )
    app_gpus: int | None = Field(
        default=None, ge=0, description="Number of GPUs available to apps. None: all GPUs of the machine."
    )
    app_idle_seconds: float = Field(
        default=300.0, ge=0, description="Idle time after which a worker is stopped, unless `min_warm` keeps it."
    )
    app_min_warm: int = Field(default=0, ge=0, description="Number of idle workers per app version that are kept warm.")
    app_start_seconds: float = Field(
        default=120.0, gt=0, description="Timeout for starting a worker and importing its app."
    )
    app_setup_seconds: float = Field(default=1800.0, gt=0, description="Timeout for an app's `setup`.")
    app_crashes: int = Field(
        default=3, ge=1, description="Consecutive crashes after which an app's workers are started with backoff only."
    )


class Tasks(Group):
    """The task queue, and webhooks."""

    task_queue: int = Field(default=10_000, ge=1, description="Maximum number of queued tasks; above it 429.")
    task_scheduled: int = Field(
        default=10_000, ge=1, description="Maximum number of tasks that wait for their `run_at`; above it 429."
    )
    task_input_bytes: int = Field(
        default=4 * MIB, gt=0, description="Maximum size of a task's input and setup as JSON, in bytes."
    )
    task_output_bytes: int = Field(
        default=16 * MIB, gt=0, description="Maximum size of a task's output as JSON, in bytes."
    )
    task_log_bytes: int = Field(default=1 * MIB, gt=0, description="Bytes of log text kept per attempt.")
    task_concurrency: int | None = Field(
        default=None, ge=1, description="Maximum number of concurrent tasks per app. None: no limit."
    )
    task_aging_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Aging threshold: seconds after which a queued task precedes tasks with a warm worker.",
    )
    task_lease: float = Field(default=30.0, ge=1, description="Lifetime of a claim in seconds, unless it is renewed.")
    task_grace: float = Field(
        default=10.0, ge=0, description="Grace period, in seconds, of a cancelled task whose app sets none."
    )
    task_grace_max: float = Field(
        default=60.0, ge=0, description="Maximum grace period, in seconds, that an app may set."
    )
    task_timeout: float | None = Field(
        default=None, gt=0, description="Timeout, in seconds, of tasks that set none. None: no limit."
    )
    task_retries: int = Field(
        default=2, ge=0, description="New attempts after a worker is lost or the server is killed."
    )
    task_keep_days: KeepDays = Field(default=7.0, description="Days until ended tasks are removed. `none`: never.")
    webhook_tries: int = Field(default=8, ge=1, description="Delivery attempts per webhook, over about two hours.")

    @property
    def keep_seconds(self) -> float | None:
        """`task_keep_days` in seconds."""
        return None if self.task_keep_days is None else self.task_keep_days * DAY


class Quotas(Group):
    """Quotas of each owner, unless `mien owners set` gives it others; above them 429 `quota_exceeded`."""

    owner_queued: int | None = Field(
        default=None, ge=0, description="Maximum number of queued tasks of one owner. None: no limit."
    )
    owner_running: int | None = Field(
        default=None, ge=1, description="Maximum number of running tasks of one owner; more wait. None: no limit."
    )
    owner_file_bytes: int | None = Field(
        default=None, ge=0, description="Maximum total size of one owner's files in bytes. None: no limit."
    )
    owner_images: int | None = Field(
        default=None, ge=0, description="Maximum number of images of one owner in progress. None: no limit."
    )
    owner_requests: int | None = Field(
        default=None, ge=1, description="Maximum number of requests per second of one owner. None: no limit."
    )


class Files(Group):
    """Uploaded files and their URLs."""

    file_max_bytes: int = Field(
        default=1024 * MIB, gt=0, lt=1 << 63, description="Maximum size of an uploaded file in bytes; above it 413."
    )
    file_keep_days: KeepDays = Field(
        default=None, description="Days after their upload until files are removed. None: never."
    )
    file_url_seconds: float = Field(default=86400.0, gt=0, description="Validity of a signed file URL in seconds.")

    @property
    def keep_seconds(self) -> float | None:
        """`file_keep_days` in seconds."""
        return None if self.file_keep_days is None else self.file_keep_days * DAY


class Nodes(Group):
    """This server's own gRPC node, and other nodes that it uses."""

    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port on which this server is a gRPC node. None: off. `--grpc` means 50051.",
    )
    grpc_host: str | None = Field(
        default=None,
        description="Address of the gRPC node. None: as MIEN_HOST. Anything but loopback requires API keys.",
    )
    grpc_requests: int = Field(
        default=64,
        ge=1,
        description="gRPC requests that run at once; up to MIEN_QUEUE_IMAGES more wait for their turn.",
    )
    grpc_tls_certificate: AbsolutePath | None = Field(
        default=None, description="PEM file with the gRPC node's certificate chain. None: no TLS."
    )
    grpc_tls_key: AbsolutePath | None = Field(
        default=None, description="PEM file with the private key of MIEN_GRPC_TLS_CERTIFICATE, without a password."
    )
    grpc_tls_client_ca: AbsolutePath | None = Field(
        default=None,
        description="PEM file with authorities: gRPC clients need a certificate of one of them (mutual TLS).",
    )
    nodes: Annotated[CommaList, AfterValidator(_addresses)] = Field(
        default=(),
        description="Nodes to send requests to: `host:port`, or `grpcs://host:port` for TLS, separated by commas.",
    )
    node_tls_ca: AbsolutePath | None = Field(
        default=None, description="PEM file with the authorities of the nodes' certificates. None: well-known ones."
    )
    node_tls_certificate: AbsolutePath | None = Field(
        default=None, description="PEM file with the certificate that nodes get that ask for one."
    )
    node_tls_key: AbsolutePath | None = Field(
        default=None, description="PEM file with the private key of MIEN_NODE_TLS_CERTIFICATE, without a password."
    )
    node_key: SecretStr | None = Field(
        default=None,
        description="API key sent to every node of MIEN_NODES; never shown, never sent to discovered nodes.",
    )
    node_limit: int = Field(default=20, ge=1, description="Maximum number of known nodes; more are not added.")
    node_connect_seconds: float = Field(
        default=5.0, gt=0, description="Timeout for reading the capabilities of a node, in seconds."
    )
    node_health_seconds: float = Field(default=30.0, ge=0, description="Seconds between health checks. 0: none.")
    node_cooldown_min: float = Field(
        default=10.0,
        gt=0,
        description="Seconds without requests for a node that failed three times in a row; doubles with each failure.",
    )
    node_cooldown_max: float = Field(default=120.0, gt=0, description="Maximum cooldown of a node in seconds.")
    prefer_remote: bool = Field(
        default=False, description="True: if both this server and a node have a service or task, the node is used."
    )
    chunk_auto: bool = Field(default=True, description="Send large payloads to nodes in chunks.")
    chunk_threshold: int = Field(
        default=MIB, ge=0, description="Largest payload, in bytes, that is sent in one message."
    )
    chunk_max_bytes: int = Field(default=256 * 1024, gt=0, le=100 * MIB, description="Chunk size in bytes.")
    mdns_browse: bool = Field(default=False, description="Discover nodes on the local network by mDNS.")
    mdns_announce: bool = Field(
        default=False, description="Announce this node on the local network by mDNS, once ready."
    )
    mdns_interfaces: Annotated[CommaList, AfterValidator(_interfaces)] = Field(
        default=(), description="Addresses of the network interfaces used for mDNS. Empty: all."
    )
    mdns_scan_seconds: float = Field(
        default=30.0, gt=0, description="Seconds between checks for nodes that disappeared."
    )
    node_forget_seconds: float = Field(
        default=300.0, gt=0, description="Seconds after which a discovered node that cannot be reached is removed."
    )


class PresetSource(PydanticBaseSettingsSource):
    """Values of the chosen preset: the source of lowest precedence."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        preset = self.current_state.get("preset")
        return dict(PRESETS.get(preset, {})) if isinstance(preset, str) else {}


RENAMED = {"task_patience": "task_aging_seconds"}
"""Settings by their former names, whose variables are still read."""


class RenamedSource(PydanticBaseSettingsSource):
    """Values of variables under former names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        said = {new: os.environ.get(f"MIEN_{old.upper()}") for old, new in RENAMED.items()}
        return {name: value for name, value in said.items() if value}


class General(Group):
    """What other settings are by default, and how strictly their names are read."""

    preset: Literal["minimal", "lightweight", "basic", "brave"] | None = Field(
        default=None, description="A profile of other settings; variables that are set explicitly take precedence."
    )
    unknown: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="What an unknown `MIEN_*` variable, or key of the configuration file, does: `refuse` ends the "
        "start, `warn` only logs.",
    )


# The fields of the last base come first: invalid values are reported in the order of docs/operations.md.
class Variables(
    Nodes,
    Files,
    Quotas,
    Tasks,
    Workers,
    Apps,
    Api,
    Execution,
    Models,
    Fetching,
    Limits,
    Logging,
    Listening,
    Locations,
    General,
    BaseSettings,
):
    """All settings in one namespace: each field is the variable `MIEN_<NAME>`; docs/operations.md lists them."""

    model_config = SettingsConfigDict(env_prefix="MIEN_", env_ignore_empty=True, title="Settings")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101 - the signature is wider than its call
        env_settings.env_vars = without_service_links(env_settings.env_vars)
        file = FileSource(settings_cls, sections())
        return init_settings, env_settings, RenamedSource(settings_cls), file, PresetSource(settings_cls)


@dataclass(frozen=True, init=False)
class Settings:
    """Settings of one server process, by component."""

    locations: Locations
    listening: Listening
    logging: Logging
    limits: Limits
    fetching: Fetching
    models: Models
    execution: Execution
    api: Api
    apps: Apps
    workers: Workers
    tasks: Tasks
    quotas: Quotas
    files: Files
    nodes: Nodes

    def __init__(self, **given: Any) -> None:
        """Read the variables and the configuration file; keyword arguments take precedence. Raises InvalidSettings,
        with every problem at once."""
        unknown = unknown_names()
        try:
            variables = Variables(**given)
        except ValidationError as error:
            raise InvalidSettings(*unknown, *_described(error, given)) from None
        if unknown and variables.unknown == "refuse":
            raise InvalidSettings(*unknown, "MIEN_UNKNOWN=warn starts nevertheless")
        for name, kind in get_type_hints(Settings).items():
            object.__setattr__(self, name, _group(kind, variables))

    @property
    def node_host(self) -> str:
        """The address of this server's gRPC node."""
        return self.nodes.grpc_host or self.listening.host


def _group(kind: type[Group], variables: Variables) -> Group:
    return kind.model_construct(**{name: getattr(variables, name) for name in kind.model_fields})


def sections() -> Sections:
    """Every setting by the section that it has in the configuration file, and by name."""
    groups: dict[str, type[Group]] = get_type_hints(Settings)
    return {TOP: General.model_fields, **{name: kind.model_fields for name, kind in groups.items()}}


def unknown_names() -> list[str]:
    """A sentence for each variable, and each key of the configuration file, that nothing reads."""
    return [
        *unknown_variables(os.environ, (*Variables.model_fields, *RENAMED)),
        *FileSource(Variables, sections()).unknown,
    ]


class Provenance:
    """Where each setting's value comes from."""

    def __init__(self, given: dict[str, Any]) -> None:
        """`given`: what was passed to Settings. Raises InvalidSettings if the configuration file cannot be read."""
        self._given = given
        set_variables = {name.upper(): value for name, value in os.environ.items() if value}
        self._variables = {name for name, value in set_variables.items() if not is_service_link(name, value)}
        self._file = FileSource(Variables, sections())
        self._sections = {name: section for section, fields in sections().items() for name in fields}

    @property
    def file(self) -> Path | None:
        """The configuration file that was read."""
        return self._file.path

    def of(self, setting: str, preset: str | None = None) -> str:
        """`option`, the variable's name, the file's path with section, `preset NAME` or `default`."""
        if setting in self._given:
            return "option"
        if (name := self._variable(setting)) is not None:
            return name
        if setting in self._file.toml_data:
            return f"{self.file} [{self._sections[setting]}]".removesuffix(" []")
        return f"preset {preset}" if preset and setting in PRESETS[preset] else "default"

    def label(self, setting: str) -> str:
        """How an error names a setting: by its variable, its place in the file, or as what was passed."""
        if setting in self._given:
            return setting
        if self._variable(setting) is None and setting in self._file.toml_data:
            return f"{self.file}: {f'[{self._sections[setting]}] '.removeprefix('[] ')}{setting}"
        return self._variable(setting) or variable(setting)

    def _variable(self, setting: str) -> str | None:
        """The variable that has said it, under the current name or a former one."""
        names = [setting, *(old for old, new in RENAMED.items() if new == setting)]
        return next((name for name in map(variable, names) if name in self._variables), None)


def _described(error: ValidationError, given: dict[str, Any]) -> Iterator[str]:
    provenance = Provenance(given)
    for item in error.errors(include_input=False):
        setting, *rest = (str(part) for part in item["loc"])
        where = ".".join([provenance.label(setting), *rest])
        yield f"{where}: {item['msg'].removeprefix('Value error, ')}"
