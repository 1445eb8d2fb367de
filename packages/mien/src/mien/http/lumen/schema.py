"""The JSON of this API as types: what `response`, `nodes` and `catalogue` make; requests are parsed in `request`."""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict

import msgspec
from msgspec import Meta

Time: TypeAlias = Annotated[str, Meta(description="RFC 3339.", extra_json_schema={"format": "date-time"})]
Nanoseconds: TypeAlias = Annotated[int, Meta(description="Nanoseconds.")]


class InferFields(TypedDict):
    """What a request says beside its payload, where it does not say it in its body: query, or fields of a form."""

    service: NotRequired[Annotated[str, Meta(description="A service's name; with `_stream` the answer is streamed.")]]
    task: NotRequired[Annotated[str, Meta(description="Selects a model of the service; empty: its default.")]]
    correlation_id: NotRequired[Annotated[str, Meta(description="Comes back in the answer; made if it is missing.")]]
    metadata: NotRequired[Annotated[str, Meta(description="A JSON object of strings: parameters of the task.")]]
    payload_mime: NotRequired[
        Annotated[str, Meta(description="The payload's media type; found in its bytes if missing.")]
    ]


class InferQuery(InferFields):
    """The query of `POST /v1/infer`."""

    decode: NotRequired[Annotated[str, Meta(description="`1`: the decoded result beside its base64.")]]


class InferHeaders(TypedDict):
    """Headers of `POST /v1/infer`."""

    x_correlation_id: NotRequired[str]
    x_timeout_ms: NotRequired[Annotated[str, Meta(description="Milliseconds until the deadline.")]]


_BYTES = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
_PAYLOAD = [{"type": "string"}, _BYTES, {"type": "null"}]


class InferBody(msgspec.Struct):
    """Body of `POST /v1/infer` in JSON or MessagePack. Names in any case; a list instead of it is the payload."""

    service: Annotated[str, Meta(description="A service's name; with `_stream` after it the answer is streamed.")] = ""
    task: Annotated[str, Meta(description="Selects a model of the service; empty: its default.")] = ""
    payload: Annotated[
        Any,
        Meta(
            description="Base64 of the bytes, or a list of their values; a list of these is a batch.",
            extra_json_schema={"anyOf": [*_PAYLOAD, {"type": "array", "items": {"anyOf": _PAYLOAD}}]},
        ),
    ] = None
    correlation_id: Annotated[str, Meta(description="Comes back in the answer; made if it is missing.")] = ""
    metadata: Annotated[
        dict[str, str] | None, Meta(description="Parameters of the task; `timeout_ms` sets a deadline.")
    ] = None
    meta: Annotated[dict[str, str] | None, Meta(description="The same, where there is no `metadata`.")] = None
    payload_mime: Annotated[str, Meta(description="The payload's media type; found in its bytes if missing.")] = ""


class InferData(TypedDict):
    """The whole result."""

    correlation_id: str
    is_final: bool
    result: Annotated[str, Meta(description="Base64 of the result's bytes.")]
    meta: dict[str, str]
    seq: int
    total: int
    offset: int
    result_mime: str
    result_schema: str
    result_json: NotRequired[Annotated[Any, Meta(description="The decoded result, with `?decode=1` only.")]]


class InferAnswer(TypedDict):
    """Answer of `POST /v1/infer` to a service without `_stream`."""

    success: bool
    data: InferData


class InferEventError(TypedDict):
    """Why a stream failed midway."""

    code: str
    message: str


class InferEvent(TypedDict):
    """One event of a stream. The last one is final, whatever happens."""

    correlation_id: str
    is_final: bool
    meta: dict[str, str]
    result_b64: Annotated[str, Meta(description="Base64 of this piece of the result.")]
    seq: int
    total: int
    offset: int
    result_mime: str
    result_schema: str
    error: InferEventError | None
    result_json: NotRequired[Annotated[Any, Meta(description="The decoded result, with `?decode=1` only.")]]


class Answer(TypedDict):
    """The envelope of what this API says about itself."""

    success: bool
    data: Any
    timestamp: Time


class Health(TypedDict):
    """Whether requests are served."""

    service: str
    status: Literal["healthy", "starting"]


class NodeModel(TypedDict):
    """A model of a node."""

    id: str
    name: str
    version: str
    runtime: str


class NodeAliases(TypedDict, total=False):
    """Of a task of this server; other nodes list their aliases as tasks."""

    aliases: list[str]


class NodeTask(NodeAliases):
    """A task that a node offers."""

    name: str
    input_mimes: list[str]
    output_mimes: list[str]
    limits: dict[str, str]


class NodeExtra(TypedDict, total=False):
    """What another node said beside what is known."""

    extra: dict[str, str]


class NodeCapability(NodeExtra):
    """A service of a node."""

    service_name: str
    model_ids: list[str]
    runtime: str
    max_concurrency: int
    precisions: list[str]
    tasks: list[NodeTask]
    protocol_version: str


class NodeStats(TypedDict):
    """Figures of a node, as this server counts them."""

    total_requests: int
    successful_requests: int
    failed_requests: int
    average_latency: Nanoseconds
    last_request: Time | None


class Node(TypedDict):
    """This server, or a node on another machine."""

    id: str
    name: str
    address: str
    status: Annotated[str, Meta(description="active, starting or error")]
    availability: NotRequired[str]
    compatibility: NotRequired[str]
    incompatible_reason: NotRequired[str]
    reason: NotRequired[str]
    sources: NotRequired[list[str]]
    metadata: NotRequired[dict[str, str]]
    version: str
    runtime: str
    models: list[NodeModel]
    capabilities: list[NodeCapability]
    last_seen: Time | None
    tasks: list[str]
    weight: int
    outstanding: NotRequired[int]
    stats: NotRequired[NodeStats]


class Nodes(TypedDict):
    """This server first, then the nodes behind it."""

    nodes: list[Node]


class OfferedTask(TypedDict):
    """A task with the node that offers it."""

    name: str
    aliases: list[str]
    input_mimes: list[str]
    output_mime: Annotated[list[str], Meta(description="A list, under the original's name for it.")]
    node_id: str
    node_name: str
    service_name: str
    node_address: str


class OfferedTasks(TypedDict):
    """Every task of every node, by service and all together."""

    services: dict[str, list[OfferedTask]]
    all_tasks: list[OfferedTask]
    total_nodes: int
    active_nodes: int
    total_tasks: int
    services_count: int


class TrafficCounts(TypedDict):
    """Counts of `/v1/infer` under the names of both generations of the protocol."""

    total_requests: int
    successful_requests: int
    success_requests: int
    failed_requests: int
    error_rate: float
    average_latency: Nanoseconds
    average_latency_ns: Nanoseconds
    throughput_qps: float
    last_updated: Time


class InferMetrics(TrafficCounts):
    """Counts of `/v1/infer`, and of nodes."""

    active_nodes: int
    total_nodes: int


class RestConfig(TypedDict):
    """How this server listens."""

    enabled: bool
    host: str
    port: int
    cors: bool
    timeout: Nanoseconds


class ServerConfig(TypedDict):
    """How this server listens."""

    rest: RestConfig


class DiscoveryConfig(TypedDict):
    """How nodes are found."""

    enabled: bool
    service_type: str
    domain: str
    scan_interval: Nanoseconds
    node_timeout: Nanoseconds
    max_nodes: int


class BalancerConfig(TypedDict):
    """How requests are spread over nodes."""

    strategy: str
    health_check: bool
    check_interval: Nanoseconds


class ChunkConfig(TypedDict):
    """How large payloads are sent to nodes."""

    enable_auto: bool
    threshold: int
    max_chunk_bytes: int


class LimitsConfig(TypedDict):
    """Limits of requests."""

    max_body_bytes: int
    max_image_bytes: int
    max_items: int
    max_pixels: int
    queue_items: int
    queue_bytes: int


class ModelsConfig(TypedDict):
    """How models run."""

    providers: list[str]
    offline: bool


class LoggingConfig(TypedDict):
    """How this server logs."""

    level: str
    format: str


class Config(TypedDict):
    """Limits and timeouts of this server."""

    server: ServerConfig
    discovery: DiscoveryConfig
    load_balancer: BalancerConfig
    chunk: ChunkConfig
    limits: LimitsConfig
    models: ModelsConfig
    logging: LoggingConfig
