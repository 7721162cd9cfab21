"""Starting and stopping: ports, threads, Ctrl+C; and the command around it."""

import argparse
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from dashboard.conftest import Browser
from eigenscope.cli import dashboard as command
from eigenscope.dashboard import Server, serve
from eigenscope.dashboard import server as module
from eigenscope.errors import InputError


@pytest.fixture
def taken():
    """A port that another program listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="eigenscope")
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["dashboard", *words])


def test_a_server_on_a_thread_answers_and_ends(tmp_path):
    server = Server(tmp_path, port=0)
    server.start()
    assert httpx.get(f"http://127.0.0.1:{server.port}/api/runs").json() == []
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.port}/api/runs")


def test_serve_prints_the_address_and_opens_it(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    server = serve(tmp_path, 0, background=True)
    server.stop()
    assert capsys.readouterr().out == f"eigenscope dashboard: {server.url}\n"
    assert opened == [server.url]
    assert server.url.startswith(f"http://127.0.0.1:{server.port}/#token=")


def test_a_port_in_use_is_told_with_the_remedy(tmp_path, taken):
    with pytest.raises(InputError, match=rf"port {taken} .*in use.*: choose another, or --port 0 picks a free one"):
        Server(tmp_path, port=taken)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_told(tmp_path, port):
    with pytest.raises(InputError, match=f"port {port} does not exist: give one from 1 to 65535"):
        Server(tmp_path, port=port)


def test_the_default_port_makes_way(tmp_path, taken, monkeypatch):
    monkeypatch.setattr(module, "DEFAULT_PORT", taken)
    server = Server(tmp_path)
    assert taken < server.port < taken + 100
    server.start()
    server.stop()


def test_two_servers_never_share_a_port(tmp_path):
    first = Server(tmp_path, port=0)
    with pytest.raises(InputError, match="in use"):
        Server(tmp_path, port=first.port)
    first.start()
    first.stop()


def test_stopping_ends_open_pages(tmp_path):
    server = Server(tmp_path, port=0)
    server.start()
    browser = Browser(server)
    with browser.listen() as page:
        server.stop()
        with pytest.raises(ConnectionClosed):
            page.recv(timeout=20)
    browser.http.close()


def test_the_command_hands_on_what_it_was_given(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(module, "serve", lambda runs, port, **rest: asked.update(runs=runs, port=port, **rest))
    args = parse(str(tmp_path), "--port", "0", "--no-browser")
    assert args.run(args) == 0
    assert asked == {"runs": str(tmp_path), "port": 0, "open_browser": False}
    args = parse("runs")
    assert args.run(args) == 0
    assert asked == {"runs": "runs", "port": None, "open_browser": True}


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "eigenscope dashboard runs/first.eigenscope" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+C is sent otherwise there")
def test_ctrl_c_ends_it_with_status_0(tmp_path):
    code = f"from eigenscope.dashboard import serve; serve({str(tmp_path)!r}, 0, open_browser=False)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1].decode().partition("#")[0]
        assert httpx.get(f"{address}api/runs").json() == []
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
