"""Service discovery on the local network over multicast DNS (DNS-SD): browsing for nodes and announcing this one."""

import asyncio
import ipaddress
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from mien import __version__
from mien.nodes.contract import PROTOCOL_VERSION
from mien.nodes.pool import TLS_SCHEME, NodePool

log = structlog.get_logger()

TYPE = "_lumen._tcp.local."
RESOLVE_MS = 3000
MISSES = 2  # queries without an answer after which a node is gone
TLS_KEY = "tls"
"""Key of the TXT record; its value is 1 for a node that is reached by TLS."""
TASKS_BYTES = 240  # a TXT string holds 255 bytes, its key included


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is announced about this node."""

    port: int
    tasks: Sequence[str]
    runtime: str
    host: str
    """The address that the node listens on."""
    is_secure: bool = False
    """Whether it is reached by TLS."""

    def info(self, identity: str) -> AsyncServiceInfo:
        """The DNS records. `identity`: a UUID."""
        name = f"mien-{identity[:8]}"
        return AsyncServiceInfo(
            TYPE,
            f"{name}.{TYPE}",
            port=self.port,
            addresses=[ipaddress.ip_address(own_address(self.host)).packed],
            server=f"{name}.local.",
            properties={
                "uuid": identity,
                "status": "ready",
                "version": "1.0.0",
                "tasks": self._tasks(),
                "v": __version__,
                "runtime": self.runtime,
                "proto": PROTOCOL_VERSION,
                **({TLS_KEY: "1"} if self.is_secure else {}),
            },
        )

    def _tasks(self) -> str:
        """As many names as fit; clients ask the node itself for the rest."""
        kept: list[str] = []
        for task in self.tasks:
            if len(",".join([*kept, task]).encode()) > TASKS_BYTES:
                break
            kept.append(task)
        return ",".join(kept)


def own_address(host: str) -> str:
    """The address under which others reach a node that listens on `host`."""
    if host not in ("", "0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1" if host == "localhost" else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: nothing is sent, the route is looked up
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


class Discovery:
    """Browses for nodes into a pool, announces this one, or both. An async context manager."""

    def __init__(self, *, interfaces: Sequence[str] = (), scan: float = 30.0) -> None:
        """`interfaces`: addresses of those to use; all if empty. `scan`: seconds between queries for known nodes."""
        self._interfaces = interfaces
        self._scan = scan
        self._identity = str(uuid.uuid4())
        self._announced: AsyncServiceInfo | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._pool: NodePool | None = None
        self._found: dict[str, set[str]] = {}
        self._misses: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        chosen = list(self._interfaces) or InterfaceChoice.All
        self._zeroconf = AsyncZeroconf(interfaces=chosen, ip_version=IPVersion.V4Only)
        await self._zeroconf.zeroconf.async_wait_for_start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
        await self.withdraw()
        await self._zeroconf.async_close()

    async def announce(self, announcement: Announcement) -> None:
        """Register the mDNS record of this node, or replace it with what the node offers now."""
        is_known, self._announced = self._announced is not None, announcement.info(self._identity)
        if is_known:
            await (await self._zeroconf.async_update_service(self._announced))
            return
        await (await self._zeroconf.async_register_service(self._announced))
        log.info(
            "announced", name=self._announced.name, address=f"{own_address(announcement.host)}:{announcement.port}"
        )

    async def withdraw(self) -> None:
        """Unregister the mDNS record: others drop the node at once, not only when it stops answering."""
        if self._announced is not None:
            announced, self._announced = self._announced, None
            await (await self._zeroconf.async_unregister_service(announced))

    def browse(self, pool: NodePool) -> None:
        """Add nodes that are found to the pool, remove those that are gone."""
        self._pool = pool
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, TYPE, handlers=[self._seen])
        self._start(self._rescan())

    def _seen(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self._start(self._gone(name))
        else:
            self._start(self._resolve(name))

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, name: str) -> None:
        """Query a node's address and properties. It counts as gone after two queries without an answer."""
        info = AsyncServiceInfo(TYPE, name)
        answered = await info.async_request(self._zeroconf.zeroconf, RESOLVE_MS)
        addresses = info.parsed_addresses(IPVersion.V4Only) if answered else []
        if not addresses or not info.port:
            self._misses[name] = self._misses.get(name, 0) + 1
            if self._misses[name] >= MISSES:
                await self._gone(name)
            return
        self._misses.pop(name, None)
        txt = {key: value or "" for key, value in info.decoded_properties.items()}
        if txt.get("uuid") == self._identity or self._pool is None:
            return
        instance = name.removesuffix(f".{TYPE}")
        scheme = TLS_SCHEME if txt.get(TLS_KEY) == "1" else ""
        address = f"{scheme}{addresses[0]}:{info.port}"
        now = {self._pool.add(address, name=instance, source="mdns", txt=txt)}
        for node_id in self._found.get(name, set()) - now:  # it moved
            await self._pool.remove(node_id)
        self._found[name] = now

    async def _gone(self, name: str) -> None:
        self._misses.pop(name, None)
        for node_id in self._found.pop(name, set()):
            if self._pool is not None:
                await self._pool.remove(node_id)

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(self._scan)
            for name in list(self._found):
                await self._resolve(name)
