"""Web servers of a test: real sockets on this machine, and answers as the test wants them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable["Server"]]


class Request:
    def __init__(self, text: str) -> None:
        first, *lines = text.split("\r\n")
        self.target = first.split(" ")[1]
        self.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines if line)}


class Server:
    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[Request] = []

    def url(self, path: str = "/a.jpg", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def answer(body: bytes = b"image", status: str = "200 OK", **headers: str) -> Handler:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        fields = {"content-length": str(len(body)), **{n.replace("_", "-"): v for n, v in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    return handle


def in_turn(*handlers: Handler) -> Handler:
    left = list(handlers)

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return handle


@asynccontextmanager
async def serving() -> AsyncIterator[Serve]:
    """A factory of servers that answer each connection's first request with the handler and close it."""
    async with asyncio.TaskGroup() as tasks:
        running: list[asyncio.Server] = []

        async def start(handler: Handler, context: ssl.SSLContext | None = None) -> Server:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                    request = Request(head.decode("latin-1"))
                    server.requests.append(request)
                    await handler(request, writer)
                    await writer.drain()
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass
                finally:
                    writer.close()

            listening = await asyncio.start_server(
                lambda r, w: tasks.create_task(connected(r, w)) and None, "127.0.0.1", 0, ssl=context
            )
            running.append(listening)
            server = Server(listening.sockets[0].getsockname()[1])
            return server

        yield start
        for listening in running:
            listening.close()
