from __future__ import annotations

import asyncio
import itertools
import queue
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import superlearner as sl

_ids = itertools.count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[sl.Cluster]:
    """A cluster of three nodes, one for each test module."""
    with sl.Cluster(nodes=3) as running:
        yield running


@pytest.fixture
def fresh() -> str:
    """An id that no other test uses."""
    return f"shop-{next(_ids)}"


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


@pytest.fixture
def unused_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
