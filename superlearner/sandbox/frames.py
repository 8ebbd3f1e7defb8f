r"""The frames between an instance and its host: a 4-byte length, then a msgpack array.

msgpack rather than pickle, so that a hurt sandbox cannot run code in the worker. Writes made within one
turn of the event loop leave as one; a peer that does not read makes the writer wait (`FrameStream.drained`).

>>> pack(["ping", 1])
b'\x00\x00\x00\x07\x92\xa4ping\x01'
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgpack

from superlearner.errors import SuperlearnerError

#: Bytes that one frame may have, unless a stream is given another limit.
MAX_FRAME = 256 * 2**20
#: Bytes that wait in the transport before writes count as blocked.
HIGH_WATER = 2**20
_BUFFER = 2**16
#: How many frames leave together before the end of the turn.
_TOGETHER = 64
_LENGTH = struct.Struct(">I")
#: Bytes from which on a copy costs more than a second write.
MUCH = 2**16
#: Bytes after which the packer, whose buffer never shrinks, is replaced.
_LARGE = 2**20


def _packer() -> Callable[[Any], bytes]:
    return msgpack.Packer(use_bin_type=True, autoreset=True).pack  # type: ignore[no-any-return]


_pack = _packer()


class FrameError(SuperlearnerError):
    """A frame is too large or no frame at all; the stream it came on is closed."""

    code = "frame_error"


def packed(thing: Any) -> bytes:
    """Return something as msgpack; what that does not know is a TypeError, ValueError or OverflowError."""
    global _pack  # noqa: PLW0603 - one packer serves all streams: making one costs more than packing
    body = _pack(thing)
    if len(body) > _LARGE:
        _pack = _packer()
    return body


def pack(frame: list[Any], limit: int = MAX_FRAME) -> bytes:
    """Return the bytes of a frame; raise `FrameError` when it has more than `limit`."""
    return b"".join(_pieces(frame, limit))


def pieces(head: bytes, body: bytes) -> list[bytes]:
    """Return what is written of a message: one piece, or two where a copy would cost more than a second write.

    >>> pieces(b"h", b"body")
    [b'hbody']
    >>> [len(piece) for piece in pieces(b"h", bytes(MUCH))]
    [1, 65536]
    """
    return [head + body] if len(body) < MUCH else [head, body]


def _pieces(frame: list[Any], limit: int) -> list[bytes]:
    body = packed(frame)
    if len(body) > limit:
        raise FrameError(
            f"A message of {len(body):,} bytes is above the limit of {limit:,}: send less at once"
        )
    return pieces(_LENGTH.pack(len(body)), body)


class FrameStream(asyncio.BufferedProtocol):
    """One end of a stream of frames.

    Parameters
    ----------
    on_frame
        Called with each frame as it arrives; it must not block. An exception it raises closes the stream.
    on_close
        Called once when the stream has ended, with the reason: None for the peer's end of file or our close.
    limit
        Bytes that one frame may have, either way.
    """

    def __init__(
        self,
        on_frame: Callable[[list[Any]], None],
        on_close: Callable[[Exception | None], None],
        limit: int = MAX_FRAME,
    ) -> None:
        self._on_frame = on_frame
        self._on_close = on_close
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_BUFFER)
        self._start = 0
        self._end = 0
        self._needed = 4
        self._outgoing: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._error: Exception | None = None
        #: Bytes written and not yet taken by the transport.
        self.queued = 0
        #: Whether the peer is behind with reading.
        self.blocked = False
        #: Whether nothing can be written any more.
        self.closed = False

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        on_frame: Callable[[list[Any]], None],
        on_close: Callable[[Exception | None], None],
        limit: int = MAX_FRAME,
    ) -> FrameStream:
        """Run a stream over a connected socket, which the stream then owns."""
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_unix_connection(lambda: cls(on_frame, on_close, limit), sock=sock)
        return stream

    # -- Writing

    def write(self, frame: list[Any]) -> None:
        """Send a frame; it leaves at the end of this turn of the loop. On a closed stream it is dropped.

        Raises
        ------
        FrameError
            When the frame is above the limit; the stream goes on.
        """
        for piece in _pieces(frame, self._limit):
            self.send(piece)

    def send(self, data: bytes) -> None:
        """Send what `pack` has made, or the rest of it; nothing when that is empty."""
        if self.closed or not data:
            return
        if not self._outgoing and not self.blocked:
            self._loop.call_soon(self._flush)
        self._outgoing.append(data)
        self.queued += len(data)
        if len(self._outgoing) >= _TOGETHER:
            self._flush()  # the peer begins while this side goes on

    def _flush(self) -> None:
        if self._outgoing and not self.blocked and not self.closed and self._transport is not None:
            pieces = self._outgoing if self.queued >= MUCH else [b"".join(self._outgoing)]
            self._outgoing = []
            self.queued = 0
            for piece in pieces:
                self._transport.write(piece)

    def push(self) -> None:
        """Send what was written now, not at the end of the turn: the peer begins while this side goes on."""
        self._flush()

    def pause_writing(self) -> None:
        """Called by the transport: the peer is behind."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Called by the transport: the peer has caught up."""
        self.blocked = False
        self._flush()
        if not self.blocked:
            self._wake()

    async def drained(self) -> None:
        """Wait until the peer has kept up with reading, or the stream has ended."""
        self._flush()
        if self.blocked and not self.closed:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- Reading

    def pause_reading(self) -> None:
        """Take no more frames for now, so that the peer has to wait."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take frames again."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the transport: return where the next bytes go."""
        if self._start:
            # The rest of a frame that came in part moves to the front: at most one frame's bytes.
            self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
            self._end -= self._start
            self._start = 0
        if self._needed > len(self._buffer):
            grown = bytearray(self._needed)
            grown[: self._end] = self._buffer[: self._end]
            self._buffer = grown
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the transport: take the frames that are whole."""
        self._end += nbytes
        try:
            self._parse()
        except Exception as error:
            # Past a bad frame nothing on the stream can be trusted; the owner is told why by on_close.
            self._fail(error)

    def _parse(self) -> None:
        start, end = self._start, self._end
        view = memoryview(self._buffer)
        try:
            while end - start >= 4:
                size = _LENGTH.unpack_from(view, start)[0]
                if size > self._limit:
                    raise FrameError(f"A message of {size:,} bytes came, above the limit of {self._limit:,}.")
                stop = start + 4 + size
                if stop > end:
                    self._needed = 4 + size
                    break
                frame = msgpack.unpackb(view[start + 4 : stop], use_list=True, strict_map_key=False)
                self._start = start = stop
                self._needed = 4
                self._on_frame(frame)
        finally:
            view.release()
        if start == end:
            self._start = self._end = 0
            if len(self._buffer) > _BUFFER and self._needed <= _BUFFER:
                self._buffer = bytearray(_BUFFER)

    def _fail(self, error: Exception) -> None:
        self._error = error
        if self._transport is not None:
            self._transport.abort()

    # -- The ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport: the stream is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def eof_received(self) -> bool:
        """Called by the transport: the peer has closed; so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport: the stream has ended."""
        self.closed = True
        self._outgoing.clear()
        self.queued = 0
        self._wake()
        self._on_close(self._error or exc)

    def close(self) -> None:
        """Send what was written, then end the stream."""
        self._flush()
        self.closed = True
        if self._transport is not None:
            self._transport.close()
