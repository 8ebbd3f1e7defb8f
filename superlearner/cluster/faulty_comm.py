"""One connection of the transports ``faulty://`` and ``faulty+tls://``: it asks for each message whether it may pass.

The lanes of its link (`superlearner.cluster.lanes`) hold what may not: outgoing messages as the bytes that they
are, incoming ones as they were read, and the end of the connection as the last of them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from ssl import SSLError
from typing import Any

from dask.sizeof import sizeof
from distributed.comm.core import CommClosedError
from distributed.comm.tcp import TCP, TLS, convert_stream_closed_error
from tornado.iostream import IOStream, StreamClosedError

from superlearner.cluster.lanes import Endpoint, Lane
from superlearner.cluster.wire import MessageReader, encode
from superlearner.core.faults import CLIENT, SCHEDULER

_KEY = "superlearner"


class _Pen:
    """Stands in for a comm and its stream: `TCP.write` serialises into it as it does for the wire."""

    def __init__(self, comm: FaultyTCP) -> None:
        self._comm = comm
        self.stream = self
        self._write_buffer: list[memoryview] = []
        self._total_write_index = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def write(self, data: bytes) -> None:
        """Be told that the message is complete."""

    @property
    def chunks(self) -> list[memoryview]:
        """The message as it would have been written."""
        return self._write_buffer


class FaultyTCP(TCP):
    """A connection that asks the lanes of its link before it reads and writes."""

    #: None once this end is closed.
    stream: IOStream | None

    def __init__(self, endpoint: Endpoint, *args: Any) -> None:
        self.exempt = False
        self._endpoint = endpoint
        #: The peer's handshake, where it was read before Dask asked for it.
        self._greeting: dict[str, Any] | None = None
        self._met = False
        # None: no fault can concern this connection.
        self._out: Lane | None = None
        self._in: Lane | None = None
        #: Reads ahead while the lane in is not open, so that each message travels for itself.
        self._ahead: asyncio.Task[None] | None = None
        self._inbox: deque[Any] = deque()
        self._wake: asyncio.Future[None] | None = None
        #: Why no more will be read, once that may be known.
        self._end: str | None = None
        #: Whether the other side has closed, and this side may not know it yet.
        self._end_held = False
        super().__init__(*args)
        assert self.stream is not None
        self._reader = MessageReader(self.stream)
        self.stream.set_close_callback(partial(_on_stream_closed, weakref.ref(self)))

    # -- Who is at the other end ---------------------------------------------------------------------

    def handshake_info(self) -> dict[str, Any]:
        """Tell Dask's facts with this end's name; the scheduler tells the rules that hold now, too."""
        mine: dict[str, Any] = {"name": self._endpoint.name, "exempt": self.exempt}
        if self._endpoint.name == SCHEDULER:
            mine["rules"] = [self._endpoint.version, self._endpoint.plain()]
        return {**super().handshake_info(), _KEY: mine}

    async def greet(self) -> None:
        """Learn who listens there, and wait until a new connection may pass; the listener speaks first."""
        self._greeting = await self._read_message()
        self._meet(self._greeting)
        if self._out is None:
            return
        me, peer = self._endpoint.name, self._peer_of(self._greeting)
        for lane in (
            self._endpoint.lane(me, peer, shaped=True),
            self._endpoint.lane(peer, me, shaped=True),
        ):
            if not lane.open and not await lane.passed():
                raise CommClosedError(f"in {self}: lost on purpose while connecting")

    @staticmethod
    def _peer_of(handshake: Any) -> str:
        return str(handshake.get(_KEY, {}).get("name", CLIENT)) if isinstance(handshake, dict) else CLIENT

    def _meet(self, handshake: Any) -> None:
        """Find the lanes of this connection, now that the peer is known."""
        self._met = True
        me, peer = self._endpoint.name, self._peer_of(handshake)
        told = handshake.get(_KEY, {}) if isinstance(handshake, dict) else {}
        self.exempt = self.exempt or bool(told.get("exempt"))
        if me in {CLIENT, peer} or self.exempt:
            return
        if peer == SCHEDULER and "rules" in told:
            self._endpoint.adopt(*told["rules"])
        self._out = self._endpoint.lane(me, peer, shaped=True)
        self._in = self._endpoint.lane(peer, me, shaped=peer == CLIENT)

    # -- Out -----------------------------------------------------------------------------------------

    def write(self, msg: Any, serializers: Any = None, on_error: str | None = "message") -> Awaitable[int]:
        """Write a message, or hold it until its link lets it pass."""
        if self._passes_out:
            return super().write(msg, serializers, on_error)
        return self._write_held(msg, serializers, on_error)

    @property
    def _passes_out(self) -> bool:
        """Whether what is written leaves at once."""
        return (self._out is None or self._out.open) and not self._end_held

    def write_plain(self, message: Any) -> None:
        """Write, before this returns, a message that consists of what msgpack knows, or hold it as `write` does.

        Raises
        ------
        TypeError, ValueError, OverflowError
            There is something else in it; nothing was written.
        CommClosedError
            This end is closed.
        """
        pieces = encode(message)
        if not self._passes_out:
            self._hold(sum(map(len, pieces)), [memoryview(piece) for piece in pieces])
        elif self.stream is None:
            raise CommClosedError(f"in {self}: closed")
        else:
            with suppress(StreamClosedError):  # the other side has closed meanwhile, as the reader will learn
                for piece in pieces:
                    self.stream.write(piece)

    async def _write_held(self, msg: Any, serializers: Any, on_error: str | None) -> int:
        pen = _Pen(self)
        size: int = await TCP.write(pen, msg, serializers, on_error)
        self._hold(size, pen.chunks)
        return size

    def _hold(self, size: int, chunks: list[memoryview]) -> None:
        if self.closed():
            raise CommClosedError(f"in {self}: closed")
        assert self._out is not None
        if not self._out.push(size, partial(self._send, chunks)):
            self.abort()
            raise CommClosedError(f"in {self}: lost on purpose")

    def _send(self, chunks: list[memoryview]) -> None:
        stream = self.stream
        if stream is None:
            return
        with suppress(StreamClosedError):  # the other side has closed meanwhile, as the reader will learn
            for chunk in chunks:
                stream.write(chunk)

    # -- In ------------------------------------------------------------------------------------------

    async def read(self, deserializers: Any = None) -> Any:
        """Read the next message that its link has let pass."""
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            return greeting
        if self._ahead is None and not self._inbox and not self._end_held:
            try:
                message = await self._read_message(deserializers)
            except CommClosedError as end:
                if self._in is None or self._in.open or self._end is not None:
                    raise
                self._hold_end(str(end))
            else:
                if not self._met:
                    self._meet(message)
                if self._in is None or self._in.open:
                    return message
                self._arrive(message)
                self._ahead = asyncio.create_task(self._read_ahead(deserializers))
        return await self._next()

    async def _read_message(self, deserializers: Any = None) -> Any:
        """Read what comes next, whether it may pass or not; the ends are those of `TCP.read`."""
        if self.stream is None:
            raise CommClosedError
        try:
            return await self._reader.read(
                deserialize=self.deserialize, deserializers=deserializers, allow_offload=self.allow_offload
            )
        except (StreamClosedError, SSLError) as error:
            self.stream = None
            self._closed = True
            convert_stream_closed_error(self, error)
        except EOFError:
            self.abort()
            raise CommClosedError("aborted stream on truncated data") from None
        except BaseException:
            # How much of a message was read is not known: nothing that comes after it makes sense.
            self.abort()
            raise

    async def _next(self) -> Any:
        """Wait for what the lane lets go."""
        while not self._inbox:
            if self._end is not None:
                raise CommClosedError(self._end)
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._inbox.popleft()

    async def _read_ahead(self, deserializers: Any) -> None:
        """Let messages enter the lane as they come, until that is open again."""
        assert self._in is not None
        try:
            while not self._in.open:
                self._arrive(await self._read_message(deserializers))
        except CommClosedError as end:
            if self._end is None:
                self._hold_end(str(end))
        finally:
            self._ahead = None

    def _arrive(self, message: Any) -> None:
        assert self._in is not None
        if not self._in.push(sizeof(message), partial(self._deliver, message)):
            self.abort()

    def _deliver(self, message: Any) -> None:
        self._inbox.append(message)
        self._stir()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- The end -------------------------------------------------------------------------------------

    def closed(self) -> bool:
        """Return whether this end is closed, or knows that the other one is."""
        return self._closed and not self._end_held

    def abort(self) -> None:
        """Close at once."""
        self._leave()
        super().abort()

    def close(self) -> Awaitable[None]:
        """Close after what is being written; what a fault holds back is dropped."""
        self._leave()
        return super().close()

    def _hold_end(self, end: str) -> None:
        """Keep the end of the other side back until it may pass, after all that came before it."""
        assert self._in is not None
        if not self._end_held:
            self._end_held = True
            if not self._in.push(0, partial(self._let_end, end)):
                self._let_end(end)  # an end cannot be lost

    def _let_end(self, end: str) -> None:
        self._closed, self._end_held, self._end = True, False, end
        self._stir()

    def _leave(self) -> None:
        """Forget what is held: this side has closed."""
        if self._end is None:
            self._end = f"in {self}: closed here"
        self._end_held = False
        for lane in (self._out, self._in):
            if lane is not None:
                lane.clear()
        if self._ahead is not None and not self._ahead.get_loop().is_closed():
            self._ahead.cancel()
        self._stir()

    def stream_closed(self) -> None:
        """Be told that the stream has ended, whoever ended it."""
        if self._in is None or self._in.open or self._end is not None:
            self._closed = True
        else:
            self._hold_end(f"in {self}: the other side has closed")


def _on_stream_closed(ref: weakref.ref[FaultyTCP]) -> None:
    """Tell a connection of its end, without keeping it alive until then."""
    comm = ref()
    if comm is not None:
        comm.stream_closed()


class FaultyTLS(FaultyTCP, TLS):
    """The same over TLS."""
