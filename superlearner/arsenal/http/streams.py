"""Live events: Server-Sent Events from the cluster's event log, which go on where the client left off."""

from __future__ import annotations

import asyncio
import json

from tornado.iostream import StreamClosedError

from superlearner.arsenal import refusals as r
from superlearner.arsenal.http.handlers import Talks
from superlearner.arsenal.http.house import LOST, House
from superlearner.arsenal.plain import event_json
from superlearner.core.history import Event

#: Seconds of silence after which a comment is sent: that is how the end of a silent client is noticed.
KEEP_ALIVE = 15.0
#: How many events may wait for one client; a slower one is let go, and comes back with Last-Event-ID.
WAITING = 2000


class Events(Talks):
    """``events/stream``: events from now on, or after ``Last-Event-ID`` or ``since``; one ``kind``, one ``sandbox``."""

    _KNOWN = frozenset({"since", "kind", "sandbox"})

    async def get(self) -> None:
        """Send events until one of both sides goes away."""
        if not self.admit():
            return
        if self.house.streams >= self.house.limits.streams:
            self.fail(r.TooManyRequests(KEEP_ALIVE))
            return
        self.house.streams += 1
        try:
            await self._stream()
        except (StreamClosedError, asyncio.CancelledError):
            pass  # the client has gone, or the server goes
        except Exception as error:
            if not self._headers_written:
                self.fail(error)
        finally:
            self.house.streams -= 1

    async def _stream(self) -> None:
        since, kind, sandbox = self._asked()
        cluster = await self.house.door.cluster()
        queue: asyncio.Queue[Event] = asyncio.Queue(WAITING)
        full = asyncio.Event()

        def take(event: Event) -> None:
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                full.set()

        stop = cluster.subscribe(take, kind)
        try:
            earlier: list[Event] = []
            if since is not None:
                try:
                    earlier = await cluster.events(since, kind, sandbox)
                except LOST:
                    await self.house.door.lost(cluster)
                    raise
            self.set_header("Content-Type", "text/event-stream")
            self.set_header("Cache-Control", "no-store")
            self.set_header("X-Accel-Buffering", "no")  # a proxy must not hold it back
            self.write("retry: 1000\n\n")
            newest = since or 0
            for event in earlier:
                newest = self._tell(event, newest)
            await self.flush()
            await self._follow(queue, full, sandbox, newest)
        finally:
            stop()

    async def _follow(
        self, queue: asyncio.Queue[Event], full: asyncio.Event, sandbox: str | None, newest: int
    ) -> None:
        ends = [asyncio.ensure_future(one.wait()) for one in (full, self.house.stopping, self._gone)]
        try:
            while True:
                waiting = asyncio.ensure_future(queue.get())
                done, _ = await asyncio.wait(
                    (waiting, *ends), timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED
                )
                if waiting not in done:
                    waiting.cancel()
                    if done:
                        return
                    self.write(": still here\n\n")
                else:
                    events = [waiting.result()]
                    while not queue.empty():
                        events.append(queue.get_nowait())
                    for event in events:
                        if sandbox is None or event.sandbox == sandbox:
                            newest = self._tell(event, newest)
                    if any(event.kind == "cluster_stopped" for event in events):
                        await self.flush()
                        return
                await self.flush()
        finally:
            for end in ends:
                end.cancel()

    def _tell(self, event: Event, newest: int) -> int:
        if event.seq > newest:
            body = json.dumps(event_json(event))
            self.write(f"id: {event.seq}\nevent: {event.kind}\ndata: {body}\n\n")
        return max(event.seq, newest)

    def _asked(self) -> tuple[int | None, str | None, str | None]:
        for name, values in self.request.query_arguments.items():
            if name not in self._KNOWN or len(values) != 1:
                raise r.InvalidParameters(
                    "events/stream", ((name, "there is no such query parameter, or it is twice"),)
                )
        last = self.request.headers.get("Last-Event-ID") or self.get_query_argument("since", None)
        if last is not None and not (last.isascii() and last.isdecimal() and len(last) < 19):
            raise r.InvalidParameters("events/stream", (("since", "it must be the number of an event"),))
        kind, sandbox = self.get_query_argument("kind", None), self.get_query_argument("sandbox", None)
        return None if last is None else int(last), kind, sandbox

    def initialize(self, house: House) -> None:
        """Take what the server's handlers share."""
        super().initialize(house)
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        """Let go of a client that has gone."""
        super().on_connection_close()
        self._gone.set()
