"""Which service a request means, and what it is asked."""

from dataclasses import dataclass

from mien.errors import InvalidField, NotFound
from mien.http.lumen.envelope import Envelope
from mien.inference.contract import InferRequest, Item, Service
from mien.inference.registry import ServiceRegistry
from mien.inference.sniff import media_type

STREAM_SUFFIX = "_stream"
TIMEOUT_KEY = "timeout_ms"
SERVICE_KEY = "service"
TIMEOUT_HEADER = "x-timeout-ms"
MS_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Route:
    """A service and the question to it."""

    service: Service
    request: InferRequest
    stream: bool
    timeout_ms: str
    """As the metadata says it; empty where it does not."""


def route(envelope: Envelope, registry: ServiceRegistry) -> Route:
    """The service by the envelope's `service`, else by its metadata's, else by its task.

    Raises NotFound that lists what exists, InvalidField.
    """
    metadata = dict(envelope.metadata or {})
    timeout_ms = metadata.pop(TIMEOUT_KEY, "")
    asked = envelope.service.strip().lower()
    if not asked:  # as later versions of the protocol say it
        asked = metadata.pop(SERVICE_KEY, "").strip().lower()
    name = asked.removesuffix(STREAM_SUFFIX)
    task = envelope.task.strip()
    service = _service(name, task, registry)
    items = tuple(Item(data, media_type(data, envelope.payload_mime)) for data in envelope.payloads)
    request = InferRequest(items, task, metadata, envelope.correlation_id)
    return Route(service, request, name != asked, timeout_ms)


def _service(name: str, task: str, registry: ServiceRegistry) -> Service:
    if not name:
        if not task:
            listed = ", ".join(service.name for service in registry.services()) or "none"
            raise InvalidField(f"service: expected the name of a service; there are: {listed}")
        return registry.for_task(task)[0]
    service = registry.resolve(name)
    try:
        registry.task_of(service, task)
    except NotFound as unknown:
        try:  # another one of that kind, say on a node, may have it
            return registry.for_task(task)[0]
        except NotFound:
            raise unknown from None
    return service


def patience(in_metadata: str, in_header: str, most: float) -> float:
    """Seconds until the deadline: the shortest of what metadata, header and server say. Raises InvalidField."""
    wishes = [most]
    for where, text in ((f"metadata.{TIMEOUT_KEY}", in_metadata.strip()), ("X-Timeout-Ms", in_header.strip())):
        if not text:
            continue
        if not (text.isascii() and text.isdecimal() and len(text) <= MS_DIGITS and int(text) > 0):
            raise InvalidField(f"{where}: expected a whole number of milliseconds over 0, got {text[:40]!r}")
        wishes.append(int(text) / 1e3)
    return min(wishes)
