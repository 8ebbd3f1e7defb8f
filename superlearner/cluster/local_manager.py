"""Sandboxes as OS processes of this machine, without a cluster."""

from __future__ import annotations

import os

from superlearner.cluster.cluster import Manager
from superlearner.cluster.local_link import LocalLink
from superlearner.cluster.local_plane import LocalPlane
from superlearner.cluster.session import Session
from superlearner.cluster.state_dir import StateDirectory


class LocalSession(Session):
    """A session with a control machine of its own.

    Parameters
    ----------
    directory
        Where sandboxes are kept beyond the session's end.
    asynchronous
        Whether the caller awaits.
    """

    def __init__(self, directory: StateDirectory | None, *, asynchronous: bool) -> None:
        super().__init__(asynchronous=asynchronous)
        self._directory = directory

    async def connect(self) -> LocalLink:
        """Return a link to a machine that is not running yet."""
        return LocalLink(LocalPlane(self._directory))


class LocalSandboxManager(Manager):
    """Sandboxes as OS processes of this machine, without Dask's scheduler or workers.

    The interface is that of `superlearner.Cluster`, and restarts, give-ups and checkpoints are decided by
    the same machine. There is one node, ``"local"``: what takes more than one, such as `migrate_sandbox`,
    raises `Unsupported`. The sandboxes end with `close`, with the ``with`` block, or with this process.

    Parameters
    ----------
    state_dir
        A directory that keeps the sandboxes and their checkpoints beyond that end: a new manager on it
        starts them again with their state. `close` takes a last checkpoint of each; without it, what changed
        after the newest one is lost. None: their checkpoints are in memory.
    asynchronous
        Whether the methods are to be awaited.

    Raises
    ------
    InvalidSpec
        The directory cannot be used, or another manager uses it.

    >>> with LocalSandboxManager() as manager:                         # doctest: +SKIP
    ...     shop = manager.create_sandbox("shop", Counter)
    ...     shop.call("counter", "increment")
    1
    """

    def __init__(
        self, state_dir: str | os.PathLike[str] | None = None, *, asynchronous: bool = False
    ) -> None:
        directory = None if state_dir is None else StateDirectory(state_dir)
        self._begin(LocalSession(directory, asynchronous=asynchronous))
