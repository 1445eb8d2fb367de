"""Long runs: memory that does not grow, and a server that stays itself under twenty times its load."""

import asyncio
import base64
import io
import time
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import numpy as np
import ormsgpack
import pytest

pytestmark = [pytest.mark.soak, pytest.mark.limit(1800)]
Serve = Callable[..., Any]
COMPLETED, FAILED = 9, 10
TALKING_APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    words: int
    fail: bool = False

class AppOutput(BaseAppOutput):
    text: str = ""

class App(BaseApp):
    async def run(self, given: AppInput):
        for number in range(given.words):
            print("word", number)
            self.progress(number / given.words, "talking")
            yield AppOutput(text="word " * number)
        if given.fail:
            raise ValueError("out of words")
        yield AppOutput(text="done")
"""
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/x-msgpack"}


NO_TRAITS = {"age_model": "none", "gender_model": "none", "mask_model": "none"}
Send = Callable[[httpx2.AsyncClient, int], Awaitable[None]]


def require_flat_memory(server: Any, send: Send, requests: int = 6000) -> None:
    """`send` the requests, four at a time; the server's memory must stay what it was after the first 1,000."""
    samples: list[tuple[int, float]] = []

    async def run() -> None:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:

            async def one_of_four(numbers: range) -> None:
                for number in numbers:
                    await send(client, number)

            for start in range(0, requests, 250):
                await asyncio.gather(*(one_of_four(range(start + offset, start + 250, 4)) for offset in range(4)))
                samples.append((start + 250, server.rss_mb()))  # while nothing is in flight

    asyncio.run(run())
    settled = np.array(samples[4:])  # the first 1,000 requests fill pools and arenas
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) * 1000
    print(f"RSS every 250 requests: {[round(rss) for _, rss in samples]} MB, slope {slope:+.2f} MB per 1,000")  # noqa: T201
    assert abs(slope) < 2.0, f"{slope:.2f} MB per 1,000 requests"


def test_memory_does_not_grow_over_5000_requests(serve: Serve, photos: dict[str, bytes], collage: bytes) -> None:
    kinds = [ormsgpack.packb({"images": {"data": [photo]}}) for photo in photos.values()]
    kinds += [
        ormsgpack.packb({"images": {"data": [collage]}}),
        ormsgpack.packb({"images": {"data": [b"bad", *photos.values()]}}),
    ]

    async def send(client: httpx2.AsyncClient, number: int) -> None:
        response = await client.post("/extract", content=kinds[number % len(kinds)], headers=MSGPACK)
        assert response.status_code == 200

    require_flat_memory(serve(**NO_TRAITS), send)


def test_memory_does_not_grow_over_5000_requests_of_every_service(
    serve: Serve, photos: dict[str, bytes], collage: bytes
) -> None:
    images = [base64.b64encode(image).decode() for image in (*photos.values(), collage)]
    services = ("face_detection", "face_recognition", "embedding", "classification")

    async def send(client: httpx2.AsyncClient, number: int) -> None:
        image = images[number % len(images)]
        if number % 5 == 0:
            text = base64.b64encode(f"sentence {number}".encode()).decode()
            asked = {"service": "embedding", "payload": text, "payload_mime": "text/plain"}
        else:
            payload = [image, "bm8gcGljdHVyZQ=="] if number % 7 == 0 else image
            asked = {"service": services[number % 4], "payload": payload, "payload_mime": "image/jpeg"}
        response = await client.post("/v1/infer", json={**asked, "_stream": number % 3 == 0})
        assert response.status_code == 200, response.text

    require_flat_memory(serve(**NO_TRAITS), send)


def test_memory_does_not_grow_over_5000_tasks(serve: Serve) -> None:
    server = serve(**NO_TRAITS, image_model="none", text_model="none")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inf.yml", "name: talks\nnamespace: test\n")
        archive.writestr("inference.py", TALKING_APP)
    app = server.client.post("/apps", content=packed.getvalue(), timeout=120).raise_for_status().json()["data"]["ref"]

    async def send(client: httpx2.AsyncClient, number: int) -> None:
        body = {"app": app, "input": {"words": number % 20, "fail": number % 11 == 0}}
        if number % 4:
            task = (await client.post("/run?wait=true", json=body)).raise_for_status().json()["data"]
        else:
            task = (await client.post("/run", json=body)).raise_for_status().json()["data"]
            async with client.stream("GET", f"/tasks/{task['id']}/stream") as stream:
                async for _ in stream.aiter_lines():
                    pass
            task = (await client.get(f"/tasks/{task['id']}")).raise_for_status().json()["data"]
        assert task["status"] == (FAILED if number % 11 == 0 else COMPLETED)

    require_flat_memory(server, send)


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
