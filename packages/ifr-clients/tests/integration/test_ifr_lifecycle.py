"""Starting, closing, sharing."""

import asyncio
import gc
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from ifr_clients import IFRClient, IFRClientAsync


def test_a_client_may_be_closed_twice_unused_and_used_again(scripted, client_factory):
    client = client_factory(scripted.host)
    client.close()
    client.extract([])
    client.close()
    client.close()

    assert client.extract([])["data"] == []


def test_a_blocking_client_is_a_context_manager(scripted):
    with IFRClient(scripted.host) as client:
        assert client.extract([])["data"] == []


def test_one_client_serves_many_threads(scripted):
    with IFRClient(scripted.host) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.extract, [[f"{number}.jpg"] for number in range(64)]))

    assert len(answers) == len(scripted.seen) == 64
    assert len({seen.peer for seen in scripted.seen}) <= 8


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_client_that_is_never_closed_leaves_nothing_open(scripted):
    def use():
        IFRClient(scripted.host).extract([])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use()
        gc.collect()

    assert [warning for warning in caught if warning.category is ResourceWarning] == []


async def test_the_async_client_starts_itself(scripted):
    client = IFRClientAsync(scripted.host)

    assert (await client.extract([]))["data"] == []
    await client.close()


async def test_the_async_client_is_started_and_closed_as_in_the_original(scripted):
    client = IFRClientAsync(scripted.host)
    await client.start()
    await client.start()
    try:
        assert (await client.extract([]))["data"] == []
    finally:
        await client.close()
        await client.close()


async def test_the_async_client_is_a_context_manager(scripted):
    async with IFRClientAsync(scripted.host) as client:
        assert (await client.extract([]))["data"] == []


async def test_one_async_client_serves_many_tasks(scripted):
    async with IFRClientAsync(scripted.host) as client:
        answers = await asyncio.gather(*[client.extract([f"{number}.jpg"]) for number in range(32)])

    assert len(answers) == len(scripted.seen) == 32


def test_an_async_client_goes_from_loop_to_loop(scripted):
    client = IFRClientAsync(scripted.host)

    async def use():
        answer = await client.extract([])
        await client.close()
        return answer

    assert asyncio.run(use()) == asyncio.run(use())


async def test_a_cancelled_call_leaves_the_client_usable(scripted, reply):
    scripted.script = [reply(delay=1)]
    async with IFRClientAsync(scripted.host) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.extract([]), 0.1)

        assert (await client.extract([]))["data"] == []
