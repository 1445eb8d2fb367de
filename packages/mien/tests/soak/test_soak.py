"""Long runs: memory that does not grow, and a server that stays itself under twenty times its load."""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import ormsgpack
import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
Serve = Callable[..., Any]
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/x-msgpack"}


def test_memory_does_not_grow_over_5000_requests(
    serve: Serve, photos: dict[str, bytes], collage: bytes, record_property: Callable[[str, object], None]
) -> None:
    server = serve(age_model="none", gender_model="none", mask_model="none")
    kinds = [ormsgpack.packb({"images": {"data": [photo]}}) for photo in photos.values()]
    kinds += [
        ormsgpack.packb({"images": {"data": [collage]}}),
        ormsgpack.packb({"images": {"data": [b"bad", *photos.values()]}}),
    ]
    samples: list[tuple[int, float]] = []

    async def run() -> None:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:

            async def worker(numbers: range) -> None:
                for n in numbers:
                    response = await client.post("/extract", content=kinds[n % len(kinds)], headers=MSGPACK)
                    assert response.status_code == 200

            for start in range(0, 6000, 250):
                await asyncio.gather(*(worker(range(start + offset, start + 250, 4)) for offset in range(4)))
                samples.append((start + 250, server.rss_mb()))  # while nothing is in flight

    asyncio.run(run())
    settled = np.array(samples[4:])  # the first 1,000 requests fill pools and arenas
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) * 1000
    record_property("rss_mb_per_1000_requests", round(slope, 3))
    print(f"RSS every 250 requests: {[round(rss) for _, rss in samples]} MB, slope {slope:+.2f} MB per 1,000")  # noqa: T201
    assert abs(slope) < 2.0, f"{slope:.2f} MB per 1,000 requests"


def test_twenty_times_the_capacity(serve: Serve, photo: bytes) -> None:
    server = serve(queue_images=64, age_model="none", gender_model="none", mask_model="none")
    images = 16  # per request: one client process can offer that many images a second
    body = ormsgpack.packb({"images": {"data": [photo] * images}})
    single = {"images": {"data": [base64.b64encode(photo).decode()]}}

    started = time.monotonic()
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        for _ in range(10):
            client.post("/extract", content=body, headers=MSGPACK).raise_for_status()
    capacity = 10 / (time.monotonic() - started)
    rate = 20 * capacity
    answers: Counter[int] = Counter()
    seconds_of_200: set[int] = set()
    without_retry_after = 0
    begin = server.rss_mb()
    highest = begin

    async def run() -> None:
        nonlocal highest, without_retry_after
        limits = httpx2.Limits(max_connections=512, max_keepalive_connections=512)
        async with httpx2.AsyncClient(base_url=server.url, timeout=60, limits=limits, trust_env=False) as client:
            begun = time.monotonic()
            inside: set[asyncio.Task[None]] = set()

            async def one() -> None:
                nonlocal without_retry_after
                try:
                    response = await client.post("/extract", content=body, headers=MSGPACK)
                except httpx2.TransportError:
                    answers[0] += 1
                    return
                answers[response.status_code] += 1
                if response.status_code == 200:
                    seconds_of_200.add(int(time.monotonic() - begun))
                elif int(response.headers.get("retry-after", 0)) < 1:
                    without_retry_after += 1

            sent = 0
            while (now := time.monotonic() - begun) < 20:
                # an open loop, bounded by what this one client process can hold
                while sent < now * rate and len(inside) < 512:
                    task = asyncio.create_task(one())
                    inside.add(task)
                    task.add_done_callback(inside.discard)
                    sent += 1
                highest = max(highest, server.rss_mb())
                await asyncio.sleep(0.005)
            await asyncio.gather(*inside)

    asyncio.run(run())
    offered = sum(answers.values()) / 20 / capacity
    print(  # noqa: T201
        f"capacity {capacity * images:.0f} images/s, offered {offered:.1f} times that: {dict(answers)}; "
        f"200s in {len(seconds_of_200)} of 20 s; RSS {begin:.0f} → {highest:.0f} MB"
    )
    assert offered > 15, "the client could not offer the load that this test is about"
    assert set(answers) <= {200, 429, 503}
    assert answers[429] + answers[503] > answers[200]
    assert without_retry_after == 0
    assert len(seconds_of_200) >= 19, "answers stopped coming"
    assert highest - begin < 200
    response = server.client.post("/extract", json=single)
    assert response.status_code == 200
    assert len(response.json()["data"][0]["faces"]) == 1
