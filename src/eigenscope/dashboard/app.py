"""The dashboard as one ASGI application."""

import os
from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from eigenscope.dashboard.api import Api, http_error, input_error, unexpected_error
from eigenscope.dashboard.live import Live
from eigenscope.dashboard.pages import Pages
from eigenscope.dashboard.security import LOOPBACK_HOSTS, Security
from eigenscope.dashboard.table import RunTable
from eigenscope.errors import InputError


def create_app(runs: str | os.PathLike[str], token: str, allowed_hosts: Collection[str] = LOOPBACK_HOSTS) -> ASGIApp:
    """The dashboard over `runs`, a run file or a folder of them.

    `token` is asked of every request that changes state; `allowed_hosts` are the names, without port, under
    which the server may be addressed. Raises `RunFileError` where `runs` is neither a folder nor a run.
    """
    table = RunTable(runs)
    routes = [
        WebSocketRoute("/api/live", Live(table).endpoint),
        *Api(table).routes(),
        Route("/{path:path}", Pages().serve),
    ]
    handlers = {HTTPException: http_error, InputError: input_error, Exception: unexpected_error}
    return Security(Starlette(routes=routes, exception_handlers=handlers), token, allowed_hosts)
