"""Ctrl-C, SIGTERM and a closed terminal all mean the same to a command: clean up, then end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stops_cleanly() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in the block at the first signal that asks to stop, and ignore those that follow.

    An impatient second Ctrl-C would otherwise break off the clean-up and leave processes behind; everything
    that the clean-up waits for has a time limit of its own.
    """
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def asked_to_stop() -> None:
    """Return at the first signal that asks to stop, and ignore those that follow; for use within `stops_cleanly`.

    An exception that is raised wherever an event loop just is may be caught there, as in the midst of a request that
    has failed; nobody catches an event.
    """
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if not asked.is_set():
            loop.call_soon_threadsafe(asked.set)

    for number in _STOPPING:
        signal.signal(number, stop)
    try:
        await asked.wait()
    finally:
        asked.set()
