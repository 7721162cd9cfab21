"""Another site, another name, another program: none reads, changes, listens. No path leaves the table."""

import http.client
import json
import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dashboard.conftest import serving
from eigenscope.dashboard.security import Security
from runs.sample import make_sample_run

OTHER_ORIGINS = [
    "http://evil.example",
    "null",
    "http://127.0.0.1:1",
    "http://localhost.evil.example",
    "http://[:",
]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", "", "localhost:8765:1"])
def test_a_name_that_is_not_ours_is_refused(browser, host):
    response = browser.get("/api/runs", headers={"host": host})
    assert response.status_code == 403
    assert f"host {host!r} is not one of" in response.json()["error"]
    assert "content-security-policy" in response.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "[::1]:9999", "[::1]"])
def test_loopback_names_pass_with_any_port(browser, host):
    """A port that ssh forwards has another number here."""
    assert browser.get("/api/runs", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_another_page_can_not_read(browser, origin):
    response = browser.get("/api/runs", headers={"origin": origin})
    assert response.status_code == 403
    assert "is not this page" in response.json()["error"]


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_another_page_can_not_change_anything(browser, origin):
    assert browser.acknowledge("edge", 1, origin=origin).status_code == 403


@pytest.mark.parametrize("origin", [*OTHER_ORIGINS, None])
def test_another_page_can_not_listen(browser, origin):
    with pytest.raises(InvalidStatus, match="HTTP 403"), browser.listen("edge", origin=origin):
        pass


def test_a_host_that_is_not_ours_can_not_listen(browser):
    """As after DNS rebinding: the name is the other site's, the address is ours."""
    with (
        socket.create_connection(("127.0.0.1", browser.port)) as connection,
        pytest.raises(InvalidStatus, match="HTTP 403"),
        connect("ws://evil.example/api/live?run=edge", sock=connection, origin="http://evil.example"),
    ):
        pass


@pytest.mark.parametrize("token", ["", "wrong", "ü"])
def test_without_the_token_nothing_changes(tmp_path, token):
    make_sample_run(tmp_path / "edge", "edge", 300)
    with serving(tmp_path) as browser:
        sent = {"x-eigenscope-token": token.encode()}
        path = "/api/runs/edge/alerts/1/acknowledge"
        response = browser.http.post(path, headers={"origin": browser.origin, **sent})
        assert response.status_code == 403
        assert "open the address that the program printed" in response.json()["error"]
        assert browser.http.post(path, headers={"x-eigenscope-token": browser.token}).status_code == 403
        assert browser.json("/api/runs/edge")["alerts"][0]["acknowledged"] is False


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_does_anything(browser, method):
    headers = {"origin": browser.origin, "x-eigenscope-token": browser.token}
    assert browser.http.request(method, "/api/runs", headers=headers).status_code == 405
    assert browser.http.request(method, "/api/runs").status_code == 403


def test_each_launch_has_its_own_token(recorded):
    with serving(recorded) as one, serving(recorded) as other:
        assert len(one.token) >= 32
        assert one.token != other.token


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/../outside",
        "/api/runs/..%2foutside",
        "/api/runs/%2e%2e/outside",
        "/api/runs/inside/../../outside",
        "/api/runs/{outside}",
        "/api/runs//{outside}",
        "/api/runs/{outside}.eigenscope",
        "/api/runs/../outside/series?names=loss",
        "/api/runs/..\\outside",
        "/api/runs/inside%00",
        "/../outside.eigenscope",
        "/../server.py",
        "/..%2fserver.py",
        "/js/../../server.py",
        "/{outside}.eigenscope",
    ],
)
def test_no_path_leaves_the_table(tmp_path, path):
    """Sent byte by byte: a tidy client would straighten the path itself."""
    make_sample_run(tmp_path / "outside", steps=20)
    make_sample_run(tmp_path / "runs" / "inside", steps=20)
    with serving(tmp_path / "runs") as browser:
        connection = http.client.HTTPConnection(browser.origin.removeprefix("http://"), timeout=20)
        connection.request("GET", path.format(outside=tmp_path / "outside"))
        response = connection.getresponse()
        assert (response.status, list(json.loads(response.read()))) == (404, ["error"])
        connection.close()


def test_other_hosts_can_be_allowed_by_name():
    security = Security(lambda *_: None, "token", ["panel.example"])
    scope = {"type": "http", "method": "GET", "headers": [(b"host", b"panel.example:443")]}
    assert security.refusal(scope) is None
    assert "not one of panel.example" in str(security.refusal({**scope, "headers": [(b"host", b"localhost")]}))
