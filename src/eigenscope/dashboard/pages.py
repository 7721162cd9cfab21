"""The page, its scripts and its styles, out of the installed package."""

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

# Not asked of the system: some Windows registries call .js text/plain, and modules then don't load.
MEDIA_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    "": "text/plain",
}


class Pages:
    """Serves what was in `static/` when the program started; a path is a key here, and never opens a file."""

    def __init__(self, root: Traversable | None = None) -> None:
        self._files = dict(_walk(root or files("eigenscope.dashboard").joinpath("static")))

    def serve(self, request: Request) -> Response:
        """The file at the request's path, or 304 where the browser has it already."""
        path = request.scope["path"].lstrip("/") or "index.html"
        if path not in self._files:
            raise HTTPException(404, f"there is no page {path!r}")
        content = self._files[path].read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"etag": etag, "cache-control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=MEDIA_TYPES[PurePosixPath(path).suffix], headers=headers)


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif PurePosixPath(entry.name).suffix in MEDIA_TYPES:
            yield prefix + entry.name, entry
