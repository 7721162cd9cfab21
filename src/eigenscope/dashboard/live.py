"""What is new, pushed to every page that listens: one thread looks at a run on behalf of all of them.

Nobody listens, nobody looks.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from starlette.websockets import WebSocket, WebSocketDisconnect

from eigenscope.dashboard.feeds import Feed, ListFeed, RunFeed
from eigenscope.dashboard.strict_json import StrictJSON, dumps
from eigenscope.dashboard.table import RunTable
from eigenscope.errors import InputError

MAX_BACKLOG = 64  # messages that wait for one page
RESYNC = dumps({"type": "resync"})


class Listener:
    """The messages that wait for one page; beyond `MAX_BACKLOG` it is told to start over instead."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def put(self, message: str) -> None:
        """Add a message, or replace all that wait by one `resync`."""
        if self._queue.qsize() >= MAX_BACKLOG:
            while not self._queue.empty():
                self._queue.get_nowait()
            message = RESYNC
        self._queue.put_nowait(message)

    async def get(self) -> str:
        """The next message, when there is one."""
        return await self._queue.get()


class Channel:
    """The listeners of one feed, and the thread that looks at it while there are any."""

    def __init__(self, open_feed: Callable[[], Feed]) -> None:
        self._open_feed = open_feed
        self._listeners: set[Listener] = set()
        self._stop = threading.Event()
        self._begun: asyncio.Future[InputError | None] | None = None

    async def join(self, listener: Listener) -> None:
        """Listen; on return nothing that is written from now on is missed. Raises what the feed raises."""
        self._listeners.add(listener)
        if self._begun is None:
            loop = asyncio.get_running_loop()
            self._begun, self._stop = loop.create_future(), threading.Event()
            arguments = (loop, self._begun, self._stop)
            threading.Thread(target=self._look, args=arguments, name="eigenscope-feed", daemon=True).start()
        error = await asyncio.shield(self._begun)
        if error is not None:
            raise error

    def leave(self, listener: Listener) -> bool:
        """Stop listening; True where nobody is left, which ends the thread."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._stop.set()
            self._begun = None
        return not self._listeners

    def _look(
        self,
        loop: asyncio.AbstractEventLoop,
        begun: "asyncio.Future[InputError | None]",
        stop: threading.Event,
    ) -> None:
        """The thread: open the feed, then hand on what it says until told to stop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone
            try:
                feed = self._open_feed()
            except InputError as error:
                loop.call_soon_threadsafe(begun.set_result, error)
                return
            except Exception as error:  # else the page that waits would wait for ever
                loop.call_soon_threadsafe(begun.set_exception, error)
                return
            with contextlib.closing(feed):
                loop.call_soon_threadsafe(begun.set_result, None)
                while not stop.wait(feed.seconds):
                    if messages := [dumps(message) for message in feed.messages()]:
                        loop.call_soon_threadsafe(self._broadcast, messages, stop)

    def _broadcast(self, messages: list[str], stop: threading.Event) -> None:
        if stop.is_set():
            return  # said for listeners who have left; the ones of now have a thread of their own
        for listener in self._listeners:
            for message in messages:
                listener.put(message)


class Live:
    """The WebSocket at /api/live, over one table of runs."""

    def __init__(self, table: RunTable) -> None:
        self._table = table
        self._list = Channel(lambda: ListFeed(table))
        self._runs: dict[str, Channel] = {}

    async def endpoint(self, websocket: WebSocket) -> None:
        """Push the list's changes, and those of `?run=`, to one page until it leaves."""
        run_id = websocket.query_params.get("run")
        listener = Listener()
        try:
            await self._list.join(listener)
            if run_id is not None:
                await self._channel(run_id).join(listener)
            await websocket.accept()
            await _push(websocket, listener)
        except InputError as error:
            await websocket.send_denial_response(StrictJSON({"error": str(error)}, status_code=404))
        finally:
            self._list.leave(listener)
            if run_id is not None and self._channel(run_id).leave(listener):
                del self._runs[run_id]

    def _channel(self, run_id: str) -> Channel:
        if run_id not in self._runs:
            self._runs[run_id] = Channel(lambda: RunFeed(self._table, run_id))
        return self._runs[run_id]


async def _push(websocket: WebSocket, listener: Listener) -> None:
    async def send() -> None:
        while True:
            await websocket.send_text(await listener.get())

    sender = asyncio.create_task(send())
    try:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
    finally:
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
            await sender
