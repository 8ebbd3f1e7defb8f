"""What a host writes to its standard output and error: read at a bounded pace, the last of it kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque

from superlearner.core.last_words import last_words

#: Bytes of output that are kept.
OUTPUT_KEPT = 64 * 1024
#: Bytes of them that may come from the hosts before the present one.
PAST_KEPT = 16 * 1024
#: Bytes that a host may write before its node takes a pause in reading, and the seconds of that pause. One that
#: floods its output waits for its reader, and leaves the node its time for the neighbours: 20 MiB/s at most.
BURST = 2**20
PAUSE = 0.05
#: Bytes that are still read after the end of a host; a pipe holds less.
_REST = 2**20


class Output(asyncio.Protocol):
    """The output of one host. Make one with `open`; `close` it when the host has ended."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._burst = 0
        self._transport: asyncio.ReadTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, pipe: int) -> Output:
        """Read from the reading end of a pipe, which the output then owns."""
        loop = asyncio.get_running_loop()
        _, output = await loop.connect_read_pipe(lambda: cls(pipe), os.fdopen(pipe, "rb", buffering=0))
        return output

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport: the pipe is open."""
        assert isinstance(transport, asyncio.ReadTransport)
        self._transport = transport

    @property
    def tail(self) -> bytes:
        """The last 64 KiB."""
        return b"".join(self._kept)[-OUTPUT_KEPT:]

    @property
    def last_line(self) -> str:
        """The line of it that tells most of its end, cut to 500 characters."""
        return last_words(self.tail.decode(errors="replace"))[:500]

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self._keep(data)
        self._burst += len(data)
        if self._timer is None:
            # Every pause begins a burst anew, so a host that writes now and then never waits.
            self._timer = self._loop.call_later(PAUSE, self._go_on)
        if self._burst > BURST and self._transport is not None:
            self._transport.pause_reading()

    def _go_on(self) -> None:
        self._timer, self._burst = None, 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._size += len(data)
        while self._size - len(self._kept[0]) >= OUTPUT_KEPT:
            self._size -= len(self._kept.popleft())

    def close(self) -> None:
        """Read what is left, without waiting, and let go of the pipe; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if not transport.is_closing():
            left = _REST
            # Nothing more to read now, which asyncio's non-blocking pipe tells by an error.
            with contextlib.suppress(BlockingIOError):
                while left > 0 and (data := os.read(self._pipe, 65536)):
                    left -= len(data)
                    self._keep(data)
        transport.close()


def joined(past: bytes, present: bytes) -> str:
    r"""Return the output of a sandbox: the tail of its former hosts, and that of its present one.

    >>> joined(b"before\n", b"now\n")
    'before\nnow\n'
    """
    past = past[-PAST_KEPT:]
    text = past + present[-(OUTPUT_KEPT - len(past)) :]
    return text.decode(errors="replace")


def farewell(past: bytes, output: bytes, pid: int, reason: object) -> bytes:
    r"""Return what is kept of a sandbox's output when a host of it has ended, with a line that marks the end.

    >>> farewell(b"", b"good bye", 77, "exit code 3")
    b'good bye\n--- OS process 77 ended: exit code 3 ---\n'
    """
    text = past + output
    newline = b"" if not text or text.endswith(b"\n") else b"\n"
    return (text + newline + f"--- OS process {pid} ended: {reason} ---\n".encode())[-PAST_KEPT:]
