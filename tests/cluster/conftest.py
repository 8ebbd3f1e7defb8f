from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

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


@pytest.fixture
def unused_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
