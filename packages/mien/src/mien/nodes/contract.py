"""The names that the protocol fixes, and the transport options of both ends."""

PACKAGE = "home_native.v1"
SERVICE = f"{PACKAGE}.Inference"
INFER = f"/{SERVICE}/Infer"
GET_CAPABILITIES = f"/{SERVICE}/GetCapabilities"
STREAM_CAPABILITIES = f"/{SERVICE}/StreamCapabilities"
HEALTH = f"/{SERVICE}/Health"

PROTOCOL_VERSION = "1.0"
STREAM_SUFFIX = "_stream"
"""`TASK_stream` is TASK answered in parts as they are ready; plain TASK is answered with its whole result only."""
SERVICE_KEY = "service"
"""Key of a request's meta that names one of several services with the same task."""
SOURCE_KEY = "mien"
"""Key of a capability's `extra` by which Mien nodes recognise each other; its value is the version."""

ENVELOPE_BYTES = 1024 * 1024
"""Room for everything in a message beside its payload."""
SMALL_BYTES = 4096
"""Largest request of every call but INFER: they are answered without a key."""
RESULT_CHUNK_BYTES = 1024 * 1024
"""Largest `result` of one message: Go clients refuse messages over 4 MiB."""

Options = list[tuple[str, int | str]]


def server_options(max_bytes: int) -> Options:
    """Tolerates a client that pings every 10 s during a silent request: gRPC would end it with `too_many_pings`."""
    return [
        ("grpc.max_receive_message_length", max_bytes + ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.max_concurrent_streams", 1024),
        ("grpc.server_handshake_timeout_ms", 20_000),  # for TLS and HTTP/2; the default is 120 s
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # two servers on one port would share its callers at random
    ]


def client_options(max_bytes: int, *, pings: bool) -> Options:
    """`pings`: detect a dead machine within seconds. Only for nodes that are known to tolerate them."""
    return [
        ("grpc.max_receive_message_length", max_bytes + ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 4000),
        ("grpc.use_local_subchannel_pool", 1),
        *([("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)] if pings else []),
    ]
