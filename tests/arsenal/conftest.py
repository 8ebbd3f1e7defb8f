from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from arsenal_kit import World

import superlearner as sl
from superlearner.arsenal.http.server import Served
from superlearner.arsenal.http.tokens import read
from superlearner.arsenal.local import connect
from superlearner.cluster.local import connection_path


@pytest.fixture(scope="module")
def cluster() -> Iterator[sl.Cluster]:
    """A cluster of three nodes for each test module, which commands find by its connection file."""
    with sl.Cluster(nodes=3) as running:
        running._session.found.save(connection_path())
        try:
            yield running
        finally:
            connection_path().unlink()


@pytest.fixture(scope="module")
def world(cluster: sl.Cluster) -> World:
    """The cluster, and what examples make in it."""
    return World(cluster)


@pytest.fixture(autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo what the examples of a test have done to the cluster, so that the next one finds it as it was."""
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").tidy()


class Running:
    """A server on a thread of its own, as `superlearner serve` runs one in its process."""

    def __init__(self, tokens: Path, **options) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server of a test")
        self._thread.start()
        self.served = self._do(self._start(tokens, options))
        self.url = self.served.url
        self.tokens = {token.access: token.secret for token in read(tokens)}

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self, tokens: Path, options) -> Served:
        return Served(options.pop("connect", connect), tokens, **options)

    def close(self) -> None:
        self._do(self.served.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def server(cluster: sl.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the cluster's operations."""
    running = Running(tmp_path_factory.mktemp("tokens") / "tokens.json")
    try:
        yield running
    finally:
        running.close()
