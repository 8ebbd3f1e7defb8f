from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from arsenal_kit import Jupyter, Running, World, clear

import superlearner as sl
from superlearner.cluster.local import start_daemon, stop_daemon
from superlearner.cluster.names import node_names

#: What ends the shared cluster, while it runs.
_shared = ExitStack()


@pytest.fixture(scope="session")
def shared_cluster(leaving_nothing: Callable[[], AbstractContextManager[None]]) -> None:
    """A local cluster of three nodes for all modules here, as ``superlearner start`` starts one."""
    _shared.enter_context(leaving_nothing())
    _shared.callback(stop_daemon, start_daemon(node_names(3), detached=True))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End it after the last test of this folder: those of other folders start clusters of their own."""
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        _shared.close()


@pytest.fixture(scope="module")
def lasting(request: pytest.FixtureRequest) -> bool:
    """Whether this module uses the shared cluster, which then runs before anything is counted."""
    here = (item for item in request.session.items if item.path == request.path)
    uses = any("shared_cluster" in item.fixturenames for item in here)
    if uses:
        request.getfixturevalue("shared_cluster")
    return uses


@pytest.fixture(scope="module")
def cluster(shared_cluster: None) -> Iterator[sl.Cluster]:
    """The shared cluster, without sandboxes."""
    with sl.connect() as running:
        yield running
        clear(running)


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
