"""Whatever is sent to the third api, the answer is one of the caller's errors or a success: never a 500."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20)
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = (
    "input setup variant infra function version workers webhook session session_timeout run_at deadline timeout retries"
    " priority idempotency_key metadata"
)
params = st.fixed_dictionaries(
    {"app": st.sampled_from(["test/kit", "mien/embed", "kit:run", "no/such"]) | json_values},
    optional=dict.fromkeys(FIELDS.split(), json_values),
)


def sane(status: int) -> bool:
    return status < 500 or status in (503, 507)


@FEW
@given(body=params)
def test_any_submission(api: Any, body: dict[str, Any]) -> None:
    answer = api.client.post("/run", json={**body, "run_at": body.get("run_at") or 4e9})
    assert sane(answer.status_code), answer.text
    if answer.status_code == 200:
        task_id = answer.json()["data"]["id"]
        assert api.client.get(f"/tasks/{task_id}").status_code == 200
        api.client.post(f"/tasks/{task_id}/cancel").raise_for_status()
        assert api.ended(task_id)["status"] in (9, 10, 11)


@FEW
@given(body=json_values, path=st.sampled_from(["/run", "/files", "/tasks/list", "/apps/run", "/tasks/x/cancel"]))
def test_any_json(api: Any, body: Any, path: str) -> None:
    assert sane(api.client.post(path, json=body).status_code)


@FEW
@given(
    query=st.dictionaries(
        st.sampled_from(["status", "app", "cursor", "limit", "created_after", "created_before", "function"]),
        st.text(max_size=12) | st.integers().map(str),
        max_size=3,
    )
)
def test_any_filter(api: Any, query: dict[str, str]) -> None:
    assert sane(api.client.get("/tasks", params=query).status_code)


@FEW
@given(known=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30))
def test_any_id(api: Any, known: str) -> None:
    from urllib.parse import quote

    for path in ("/tasks/{}", "/tasks/{}/stream", "/files/{}", "/files/{}/name", "/apps/{}", "/sessions/{}"):
        assert sane(api.client.get(path.format(quote(known, safe=""))).status_code)
    task = api.run("test/kit", {}, run_at=4e9)
    api.client.post(f"/tasks/{task['id']}/cancel")
    answer = api.client.get(f"/tasks/{task['id']}/stream", headers={"Last-Event-ID": f"1{known}1".encode("latin-1")})
    assert sane(answer.status_code)


@pytest.mark.parametrize("accept", ["", "*/*", "text/event-stream", "application/x-ndjson", "text/html", "\xff"])
def test_any_accept(api: Any, accept: str) -> None:
    task = api.ended(api.run("test/kit", {})["id"])
    answer = api.client.get(f"/tasks/{task['id']}/stream", headers={"Accept": accept.encode("latin-1")})
    assert answer.status_code == 200
