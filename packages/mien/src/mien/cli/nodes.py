"""`mien nodes …` and `mien status`: the state of a running server and the nodes behind it."""

import time
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.table import Table
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from infsh._environment import is_loopback, said, through_proxy
from mien.cli.client import DEFAULT_URL, ApiKey, Url, connection_options, lumen_client, unreachable
from mien.cli.output import Output, out, show
from mien.errors import NotFound, RequestError, Unavailable

nodes = typer.Typer(no_args_is_help=True)
NANOSECONDS = 1e9


@nodes.command("list")
def list_nodes(url: Url = DEFAULT_URL, api_key: ApiKey = "", output: Output = "table") -> None:
    """List this server and the nodes behind it."""
    with lumen_client(url, api_key) as client:
        show(client.nodes(), output, nodes_table)


@nodes.command()
def info(node: str, url: Url = DEFAULT_URL, api_key: ApiKey = "", output: Output = "table") -> None:
    """Show one node, by id or name: its tasks with their inputs and outputs."""
    with lumen_client(url, api_key) as client:
        show(find(client.nodes(), node), output, tasks_table)


@nodes.command()
def ping(node: str, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Check whether a node accepts requests, and the server's response time. Exit code 1 if it does not."""
    with lumen_client(url, api_key) as client:
        started = time.perf_counter()
        found = find(client.nodes(), node)
        milliseconds = (time.perf_counter() - started) * 1e3
    out.print(f"{found['id']}: {found['status']} ({milliseconds:.1f} ms)")
    if found["status"] != "active":
        raise typer.Exit(1)


@nodes.command()
def watch(
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    output: Output = "table",
    count: Annotated[int, typer.Option(min=0, help="Stop after this many snapshots. 0: never.")] = 0,
) -> None:
    """Print the nodes now and on each change, until Ctrl-C."""
    address = url.rstrip("/").replace("http", "ws", 1) + "/v1/nodes/watch"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    proxy: Literal[True] | None = None if is_loopback(url) else True  # True: as the environment says
    options = connection_options(url)
    trusted = options["verify"] if address.startswith("wss:") else None
    try:
        with connect(address, additional_headers=headers, proxy=proxy, ssl=trusted) as socket:
            for number, message in enumerate(socket, 1):
                show(orjson.loads(message)["nodes"], output, watched_table)
                if number == count:
                    return
    except KeyboardInterrupt:
        return
    except ConnectionClosed as error:
        raise Unavailable(f"{url} closed the connection: {error}") from None
    except WebSocketException as error:
        raise RequestError(f"{url} rejected the WebSocket: {error}{through_proxy(url)}") from None
    except OSError as error:
        raise Unavailable(unreachable(url, said(error, url))) from None
    except (ValueError, ImportError) as error:  # what is no URL; SOCKS without its package
        raise RequestError(f"{url} cannot be reached: {error}{through_proxy(url)}") from None


def status(url: Url = DEFAULT_URL, api_key: ApiKey = "", output: Output = "table") -> None:
    """Show the health, request counts and nodes of a server."""
    with lumen_client(url, api_key) as client:
        found = {"health": client.health(), "metrics": client.metrics(), "nodes": client.nodes()}
    show(found, output, status_table)


def find(known: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The node with that id or name. Raises NotFound, which lists the known ones."""
    for node in known:
        if wanted in (node["id"], node["name"]):
            return node
    raise NotFound(f"there is no node {wanted!r}; known nodes: {', '.join(node['id'] for node in known)}")


def nodes_table(known: list[dict[str, Any]]) -> Table:
    table = Table("id", "address", "status", "version", "tasks")
    for node in known:
        table.add_row(
            node["id"],
            node["address"] or "-",
            node["status"],
            node.get("version") or "-",
            ", ".join(node.get("tasks") or ()),
        )
    return table


def tasks_table(node: dict[str, Any]) -> Table:
    table = Table("service", "task", "models", "takes", "returns", title=f"{node['id']} ({node['status']})")
    for offered in node.get("capabilities") or ():
        for task in offered["tasks"]:
            table.add_row(
                offered["service_name"],
                task["name"],
                ", ".join(offered["model_ids"]),
                ", ".join(task["input_mimes"]),
                ", ".join(task["output_mimes"]),
            )
    return table


def watched_table(known: list[dict[str, Any]]) -> Table:
    table = Table("node", "address", title=time.strftime("%H:%M:%S"))
    for node in known:
        table.add_row(node["node_id"], node["address"])
    return table


def status_table(found: dict[str, Any]) -> Table:
    metrics = found["metrics"]
    table = Table("", "", show_header=False)
    table.add_row("server", found["health"]["status"])
    table.add_row("requests", f"{metrics['total_requests']} ({metrics['failed_requests']} failed)")
    table.add_row("average latency", f"{metrics['average_latency'] / NANOSECONDS * 1e3:.1f} ms")
    table.add_row("nodes", f"{metrics['active_nodes']} of {metrics['total_nodes']} active")
    for node in found["nodes"]:
        table.add_row(f"  {node['id']}", f"{node['status']}: {', '.join(node.get('tasks') or ())}")
    return table
