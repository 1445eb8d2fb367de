"""Announces a node on loopback, with fewer tasks from the first line that it reads to the second:
`announcing_process.py PORT`.
"""

import asyncio
import sys

from mien.nodes.discovery import Announcement, Discovery


async def main(port: int) -> None:
    async with Discovery(interfaces=["127.0.0.1"]) as discovery:
        await discovery.announce(Announcement(port, ["echo_v1", "steps_v1"], "none", "127.0.0.1"))
        sys.stdout.write("announced\n")
        sys.stdout.flush()
        if await asyncio.to_thread(sys.stdin.readline):
            await discovery.announce(Announcement(port, ["echo_v1"], "none", "127.0.0.1"))
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
