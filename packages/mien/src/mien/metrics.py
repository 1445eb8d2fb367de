"""The server's Prometheus metrics. docs/operations.md lists every one."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
SETUP_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class WorkerCollector(Collector):
    """Counts workers at scrape time, so that an app without workers leaves no stale series."""

    def __init__(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("mien_workers", "Workers of apps", labels=("app", "state"))
        for labels, number in self._count().items():
            family.add_metric(labels, number)
        yield family


class Metrics:
    """The metrics of one server, in a registry of its own: tests run several servers in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("mien_requests", "Requests answered", ["route", "method", "status"], registry=registry)
        self.latency = Histogram(
            "mien_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.connections = Gauge("mien_http_connections", "HTTP connections that are open", registry=registry)
        self.connections_ended = Counter(
            "mien_http_connections_ended", "HTTP connections that the server ended", ["reason"], registry=registry
        )
        self.images = Counter("mien_images", "Images worked on", ["outcome"], registry=registry)
        self.faces = Counter("mien_faces", "Faces returned", registry=registry)
        self.errors = Counter(
            "mien_errors", "Errors by code, of requests and of single images", ["code"], registry=registry
        )
        self.queued_images = Gauge("mien_queued_images", "Images queued or running", registry=registry)
        self.queued_items = Gauge("mien_queued_items", "Model inputs that wait for a session", registry=registry)
        self.batch_size = Histogram(
            "mien_batch_size", "Items per model run", ["model"], buckets=SIZES, registry=registry
        )
        self.run_seconds = Histogram(
            "mien_model_run_seconds", "Time of one model run", ["model"], buckets=SECONDS, registry=registry
        )
        self.wait_seconds = Histogram(
            "mien_model_wait_seconds",
            "Time that a batch's first item waited",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.tasks = Counter("mien_tasks", "Tasks that ended", ["status"], registry=registry)
        self.tasks_queued = Gauge("mien_tasks_queued", "Tasks that wait for a worker", registry=registry)
        self.tasks_scheduled = Gauge("mien_tasks_scheduled", "Tasks that wait for their run_at", registry=registry)
        self.tasks_running = Gauge("mien_tasks_running", "Tasks that workers have", registry=registry)
        self.task_wait_seconds = Histogram(
            "mien_task_wait_seconds", "Time that a task was queued", ["app"], buckets=SECONDS, registry=registry
        )
        self.task_streams = Gauge("mien_task_streams", "Streams of tasks that are open", registry=registry)
        self.loop_lag = Gauge(
            "mien_event_loop_lag_seconds", "Largest lag of the event loop since the last scrape", registry=registry
        )
        self.file_bytes = Counter("mien_file_bytes", "Bytes of files", ["direction"], registry=registry)
        self.webhooks = Counter("mien_webhooks", "Tries to deliver webhooks", ["outcome"], registry=registry)

        self.worker_starts = Counter(
            "mien_worker_starts", "Workers that were started", ["app", "outcome"], registry=registry
        )
        self.worker_crashes = Counter(
            "mien_worker_crashes", "Workers that died by themselves", ["app", "reason"], registry=registry
        )
        self.worker_evictions = Counter(
            "mien_worker_evictions", "Idle workers that were ended", ["app", "reason"], registry=registry
        )
        self.worker_setup_seconds = Histogram(
            "mien_worker_setup_seconds", "Time of an app's setup", ["app"], buckets=SETUP_SECONDS, registry=registry
        )

        self.grpc_requests = Counter(
            "mien_grpc_requests", "Requests answered as a node", ["outcome"], registry=registry
        )
        self.node_requests = Counter(
            "mien_node_requests", "Requests sent to nodes", ["node", "outcome"], registry=registry
        )
        self.node_seconds = Histogram(
            "mien_node_seconds", "Time until a node had answered", ["node"], buckets=SECONDS, registry=registry
        )

    def observe_workers(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """Report the workers by app and state; `count` is called at every scrape."""
        self.registry.register(WorkerCollector(count))

    def observe_run(self, model: str, size: int, seconds: float, waited: float) -> None:
        """Implements the batcher's Observer."""
        self.batch_size.labels(model).observe(size)
        self.run_seconds.labels(model).observe(seconds)
        self.wait_seconds.labels(model).observe(waited)

    def observe_node_request(self, node: str, outcome: str, seconds: float) -> None:
        """Implements the node pool's Count."""
        self.node_requests.labels(node, outcome).inc()
        if outcome == "ok":
            self.node_seconds.labels(node).observe(seconds)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
