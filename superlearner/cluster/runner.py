"""Runs coroutines for callers that do not await: one background event loop for each cluster object."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar, cast

from superlearner.errors import ClusterClosed, SuperlearnerError

T = TypeVar("T")


class Runner:
    """Gives one object two faces: blocking, on a thread of its own, or awaitable, on the caller's loop.

    A kernel interrupt in a blocking call cancels the work and gives the prompt back.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        if not asynchronous:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, name="superlearner-client", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child, which has the object but not its thread and connections."""
        return os.getpid() != self._pid

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, or `work` itself on the awaitable face."""
        if self.asynchronous:
            return cast("T", work)
        if self.forked:
            work.close()
            raise ClusterClosed(
                f"This cluster object belongs to process {self._pid}, from which this process was forked; "
                "nothing was done."
            )
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise ClusterClosed("This cluster object has been closed.")
        if threading.current_thread() is self._thread:
            work.close()
            raise SuperlearnerError(
                "A blocking method was called from the thread that would have to do its work, such as from a "
                "handler given to subscribe(). Put the work on a queue and do it in another thread."
            )
        __tracebackhide__ = True  # IPython leaves this frame out of what it shows
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except SuperlearnerError as error:
            # The sentence says it all: the way through this client's own code would only bury it.
            raise error.with_traceback(None)  # noqa: B904 - the cause, where there is one, is kept
        except CancelledError:
            raise ClusterClosed("This cluster object was closed while it worked.") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            # An error holds this frame by its traceback: without these it would be a cycle, with the message in it.
            del future, work

    def close(self) -> None:
        """End the thread; what still runs on it is cancelled."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            return
        loop = self._loop

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()
