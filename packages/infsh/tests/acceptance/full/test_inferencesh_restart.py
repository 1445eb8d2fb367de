"""A client whose server is restarted."""

from inferencesh import Inference, TaskStatus

APP = "your-app"


def test_a_stream_survives_a_restart_of_the_server(mien_factory):
    mien = mien_factory()
    with mien.serving() as address:
        port = int(address.rpartition(":")[2])
        client = Inference(base_url=address)
        task = client.run({"app": APP, "input": {"key": "k", "seconds": 1.5}}, wait=False)
        stream = client.stream_task(task["id"])
        assert next(stream)["id"] == task["id"]
    with mien.serving(port):
        statuses = [update["status"] for update in stream]
    client.close()

    assert statuses[-1] == TaskStatus.COMPLETED
