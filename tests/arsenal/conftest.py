from __future__ import annotations

from collections.abc import Iterator

import pytest
from arsenal_kit import Jupyter, Running, World

import superlearner as sl
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


@pytest.fixture(scope="module")
def server(cluster: sl.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the cluster's operations."""
    running = Running(tmp_path_factory.mktemp("tokens") / "tokens.json")
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def jupyter(cluster: sl.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A Jupyter server with the cluster's operations."""
    running = Jupyter(tmp_path_factory.mktemp("jupyter"))
    try:
        yield running
    finally:
        running.close()
