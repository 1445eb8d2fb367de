"""`GET /health` before there is anything to check."""

import httpx2

from mien.app import create_app
from mien.settings import Settings


async def test_a_server_that_loads_its_models_is_not_broken() -> None:
    transport = httpx2.ASGITransport(create_app(Settings()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        answer = await client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"detail": "the models are being loaded"})
    assert int(answer.headers["retry-after"]) > 0
