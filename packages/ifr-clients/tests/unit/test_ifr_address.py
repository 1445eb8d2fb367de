import math
import pickle

import pytest

from ifr_clients import IFRClient, IFRClientAsync
from ifr_clients._server import split_address


@pytest.mark.parametrize(
    ("host", "port", "server"),
    [
        ("http://localhost", 18081, "http://localhost:18081"),
        ("http://localhost/", 18081, "http://localhost:18081"),
        ("http://localhost", "18080", "http://localhost:18080"),
        ("http://localhost:9000", "18081", "http://localhost:9000"),
        ("localhost", 18081, "http://localhost:18081"),
        ("localhost:9000", 18081, "http://localhost:9000"),
        ("http://localhost:9000/", 18081, "http://localhost:9000"),
        ("http://localhost:9000", 9000, "http://localhost:9000"),
        ("http://localhost", None, "http://localhost"),
        ("https://faces.example.com", 443, "https://faces.example.com:443"),
        ("https://faces.example.com/", None, "https://faces.example.com"),
        ("https://example.com/faces/", None, "https://example.com/faces"),
        ("HTTP://LocalHost", 80, "http://localhost:80"),
        ("http://[::1]", 18081, "http://[::1]:18081"),
        (" http://10.0.0.7 ", 18081, "http://10.0.0.7:18081"),
    ],
)
def test_every_way_to_write_a_host_names_one_server(host, port, server):
    assert IFRClient(host, port).server == server
    assert IFRClientAsync(host, port).server == server


def test_the_defaults_are_those_of_the_original():
    assert IFRClient().server == IFRClientAsync().server == "http://localhost:18081"


def test_credentials_in_the_host_become_a_header_and_stay_out_of_the_address():
    assert split_address("https://me:p%40ss@faces.example.com", 443) == (
        "https://faces.example.com:443",
        "Basic bWU6cEBzcw==",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"host": "ftp://localhost"}, "host is 'ftp://localhost'; expected"),
        ({"host": ""}, "host is ''"),
        ({"host": "http://"}, "host is 'http://'"),
        ({"host": "http://localhost:port"}, "host is 'http://localhost:port'"),
        ({"host": "http://localhost:99999"}, "host is 'http://localhost:99999'"),
        ({"host": "http://localhost?x=1"}, "expected something like"),
        ({"host": "http://localhost:9000", "port": 9001}, "conflicting ports: 9000 in host and port=9001"),
        ({"port": "http"}, "port is 'http'; expected a number"),
        ({"port": 70000}, "port is 70000; expected 1 to 65535"),
        ({"timeout": 0}, "timeout is 0; expected seconds above 0"),
        ({"timeout": math.nan}, "timeout is nan"),
        ({"retries": -1}, "retries is -1"),
        ({"host": "http://me:x@localhost", "api_key": "k"}, "conflicting credentials"),
        ({"api_key": "line\nbreak"}, "Authorization"),
        ({"headers": {"X-Who": "bläh"}}, "X-Who"),
    ],
)
def test_a_wrong_setting_is_named(arguments, says):
    with pytest.raises(ValueError, match=r"\S") as error:
        IFRClient(**arguments)

    assert says in str(error.value)


@pytest.mark.parametrize("arguments", [{"host": None}, {"host": 7}, {"timeout": "60"}])
def test_a_setting_of_the_wrong_type_is_named(arguments):
    (name,) = arguments
    with pytest.raises(TypeError, match=f"{name} is .*; expected"):
        IFRClient(**arguments)


def test_the_key_is_not_shown():
    client = IFRClient(api_key="secret-key", headers={"X-Token": "other-secret"})

    assert repr(client) == "IFRClient('http://localhost:18081')"
    assert "secret" not in repr(client._settings)


@pytest.mark.parametrize("kind", [IFRClient, IFRClientAsync])
def test_a_client_can_go_to_another_process(kind):
    client = pickle.loads(pickle.dumps(kind("http://localhost:9000", api_key="k")))  # noqa: S301 - our own

    assert client._settings == kind("http://localhost:9000", api_key="k")._settings
