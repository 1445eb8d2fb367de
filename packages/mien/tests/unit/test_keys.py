"""API keys: only hashes at rest, changes apply immediately, and a damaged file never grants access."""

import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mien.errors import Forbidden, InternalError, NotFound, RequestError, Unauthorized
from mien.keys import DEFAULT_OWNER, AccessRule, Caller, FileKeyStore, KeyStore


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return FileKeyStore(tmp_path)


def test_a_store_without_a_file_has_no_keys(store: KeyStore) -> None:
    assert store.all() == ()
    assert store.authenticate("mien_anything") is None


def test_the_secret_is_not_in_the_file_and_only_the_owner_reads_it(store: KeyStore, tmp_path: Path) -> None:
    key, secret = store.create("alice", ["infer"])
    file = tmp_path / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = file.read_text()
    assert secret not in content
    assert secret.removeprefix("mien_") not in content
    assert key.sha256 in content


def test_a_loose_umask_does_not_loosen_the_file(store: KeyStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.create("alice", ["infer"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_a_key_is_found_by_its_secret_alone(store: KeyStore) -> None:
    alice, secret = store.create("alice", ["infer"])
    bob, other = store.create("bob", ["infer", "admin"])
    assert store.authenticate(secret) == alice
    assert store.authenticate(other) == bob
    for wrong in ("", alice.sha256, alice.id, secret[:-1], secret + "x", secret.upper(), "\udcff"):
        assert store.authenticate(wrong) is None


def test_every_key_is_compared_in_constant_time(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = store.create("first", ["infer"])
    store.create("second", ["infer"])
    store.create("third", ["infer"])
    compared = []

    def spy(a: str, b: str) -> bool:
        compared.append(a)
        return compare(a, b)

    compare = hmac.compare_digest
    monkeypatch.setattr("mien.keys.hmac.compare_digest", spy)
    assert store.authenticate(secret) is not None
    assert len(compared) == 3


def test_secrets_are_long_and_never_alike(store: KeyStore) -> None:
    secrets = {store.create(f"key {n}", ["infer"])[1] for n in range(20)}
    assert len(secrets) == 20
    assert all(secret.startswith("mien_") and len(secret) >= 48 for secret in secrets)


def test_another_process_sees_creations_and_revocations_immediately(store: KeyStore, tmp_path: Path) -> None:
    running = FileKeyStore(tmp_path)
    key, secret = store.create("alice", ["infer"])
    assert running.authenticate(secret) == key
    store.revoke(key.id)
    assert running.authenticate(secret) is None


def test_a_change_within_one_tick_of_the_clock_is_noticed(store: KeyStore, tmp_path: Path) -> None:
    running = FileKeyStore(tmp_path)
    key, secret = store.create("alice", ["infer"])
    assert running.authenticate(secret) == key
    before = (tmp_path / "keys.json").stat()
    store.revoke(key.id)
    store.create("alicf", ["infer"])  # a file of the same size
    os.utime(tmp_path / "keys.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert running.authenticate(secret) is None


def test_revoking_an_unknown_key_is_an_error(store: KeyStore) -> None:
    with pytest.raises(NotFound, match="'nope'"):
        store.revoke("nope")


@pytest.mark.parametrize("scopes", [[], ["root"], ["infer", "everything"]])
def test_only_known_scopes_are_given(store: KeyStore, scopes: list[str]) -> None:
    with pytest.raises(RequestError, match="a key needs scopes among infer, admin"):
        store.create("alice", scopes)  # type: ignore[arg-type]
    assert store.all() == ()


@pytest.mark.parametrize("damage", [b"", b"{}", b"null", b"[{]", b'[{"id": 1}]', b"\xff\xff", b'[{"name": "x"}]'])
def test_a_damaged_file_never_fails_open(store: KeyStore, tmp_path: Path, damage: bytes) -> None:
    _, secret = store.create("alice", ["infer"])
    assert store.all()
    (tmp_path / "keys.json").write_bytes(damage)
    for _ in range(2):
        with pytest.raises(InternalError, match=r"keys\.json"):
            store.all()
        with pytest.raises(InternalError):
            store.authenticate(secret)


def test_a_damaged_file_is_not_overwritten(store: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(b"precious")
    with pytest.raises(InternalError):
        store.create("alice", ["infer"])
    assert (tmp_path / "keys.json").read_bytes() == b"precious"


def test_keys_created_concurrently_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: FileKeyStore(tmp_path).create(f"key {n}", ["infer"]), range(16)))
    assert len(FileKeyStore(tmp_path).all()) == 16


def rule_of(store: KeyStore, *, open_without_keys: bool = False) -> AccessRule:
    return AccessRule(store, open_without_keys, "this server", "send it somehow")


def test_while_there_are_no_keys_the_rule_decides_whether_anyone_may_call(store: KeyStore) -> None:
    assert rule_of(store, open_without_keys=True).require("", "admin") == Caller(None)
    assert rule_of(store, open_without_keys=True).require("mien_anything", "admin") == Caller(None)
    with pytest.raises(Unauthorized, match="this server requires an API key, but none exists any more"):
        rule_of(store).require("mien_anything", "infer")


@pytest.mark.parametrize("open_without_keys", [True, False])
def test_once_there_is_a_key_access_requires_one_with_the_scope(store: KeyStore, open_without_keys: bool) -> None:
    key, secret = store.create("alice", ["infer"])
    rule = rule_of(store, open_without_keys=open_without_keys)
    assert rule.require(secret, "infer") == Caller(key)
    with pytest.raises(Unauthorized, match="requires an API key: send it somehow"):
        rule.require("", "infer")
    with pytest.raises(Unauthorized, match="unknown"):
        rule.require("mien_wrong", "infer")
    with pytest.raises(Forbidden, match="lacks the scope 'admin'; it has: infer"):
        rule.require(secret, "admin")


def test_keys_share_an_owner_and_those_that_name_none_have_the_default(store: KeyStore, tmp_path: Path) -> None:
    first, secret = store.create("laptop", ["infer"], "team-a")
    second, _ = store.create("phone", ["infer"], "team-a")
    other, _ = store.create("old", ["infer"])
    assert [key.owner for key in FileKeyStore(tmp_path).all()] == ["team-a", "team-a", DEFAULT_OWNER]
    store.revoke(first.id)
    assert store.authenticate(secret) is None
    assert Caller(second).owner == "team-a"
    assert DEFAULT_OWNER not in (tmp_path / "keys.json").read_text(), "as versions without owners write it"
    assert (Caller(other).owner, Caller(None).owner) == (DEFAULT_OWNER, DEFAULT_OWNER)


def test_only_admins_and_servers_without_keys_reach_everyone(store: KeyStore) -> None:
    infer, _ = store.create("alice", ["infer"], "team-a")
    admin, _ = store.create("root", ["admin", "infer"], "team-b")
    assert [Caller(key).reach for key in (infer, admin, None)] == ["team-a", None, None]


@pytest.mark.parametrize("owner", ["", " ", "a b", "a/b", "-a", "a.", "a" * 65, "a\nb", "é"])
def test_an_owner_is_a_plain_name(store: KeyStore, owner: str) -> None:
    with pytest.raises(RequestError, match="an owner is 1 to 64 letters"):
        store.create("alice", ["infer"], owner)
    assert store.all() == ()
