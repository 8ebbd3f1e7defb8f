"""Sandboxes in a cluster while one answers, else on this machine until they can move."""

from __future__ import annotations

import asyncio
import os
from typing import TypeAlias

from distributed import Client, Security
from distributed.comm.addressing import get_address_host_port

from superlearner import config
from superlearner.cluster.cluster import Cluster, Manager
from superlearner.cluster.dual_link import DualLink
from superlearner.cluster.foreign import install
from superlearner.cluster.local import Connection, find_connection
from superlearner.cluster.local_link import LocalLink
from superlearner.cluster.local_plane import LocalPlane
from superlearner.cluster.session import Found, Session
from superlearner.cluster.state_dir import StateDirectory
from superlearner.core.snapshots import Migration
from superlearner.errors import ClusterNotFound, InvalidSpec

#: What names a cluster.
Target: TypeAlias = Cluster | Client | str | None


class DualSession(Session):
    """A session with a cluster, where there is one, and with a control machine of its own.

    Parameters
    ----------
    target, security
        The cluster, as for `DualSandboxManager`.
    directory
        Where local sandboxes are kept beyond the session's end.
    asynchronous
        Whether the caller awaits.
    """

    def __init__(
        self,
        target: Target,
        security: Security | None,
        directory: StateDirectory | None,
        *,
        asynchronous: bool,
    ) -> None:
        # Before anything is started, and not on the session's loop: a client belongs to another.
        self._target = _address(target, security)
        self._is_ours = isinstance(target, Cluster)
        super().__init__(asynchronous=asynchronous)
        self._directory = directory

    async def connect(self) -> DualLink:
        """Return the way to both."""
        return DualLink(LocalLink(LocalPlane(self._directory)), self._find)

    async def _find(self) -> Connection | Found:
        if self._target is None:
            running = find_connection()
            if running is None:
                raise ClusterNotFound("No local cluster runs on this machine.")
            return running
        await _probe(self._target.address)
        if self._is_ours:  # it has a control plane already
            return self._target
        return await install(self._target.address, self._target.security)


class DualSandboxManager(Manager):
    """Sandboxes in a cluster while one answers, else on this machine, with one interface for both.

    `create_sandbox` prefers the cluster. When none answers, or it has no quorum, the sandbox starts on this
    machine, as with `superlearner.LocalSandboxManager`, and the event ``sandbox_kept_local`` says why;
    ``node="local"`` asks for that. `promote` moves it into the cluster later. Every handle stays good
    throughout.

    Parameters
    ----------
    cluster
        A `Cluster`, a scheduler's address or a Dask client. None: the local cluster of this machine, should
        one run; none is started.
    security
        Dask's security object, for an address with TLS.
    state_dir
        Keeps the local sandboxes and their checkpoints beyond the manager's end, as for
        `LocalSandboxManager`.
    asynchronous
        Whether the methods are to be awaited.

    >>> with DualSandboxManager() as manager:                          # doctest: +SKIP
    ...     shop = manager.create_sandbox("shop", Counter)
    ...     manager.promote("shop")
    """

    def __init__(
        self,
        cluster: Target = None,
        *,
        security: Security | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        asynchronous: bool = False,
    ) -> None:
        directory = None if state_dir is None else StateDirectory(state_dir)
        self._begin(DualSession(cluster, security, directory, asynchronous=asynchronous))

    def promote(self, id: str, node: str = "auto") -> Migration:
        """Move a sandbox of this machine into the cluster, with its state; calls meanwhile wait for it.

        Parameters
        ----------
        id
            The sandbox.
        node
            The cluster's node for it; ``"auto"``: as the cluster chooses.

        Raises
        ------
        NoSandbox
            There is none of that id.
        MoveFailed
            It goes on here; the error says why, such as that no cluster answers.
        """
        return self._session.ask("promote", sandbox=id, node=node)


def _address(target: Target, security: Security | None) -> Found | None:
    match target:
        case None:
            return None
        case Cluster():
            return Found(target.address, target.security)
        case Client():
            return Found(str(target.scheduler.address), target.security)
        case str():
            return Found(target, security or Security())
    raise InvalidSpec(
        f"cluster={target!r} names no cluster: give a Cluster, a scheduler's address or a Dask client, or None for "
        "the local cluster of this machine."
    )


async def _probe(address: str) -> None:
    """Raise `ClusterNotFound` at once when nobody listens there: Dask would try again until its time-out."""
    try:
        host, port = get_address_host_port(address)
    except ValueError:  # not an address of a host: Dask knows what to do with it
        return
    try:
        async with asyncio.timeout(config.get("connect-timeout")):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise ClusterNotFound(f"No Dask scheduler answers at {address} ({error}).") from error
    writer.close()
