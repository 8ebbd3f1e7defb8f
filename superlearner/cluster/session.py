"""What a cluster object and its sandboxes share: the link to the cluster, and the way to run work on it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from distributed import Security

from superlearner import config
from superlearner.cluster.handlers import Handler
from superlearner.cluster.link import Link
from superlearner.cluster.local import Connection
from superlearner.cluster.offering import Work
from superlearner.cluster.offers import Offer
from superlearner.cluster.runner import Runner
from superlearner.errors import ClusterClosed, ClusterNotFound, ClusterSilent

if TYPE_CHECKING:
    from superlearner.cluster.cluster import Manager

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A scheduler that somebody else runs."""

    address: str
    security: Security


class Way(Protocol):
    """The way to whoever decides about sandboxes and to those who run them: a `Link`, or several."""

    @property
    def address(self) -> str:
        """Where it leads to."""

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Connect no more; nothing of it is left."""

    async def ask(self, verb: str, **kwargs: Any) -> Any:
        """Ask whoever decides."""

    async def ask_apart(self, verb: str, **kwargs: Any) -> Any:
        """Ask whoever decides, in a way that every fault spares."""

    def subscribe(self, handler: Handler, kind: str | None) -> Callable[[], None]:
        """Call `handler` with every event from now on; return what ends that."""

    async def request(
        self,
        verb: str,
        sandbox: str,
        target: Any,
        body: bytes,
        *,
        timeout: float | None,
        idempotent: bool = False,
    ) -> Any:
        """Make a request to a sandbox and return its answer."""

    async def post(self, verb: str, sandbox: str, target: Any, body: bytes) -> None:
        """Send a message that has no answer to a sandbox."""

    async def offer(self, offer: Offer, work: Work, *, replace: bool) -> None:
        """Carry something out for whoever asks for it."""

    async def withdraw(self, name: str) -> None:
        """Offer something no longer."""


class Session:
    """A connection to a cluster that is opened once and closed once.

    `connect` makes the link; a manager without a cluster overrides it.

    Parameters
    ----------
    finder
        Finds the cluster, or starts it; None where `connect` does without.
    asynchronous
        Whether the caller awaits.
    stop
        What ends the cluster together with the session, where the session owns it.
    """

    def __init__(
        self,
        finder: Callable[[], Awaitable[Connection | Found]] | None = None,
        *,
        asynchronous: bool,
        stop: Callable[[Connection], None] | None = None,
    ) -> None:
        self.asynchronous = asynchronous
        #: What a handle on a sandbox calls its cluster.
        self.manager: type[Manager]
        self._finder = finder
        self._stop = stop
        self._runner = Runner(asynchronous=asynchronous)
        self._link: Way | None = None
        self._found: Connection | Found | None = None
        self._closed = False

    def __repr__(self) -> str:
        return "closed" if self._closed else self._link.address if self._link else "not yet connected"

    def awaited(self) -> Session:
        """Return the same open session for code that runs on its loop, and so must not block there."""
        other = copy.copy(self)
        other.asynchronous = True
        other._runner = Runner(asynchronous=True)  # noqa: SLF001 - it is the same class
        return other

    async def open(self) -> None:
        """Find the cluster and connect, once."""
        if self._link is None:
            link = await self.connect()
            try:
                await link.open()
            except BaseException as error:
                await link.close()
                local = self._found if isinstance(self._found, Connection) else None
                if isinstance(error, ClusterNotFound) and local is not None and local.alive:
                    raise ClusterSilent(
                        f"The local cluster (process {local.pid}) runs, but has not answered within "
                        f"{config.get('connect-timeout'):g} s: it is frozen, or the machine is overloaded."
                    ) from None
                raise
            self._link = link

    async def connect(self) -> Way:
        """Find the cluster and return a link to it, which is not open yet."""
        assert self._finder is not None
        self._found = await self._finder()
        return Link(self._found.address, self._found.security.get_connection_args("client"))

    def open_now(self) -> None:
        """Open for a caller that does not await; nothing is left when it fails or is interrupted."""
        try:
            self.run(self.open())
        except BaseException:
            self.close_now()
            raise

    async def close(self) -> None:
        """Close the link, and end the cluster if it is the session's own."""
        if self._closed:
            return
        self._closed = True
        if self._link is not None:
            await self._link.close()
        if self._stop is not None and isinstance(self._found, Connection):
            await asyncio.to_thread(self._stop, self._found)

    def close_now(self) -> None:
        """Close for a caller that does not await; in a forked child there is nothing to close."""
        if self._runner.forked:
            return
        try:
            if not self._closed:
                self.run(self.close())
        finally:
            self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, or `work` itself where the caller awaits."""
        return self._runner.run(work)

    def ask(self, verb: str, **kwargs: Any) -> Any:
        """Ask the control plane."""
        return self.run(self.link.ask(verb, **kwargs))

    @property
    def found(self) -> Connection | Found:
        """The cluster at the other end."""
        if self._found is None:
            raise ClusterClosed("This cluster object has not been opened: await it first.")
        return self._found

    @property
    def link(self) -> Way:
        """The link, while the session is open."""
        if self._closed:
            raise ClusterClosed("This cluster object has been closed.")
        if self._link is None:
            raise ClusterClosed("This cluster object has not been opened: await it first.")
        return self._link
