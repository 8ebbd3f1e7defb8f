"""What the contract of managers is tried with: the four ways to have one, and an application that listens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import superlearner as sl
from superlearner.otp import GenServer, NoReply, Reply, child, supervisor

#: Every test of the contract runs on each of these.
SUBJECTS = ("cluster", "local", "dual in a cluster", "dual alone")


@contextmanager
def open_manager(subject: str, cluster: sl.Cluster | None) -> Iterator[sl.Cluster | sl.LocalSandboxManager]:
    """Give a manager; the two that need a cluster use the one given."""
    match subject:
        case "cluster":
            yield cluster
        case "local":
            with sl.LocalSandboxManager() as manager:
                yield manager
        case "dual in a cluster":
            with sl.DualSandboxManager(cluster) as manager:
                yield manager
        case "dual alone":
            with sl.DualSandboxManager() as manager:
                yield manager


def awaitable_manager(subject: str, cluster: sl.Cluster):
    """Return the same as an object to await."""
    match subject:
        case "cluster":
            return sl.connect(cluster.address, security=cluster.security, asynchronous=True)
        case "local":
            return sl.LocalSandboxManager(asynchronous=True)
        case "dual in a cluster":
            return sl.DualSandboxManager(cluster, asynchronous=True)
        case "dual alone":
            return sl.DualSandboxManager(asynchronous=True)


class Listener(GenServer):
    """Keeps and prints what it is sent, in order."""

    def init(self):
        return []

    def handle_call(self, request, sender, state):
        return Reply(state, state)

    def handle_cast(self, message, state):
        return NoReply([*state, ("cast", message)])

    def handle_info(self, message, state):
        sys.stdout.write(f"heard {message}\n")
        sys.stdout.flush()
        return NoReply([*state, ("info", message)])


def listening():
    return supervisor([child(Listener, id="listener", name="listener")])
