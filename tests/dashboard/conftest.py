"""A real server on loopback over a folder of runs, and clients that speak to it as a browser would."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from eigenscope.dashboard import Server
from runs.sample import make_sample_run

SECONDS = 20  # the longest that a test waits for something that must come


class Browser:
    """A page of the dashboard: same origin, with the token of the printed address."""

    def __init__(self, server: Server) -> None:
        self.port = server.port
        self.origin = f"http://127.0.0.1:{server.port}"
        self.token = server.url.partition("#token=")[2]
        self.http = httpx.Client(base_url=self.origin, timeout=SECONDS)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def json(self, path: str) -> Any:
        response = self.get(path)
        assert response.status_code == 200, response.text
        return json.loads(response.text, parse_constant=_refuse)

    def acknowledge(self, run_id: str, alert: int, **headers: str) -> httpx.Response:
        sent = {"origin": self.origin, "x-eigenscope-token": self.token, **headers}
        return self.http.post(f"/api/runs/{run_id}/alerts/{alert}/acknowledge", headers=sent)

    def listen(self, run_id: str | None = None, **options: Any) -> ClientConnection:
        query = "" if run_id is None else f"?run={quote(run_id, safe='')}"
        address = f"{self.origin.replace('http', 'ws')}/api/live{query}"
        return connect(address, **{"origin": self.origin, "compression": None, **options})


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def receive(page: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind; others are passed over."""
    while True:
        message = json.loads(page.recv(timeout=SECONDS), parse_constant=_refuse)
        if message["type"] == kind:
            return dict(message)


@contextmanager
def serving(runs: Path) -> Iterator[Browser]:
    server = Server(runs, port=0)
    server.start()
    browser = Browser(server)
    try:
        yield browser
    finally:
        browser.http.close()
        server.stop()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """A folder of finished runs, one of them in a folder of its own; nothing changes it."""
    folder = tmp_path_factory.mktemp("recorded")
    make_sample_run(folder / "healthy", "healthy", 300)
    make_sample_run(folder / "edge", "edge", 300)
    make_sample_run(folder / "sweep" / "lr 0.1 % ü", "saddle", 500)
    make_sample_run(folder / "sweep" / "series", "canyon", 20)
    return folder


@pytest.fixture(scope="session")
def browser(recorded) -> Iterator[Browser]:
    with serving(recorded) as browser:
        yield browser
