"""One pipelined Dask comm for many requests in flight.

A client keeps one channel to the control plane and one to each node that it calls. A request is a tuple
``(verb, id, *fields)``; its answer ``(id, status, payload)``. The status is 0 (payload: the serialised
value), 1 (payload: a serialised exception) or 2 (refused: ``[code, definite, message]``); what is pushed
without a request, such as an event, has id 0. Calls may travel together (`superlearner.cluster.together`), and
so may answers of status 0: then id and payload are sequences of them.

Messages leave at the end of the turn of the loop in which they were sent, as one batch. That gives both the latency
of a direct write and the throughput of batching without a timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from distributed.comm import Comm, CommClosedError
from distributed.comm import connect as dask_connect

from superlearner.cluster.faulty_comm import FaultyTCP
from superlearner.cluster.together import together
from superlearner.otp._deadlines import Deadlines, Waiting

logger = logging.getLogger(__name__)
Answer = tuple[int, Any]  # (status, payload)
Pack = Callable[[list[Any]], list[Any]]
#: How many lengths of limits share timers; those of other lengths have timers of their own.
_MOST_LIMITS = 16

#: The handlers at which channels are opened: at the control plane, and at a node by clients and by other nodes.
CONTROL_OP = "superlearner_control"
CHANNEL_OP = "superlearner_channel"
BETWEEN_OP = "superlearner_between"


class ChannelClosed(ConnectionError):
    """The comm broke, or was closed, before the answer came; the request may have been handled."""


class Writer:
    """Sends messages over `comm` in order, in batches that form by themselves under load.

    Each batch is sent as `pack` returns it.
    """

    def __init__(self, comm: Comm, pack: Pack = list) -> None:
        self.comm = comm
        # Dask would estimate the size of each message, to write large ones from a thread: ours are bytes already.
        comm.allow_offload = False
        self._pack = pack
        self._queue: list[Any] = []
        self._loop = asyncio.get_running_loop()
        #: Writes at once; else a task writes.
        self._write = comm.write_plain if isinstance(comm, FaultyTCP) else None
        self._writing: asyncio.Task[None] | None = None

    def send(self, message: Any) -> None:
        """Queue one message; what cannot be sent any more is dropped, as the reader side will tell."""
        if not self._queue:
            self._loop.call_soon(self._flush)
        self._queue.append(message)

    def _flush(self) -> None:
        if self._write is None:
            if self._writing is None or self._writing.done():
                self._writing = self._loop.create_task(self._run(), name="superlearner-channel-writer")
        elif self._queue:
            batch, self._queue = self._queue, []
            try:
                self._write(self._pack(batch))
            except Exception as error:
                self._fail(error)

    async def _run(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue, []
                await self.comm.write(self._pack(batch), on_error="raise")
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            # A message that cannot be encoded: without an end of the comm both sides would wait for ever.
            logger.error(
                "superlearner: a message could not be written to %s", self.comm.peer_address, exc_info=error
            )
        self.comm.abort()

    def cancel(self) -> None:
        """Stop sending at once; queued messages are dropped."""
        self._queue.clear()
        if self._writing is not None:
            self._writing.cancel()

    async def close(self) -> None:
        """Stop sending and wait until that is done."""
        self.cancel()
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)


class Channel:
    """The client's side of a channel."""

    def __init__(self, comm: Comm, on_push: Callable[[Any], None] | None = None, pack: Pack = list) -> None:
        self.comm = comm
        self._on_push = on_push
        self._ids = 0
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._writer = Writer(comm, pack)
        self._reader = asyncio.create_task(self._read(), name="superlearner-channel-reader")
        self._loop = asyncio.get_running_loop()
        #: Whether it can carry no more requests.
        self.closed = False
        #: By length: what ends the waiting of requests with such a limit.
        self._limits: dict[float, _Limits] = {}

    @classmethod
    async def open(
        cls,
        address: str,
        op: str,
        connection_args: dict[str, Any],
        *,
        timeout: float,
        on_push: Callable[[Any], None] | None = None,
    ) -> Channel:
        """Connect to the Dask server at `address` and turn the comm into a channel served by its handler `op`.

        Raises OSError when nobody answers there within `timeout` seconds.
        """
        try:
            comm = await dask_connect(address, timeout=timeout, **connection_args)
        except ValueError as error:
            # Tornado's word for a peer that closes between TCP's handshake and that of TLS.
            raise ConnectionError(f"{address} has closed: {error}") from error
        try:
            await comm.write({"op": op, "reply": False})
        except BaseException:
            comm.abort()
            raise
        return cls(comm, on_push, together if op == CHANNEL_OP else list)

    def post(self, verb: str, *fields: Any) -> None:
        """Send a message that has no answer."""
        if self.closed:
            raise ChannelClosed
        self._writer.send((verb, 0, *fields))

    async def request(
        self, verb: str, *fields: Any, deadline: float | None = None, limit: float | None = None
    ) -> Answer:
        """Send a request and wait for its ``(status, payload)``; raise `ChannelClosed` when it cannot come.

        It is sent before the first suspension, so requests made in order are sent in order. When the
        waiting task is cancelled, or when the loop's clock has passed `deadline`, or `limit` seconds are over
        (`TimeoutError`), a late answer is dropped. Requests with the same limit share a timer.
        """
        id, future = self._ask(verb, fields)
        timer: asyncio.TimerHandle | Waiting | None = None
        if limit is not None:
            timer = self._limit(future, limit)
        elif deadline is not None:
            # Not asyncio.timeout(): that costs as much as all the rest of this method.
            timer = self._loop.call_at(deadline, _expire, future)
        try:
            return await future
        except BaseException:  # else the reader has let go of it
            self._pending.pop(id, None)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def begin(self, verb: str, *fields: Any, limit: float) -> asyncio.Future[Answer]:
        """Send a request and return the future of its answer, without a task; it fails as `request` does."""
        id, future = self._ask(verb, fields)
        timer = self._limit(future, limit)

        def let_go(_: asyncio.Future[Answer]) -> None:
            self._pending.pop(id, None)
            timer.cancel()

        future.add_done_callback(let_go)
        return future

    def _ask(self, verb: str, fields: tuple[Any, ...]) -> tuple[int, asyncio.Future[Answer]]:
        if self.closed:
            raise ChannelClosed
        self._ids += 1
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._pending[self._ids] = future
        self._writer.send((verb, self._ids, *fields))
        return self._ids, future

    def _limit(self, future: asyncio.Future[Answer], seconds: float) -> Waiting | asyncio.TimerHandle:
        limits = self._limits.get(seconds)
        if limits is None:
            if len(self._limits) == _MOST_LIMITS:
                return self._loop.call_later(seconds, _expire, future)
            limits = self._limits[seconds] = _Limits(self._loop, seconds)
        return limits.add(future, None)

    async def _read(self) -> None:
        pending = self._pending
        try:
            while True:
                for message in await self.comm.read():
                    id = message[0]
                    if id.__class__ is tuple:
                        for one, payload in zip(id, message[2], strict=True):
                            future = pending.pop(one, None)
                            if future is not None and not future.done():
                                future.set_result((0, payload))
                    elif id != 0:
                        future = pending.pop(id, None)
                        if future is not None and not future.done():
                            future.set_result(message[1:])
                    elif self._on_push is not None:
                        self._on_push(message[1])
        except (CommClosedError, OSError):
            pass  # the reader's end is how everybody learns of it: see the finally clause
        finally:
            self.closed = True
            self.comm.abort()
            self._writer.cancel()  # nothing can be sent any more
            pending, self._pending = self._pending, {}
            for future in pending.values():
                if not future.done():
                    future.set_exception(ChannelClosed())
            for limits in self._limits.values():
                limits.close()

    async def wait_closed(self) -> None:
        """Wait until the other side is gone, or `close` was called."""
        await asyncio.wait([self._reader])

    def abort(self) -> None:
        """Break the channel at once: requests in flight fail with `ChannelClosed`."""
        self.closed = True
        self._reader.cancel()
        self.comm.abort()

    async def close(self) -> None:
        """Close the channel; requests in flight fail with `ChannelClosed`."""
        self.closed = True
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._writer.close()


class _Limits(Deadlines):
    def error(self, target: Any) -> Exception:
        """Return what a request fails with whose time is over."""
        return TimeoutError()


def _expire(future: asyncio.Future[Answer]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


class ServedChannel:
    """The server's side: hands each request to `handle`, and sends answers and pushes."""

    def __init__(self, comm: Comm) -> None:
        self.comm = comm
        self._writer = Writer(comm)
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, id: int | list[int], status: int, payload: Any) -> None:
        """Answer request `id`; or several, by the ids and payloads."""
        self._writer.send((id, status, payload))

    def push(self, message: Any) -> None:
        """Send what nobody asked for."""
        self._writer.send((0, message))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task that ends with the channel."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve(self, handle: Callable[[tuple[Any, ...]], None]) -> None:
        """Read requests until the client goes away; `handle` is called for each, in order."""
        try:
            while True:
                for message in await self.comm.read():
                    handle(message)
        except (CommClosedError, OSError):
            pass  # the client went away: the normal end of a channel
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._writer.close()
            self.comm.abort()
