"""What the tests of the cluster share: waiting for an event, running a coroutine, and a Dask cluster by hand."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client, Nanny

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
    """Run a coroutine in a fresh loop; when the test takes too long, tell where it and every other task waits."""
    with asyncio.Runner() as runner:
        try:
            return runner.run(work)
        except pytest.fail.Exception as end:
            if "Timeout" in str(end):
                end.add_note("\n".join(map(waits_at, asyncio.all_tasks(runner.get_loop()))))
            raise


def waits_at(task):
    """Return a task's name and the lines in which it waits, outermost first."""
    lines, awaited = [task.get_name()], task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join(lines)


def end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """End Dask's own commands, politely, one after the other: a worker says farewell to its scheduler.

    One that takes its time over it is killed.
    """
    for process in processes:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


DASK = [sys.executable, "-m", "dask"]


def _on_loopback(_name: str) -> tuple[str, list[str]]:
    return "127.0.0.1", []


def start_worker(
    folder: Path,
    address: str,
    name: str,
    options: Sequence[str] = (),
    *,
    where: Callable[[str], tuple[str, list[str]]] = _on_loopback,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Run a `dask worker` with its nanny; `where` is as for `dask_by_hand`."""
    host, before = where(name)
    command = [*before, *DASK, "worker", address, "--name", name, "--nthreads", "1", "--host", host]
    command += ["--no-dashboard", "--local-directory", str(folder), *options]
    env = {**os.environ, **(env or {})}
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True, cwd=folder, env=env)


@contextmanager
def dask_by_hand(
    folder: Path,
    names: Sequence[str],
    *,
    scheduler: Sequence[str] = (),
    worker: Sequence[str] = (),
    where: Callable[[str], tuple[str, list[str]]] = _on_loopback,
    env: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run `dask scheduler` and a `dask worker` for each name, with their nannies; give the address.

    `where` gives for a name, or ``"scheduler"``, the host's address and the words before the command.
    """
    host, before = where("scheduler")
    command = [*before, *DASK, "scheduler", "--host", host, "--port", "0", "--dashboard-address", f"{host}:0"]
    first = subprocess.Popen(
        [*command, "--no-dashboard", *scheduler],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **(env or {})},
    )
    processes = [first]
    try:
        address = next(
            m[1] for line in first.stderr if (m := re.search(r"Scheduler at:\s+(\S+://\S+)", line))
        )
        processes += (start_worker(folder, address, name, worker, where=where, env=env) for name in names)
        yield address
    finally:
        end(processes[::-1])
        first.stderr.close()


def wait_for_nodes(cluster: sl.Cluster, number: int) -> None:
    """Wait until so many nodes have joined, and their nannies know it: before, Dask's would start none again."""
    with awaiting(cluster, "node_joined") as joined:
        while sum(node.status == "up" for node in cluster.nodes()) < number:
            joined()

    async def started(dask_worker: Nanny) -> None:
        await dask_worker

    with Client(cluster.address, security=cluster.security, set_as_default=False) as client:
        client.run(started, nanny=True)
