"""Ray as a peer, on the loopback, without its dashboard and its statistics. Each of its actors is an OS process."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DISABLE_IMPORT_WARNING="1",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
)

import ray
from measuring import IN_FLIGHT, percentiles, proportional

#: Ray needs half a minute, and 47 MB each, for a hundred: a fifth of them shows as much.
ACTORS = 20


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self) -> None:
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n

    def pid(self) -> int:
        return os.getpid()


@contextmanager
def _cluster() -> Iterator[None]:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        configure_logging=True,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _temp_dir=tempfile.gettempdir(),
    )
    try:
        yield
    finally:
        ray.shutdown()


def start() -> Iterator[float]:
    """One node: Ray starts one for each machine."""
    began = time.perf_counter()
    with _cluster():
        yield time.perf_counter() - began


def idle_memory() -> Iterator[dict[str, float]]:
    mine = psutil.Process()
    with _cluster():
        actor = Counter.remote()
        ray.get(actor.increment.remote())
        cluster = proportional(mine.children(recursive=True))
        yield {"cluster": cluster, "with client": cluster + proportional([mine])}


def create() -> Iterator[float]:
    """Twenty actors, created and answering."""
    with _cluster():
        began = time.perf_counter()
        actors = [Counter.remote() for _ in range(ACTORS)]
        ray.get([actor.increment.remote() for actor in actors])
        yield time.perf_counter() - began


def memory_per_actor() -> Iterator[float]:
    with _cluster():
        actors = [Counter.remote() for _ in range(5)]
        for pid in ray.get([actor.pid.remote() for actor in actors]):
            yield proportional([psutil.Process(pid)])


def call() -> Iterator[dict[str, float]]:
    """Calls in a plain loop, which is Ray's quickest way: awaiting its references costs more."""
    with _cluster():
        actor = Counter.remote()
        seen = []
        for _ in range(2000):
            began = time.perf_counter()
            ray.get(actor.increment.remote())
            seen.append(1e6 * (time.perf_counter() - began))
        yield percentiles(seen[200:])


def in_flight(actors: int) -> Iterator[float]:
    """A thousand calls sent before the first answer is read, ten times: again Ray's quickest way."""
    with _cluster():
        made = [Counter.remote() for _ in range(actors)]
        ray.get([actor.increment.remote() for actor in made])
        began = time.perf_counter()
        for _ in range(10):
            ray.get([made[n % actors].increment.remote() for n in range(IN_FLIGHT)])
        yield 10 * IN_FLIGHT / (time.perf_counter() - began)
