"""Which dialect a request gets, and that statuses survive the way through either table."""

from hypothesis import given
from hypothesis import strategies as st

from mien.http.inferencesh.dialect import (
    PREFIXES,
    Dialect,
    client_version,
    read_dialect,
    split_prefix,
    statuses_of,
    wire_number,
)
from mien.http.media import NDJSON_TYPES, accepts
from mien.tasks.status import TERMINAL, Status

versions = st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 99))
tables = st.sampled_from(["A", "B"])


def read(path: str = "/tasks/x", *, forced: str | None = None, default: str = "B", **headers: str) -> Dialect:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_dialect(named, path, forced, default)  # type: ignore[arg-type]


@given(versions, tables)
def test_a_version_in_the_user_agent_decides(version: tuple[int, int, int], default: str) -> None:
    agent = "inference-sdk-py/" + ".".join(map(str, version))
    assert client_version(agent) == version
    found = read("/run", default=default, user_agent=agent)
    assert found.settled
    assert found.table == ("B" if version >= (0, 6, 1) else "A")


@given(st.sampled_from(sorted(PREFIXES)), st.text("abcz0159/-_.", max_size=20), versions)
def test_the_prefix_wins_over_everything(prefix: str, rest: str, version: tuple[int, int, int]) -> None:
    table, path = split_prefix(f"{prefix}/{rest}")
    assert table == PREFIXES[prefix]
    assert path.startswith("/")
    assert "//" not in path
    agent = "inference-sdk-py/" + ".".join(map(str, version))
    assert read(path, forced=table, user_agent=agent).table == table


@given(st.text("abc/", max_size=30))
def test_paths_without_a_prefix_only_lose_doubled_slashes(text: str) -> None:
    path = "/" + text
    table, found = split_prefix(path)
    assert table is None
    assert "//" not in found
    assert found.replace("/", "") == path.replace("/", "")


@given(st.text(max_size=40), tables)
def test_what_a_run_shows_is_remembered_only_if_it_is_known(agent: str, default: str) -> None:
    run, apps_run = (
        read("/run", default=default, user_agent=agent),
        read("/apps/run", default=default, user_agent=agent),
    )
    if client_version(agent) is None and not agent.startswith("mien-inferencesh/"):
        assert (run.table, run.remembered) == ("A", "A")
        assert (apps_run.table, apps_run.remembered) == (default, "")


def test_unmarked_requests() -> None:
    assert read(default="A").table == "A"
    assert read(default="A", accept="application/x-ndjson").table == "B"
    assert read(x_api_version="2").bare
    assert read(x_api_version="2").problems
    assert not read(user_agent="inference-sdk-py/0.36.0").bare
    assert read(user_agent="inference-sdk-py/0.36.0").problems
    assert read("/apps/run", user_agent="mien-inferencesh/0.1.0", default="B").table == "A"
    assert not accepts({"accept": "text/event-stream"}, *NDJSON_TYPES)


@given(st.sampled_from(list(Status)), tables)
def test_numbers_lead_back_to_their_status(status: Status, table: str) -> None:
    assert statuses_of([str(wire_number(status, table))], table) == (status,)  # type: ignore[arg-type]
    assert statuses_of([status.name.lower()], table) == (status,)  # type: ignore[arg-type]


def test_the_tables_are_those_of_the_clients() -> None:
    assert [wire_number(status, "A") for status in Status] == list(range(1, 12))
    assert [wire_number(status, "B") for status in Status] == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert {wire_number(status, "B") for status in TERMINAL} == {10, 11, 12}
