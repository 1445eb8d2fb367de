"""Sends hostile bodies from a process of its own: `python -m testing.body_attackers URL SIZE ATTACKERS`.

Each line that it reads is a kind of body: it sends that to every route that reads it, some at a time, and prints the
statuses as a line of JSON. Its priority is the lowest: attackers are other machines, which take no time of the server.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2

from testing.hostile_bodies import Body, attacks

LOWEST_PRIORITY = 19


def send(url: str, path: str, body: Body) -> int:
    """The status; 0 if the connection was closed before the body was sent to its end."""
    kind, content, headers = body
    with httpx2.Client(base_url=url, timeout=120) as client:
        try:
            return client.post(path, content=content, headers={"Content-Type": kind, **headers}).status_code
        except httpx2.TransportError:
            return 0


def main() -> None:
    url, size, attackers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.nice(LOWEST_PRIORITY)
    todo: dict[str, list[tuple[str, Body]]] = {}
    for name, path, body in attacks(size):
        todo.setdefault(name, []).append((path, body))
    sys.stdout.write(json.dumps(list(todo)) + "\n")
    sys.stdout.flush()
    with ThreadPoolExecutor(attackers) as pool:
        for line in sys.stdin:
            statuses = list(pool.map(lambda sent: send(url, *sent), todo[line.strip()]))
            sys.stdout.write(json.dumps(statuses) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
