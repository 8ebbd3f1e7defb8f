"""What the tests of the cluster share: waiting for an event, and running a coroutine."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import superlearner as sl


@contextmanager
def awaiting(
    cluster: sl.Cluster, kind: str, timeout: float = 20.0, **fields: object
) -> Iterator[Callable[[], sl.Event]]:
    """Within the block make something happen; then the given function waits for its event."""
    seen: queue.SimpleQueue[sl.Event] = queue.SimpleQueue()
    stop = cluster.subscribe(seen.put, kind)

    def wait() -> sl.Event:
        while True:
            event = seen.get(timeout=timeout)
            if all(getattr(event, name) == value for name, value in fields.items()):
                return event

    try:
        yield wait
    finally:
        stop()


def run(work):
    """Run a coroutine in a fresh loop."""
    return asyncio.run(work)
