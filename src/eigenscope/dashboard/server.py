"""The dashboard as a running server on loopback, in this thread or beside it."""

import contextlib
import os
import secrets
import socket
import threading
import webbrowser

import uvicorn

from eigenscope.dashboard.app import create_app
from eigenscope.errors import InputError

HOST = "127.0.0.1"
DEFAULT_PORT = 8765
_PORTS_TO_TRY = 100


class Server:
    """A dashboard that is bound to its port; `run` serves here, `start` on a thread of its own.

    `port` None is 8765 or the next free one, 0 any free one. `url` is the address to open, with the token in
    its fragment, which browsers don't send. Raises `InputError` where the port can't be had, and
    `RunFileError` where `runs` is neither a folder nor a run.
    """

    def __init__(self, runs: str | os.PathLike[str], port: int | None = None) -> None:
        token = secrets.token_urlsafe(24)
        app = create_app(runs, token)
        self._socket = _bind_default() if port is None else _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/#token={token}"
        self._thread: threading.Thread | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,  # the program that trains keeps its logging as it is
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                ws_per_message_deflate=False,  # loopback has room, and ten pages would compress ten times
                timeout_graceful_shutdown=1,
            )
        )

    def run(self) -> None:
        """Serve until Ctrl+C or `stop`."""
        with contextlib.suppress(KeyboardInterrupt), self._socket:
            self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Serve on a daemon thread. Requests that come before it is ready wait in the socket's queue."""
        self._thread = threading.Thread(target=self.run, name="eigenscope-dashboard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread of `start`."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()


def serve(
    runs: str | os.PathLike[str],
    port: int | None = None,
    *,
    open_browser: bool = True,
    background: bool = False,
) -> Server:
    """Serve the dashboard over `runs`, print its address, and open it in the browser.

    Blocks until Ctrl+C; with `background` returns at once while a daemon thread serves. Raises as `Server`.
    """
    server = Server(runs, port)
    print(f"eigenscope dashboard: {server.url}", flush=True)
    if open_browser:
        webbrowser.open(server.url)
    if background:
        server.start()
    else:
        server.run()
    return server


def _bind_default() -> socket.socket:
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TO_TRY):
        with contextlib.suppress(InputError):
            return _bind(port)
    return _bind(0)


def _bind(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} does not exist: give one from 1 to 65535, or --port 0 for a free one")
    listener = socket.socket()
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()  # now, and not when serving begins: until then another could bind the port too
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} can't be used ({error.strerror}): choose another, or --port 0 picks a free one"
        ) from error
    return listener
