"""What is left on this machine of a local cluster, or of the sandboxes that it had, as the operating system tells it.

Beside what the cluster says of itself (the request ``inventory``), since what has forgotten something cannot
tell of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from superlearner.cluster.local import Connection

#: In the command line of every fork server, and of the OS processes of sandboxes, which are its children.
_FORK_SERVER = "superlearner.sandbox.forkmain"
#: What a process may have open beyond what it had when the cluster was new: connections that wait to be used again.
POOLED = 24


def processes(connection: Connection) -> list[psutil.Process]:
    """Return the living processes of a cluster."""
    try:
        guardian = psutil.Process(connection.pid)
        return [p for p in (guardian, *guardian.children(recursive=True)) if _alive(p)]
    except psutil.NoSuchProcess:
        return []


def of_sandboxes(connection: Connection) -> list[str]:
    """Tell which processes and files of sandboxes there are."""
    assert connection.directory is not None, "a local cluster has a directory"
    directory = Path(connection.directory)
    servers = _fork_servers(connection)
    return [
        *_hosts(servers.values()),
        *(f"file {root}" for root in directory.glob("**/superlearner-*") if root not in servers),
        *(f"file {left}" for root in servers for left in root.iterdir()),
        *(f"file {left}" for left in directory.glob("state/sandboxes/*")),
    ]


def _fork_servers(connection: Connection) -> dict[Path, psutil.Process]:
    """Return the living fork servers of a cluster by their folders, in which each host has one of its own."""
    found: dict[Path, psutil.Process] = {}
    for process in sorted(processes(connection), key=lambda process: process.create_time()):
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if _FORK_SERVER in command:
            # What it has forked has its command line, and began later.
            found.setdefault(Path(command[-1]), process)
    return found


def _hosts(servers: Iterable[psutil.Process]) -> Iterator[str]:
    for server in servers:
        try:
            hosts = server.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        yield from (f"process {host.pid} under the fork server {server.pid}" for host in hosts)


def descriptors(connection: Connection) -> Counter[int]:
    """Count what each process of a cluster has open, by pid."""
    found: Counter[int] = Counter()
    for process in processes(connection):
        try:
            found[process.pid] = process.num_fds()
        except psutil.NoSuchProcess:
            continue
    return found


def opened(connection: Connection, before: Counter[int]) -> list[str]:
    """Tell which processes, of those that were there before, have far more open than they had then."""
    now = descriptors(connection)
    return [
        f"{now[pid] - had} descriptors more than before in process {pid}"
        for pid, had in sorted(before.items())
        if now[pid] > had + POOLED
    ]


def after_the_end(connection: Connection, were: list[psutil.Process]) -> list[str]:
    """Tell what is left of a cluster that has been closed, whose processes were these."""
    left = [f"process {process.pid}" for process in were if _alive(process)]
    if connection.directory is not None and Path(connection.directory).exists():
        left.append(f"file {connection.directory}")
    return left


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
