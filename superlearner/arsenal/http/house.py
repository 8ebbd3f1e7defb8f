"""What all handlers of one server share: the registry, the way to the cluster, and the limits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from superlearner.arsenal.access import Rate
from superlearner.arsenal.elsewhere import Table
from superlearner.arsenal.openapi import document
from superlearner.arsenal.operation import AwaitedCluster, Operation
from superlearner.arsenal.pages import reference
from superlearner.arsenal.registry import Registry
from superlearner.arsenal.routes import Match
from superlearner.errors import ClusterClosed, ClusterNotFound, ClusterSilent, SuperlearnerError

if TYPE_CHECKING:
    from superlearner.cluster.cluster import Manager

logger = logging.getLogger(__name__)
#: The errors after which the connection is of no use any more.
LOST = (ClusterClosed, ClusterNotFound)
#: Seconds that a server which stops gives to the requests under way.
GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes."""

    #: Bytes of a request's body.
    body: int = 4 * 2**20
    #: Seconds that a body may take to arrive.
    body_time: float = 10.0
    #: Requests per second of one caller, and how many at once.
    rate: float = 1000.0
    burst: float = 4000.0
    #: The same for callers that nobody vouches for, by address.
    stranger_rate: float = 50.0
    stranger_burst: float = 500.0
    #: Event streams at the same time.
    streams: int = 64


class Door:
    """The way to a cluster that may end and begin again: opened when it is needed, and again when it was closed.

    Parameters
    ----------
    connect
        Gives an open manager whose methods are awaited; raises `ClusterNotFound` where there is none.
    """

    def __init__(self, connect: Callable[[], Awaitable[Manager]]) -> None:
        self._connect = connect
        self._cluster: AwaitedCluster = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def cluster(self) -> AwaitedCluster:
        """Return the cluster, open."""
        async with self._opening:
            if self._closed:
                raise ClusterClosed("This server is being stopped.")
            if self._cluster is None:
                self._cluster = await self._connect()
            return self._cluster

    async def lost(self, cluster: AwaitedCluster) -> None:
        """Take note that a cluster was closed: the next request looks for one anew."""
        async with self._opening:
            if self._cluster is cluster:
                self._cluster = None
                await cluster.close()

    async def close(self) -> None:
        """Close the connection; nothing is opened any more."""
        async with self._opening:
            self._closed = True
            cluster, self._cluster = self._cluster, None
            if cluster is not None:
                await cluster.close()


class _Document(NamedTuple):
    """An OpenAPI document, as JSON too, with its ETag."""

    told: dict[str, Any]
    body: bytes
    mark: str


@dataclass
class House:
    """One server's share of everything."""

    #: The operations of this process.
    registry: Registry
    door: Door
    limits: Limits = field(default_factory=Limits)
    #: Where it is mounted: what stands before ``/api/v1``.
    base: str = ""
    #: Which way callers come by, for the event log.
    face: str = "rest"

    def __post_init__(self) -> None:
        self.rate = Rate(self.limits.rate, self.limits.burst)
        self.strangers = Rate(self.limits.stranger_rate, self.limits.stranger_burst)
        self.streams = 0
        #: Set when the server stops: whoever waits for something that may never come ends.
        self.stopping = asyncio.Event()
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._table = Table(self.registry)
        self._made: tuple[Hashable, _Document] | None = None
        self._page: tuple[Hashable, bytes] | None = None

    async def find(self, method: str, path: str) -> Match[Operation]:
        """Return what a request to a path below ``/api/v1`` means, also where it is carried out elsewhere."""
        match = self.registry.find(method, path)
        if match.target is not None:
            return match
        await self.learn()
        return self._table.all.find(method, path)

    async def learn(self) -> None:
        """Look which operations other processes have registered; while nobody can tell, those known are kept."""
        cluster = None
        try:
            cluster = await self.door.cluster()
            await self._table.learn(cluster)
        except ClusterSilent as error:
            logger.warning("superlearner: %s", error)
        except LOST:
            self._table.forget()
            if cluster is not None:
                await self.door.lost(cluster)
        except (SuperlearnerError, OSError) as error:
            logger.warning("superlearner: the cluster does not tell of its operations: %s", error)

    def _document(self) -> _Document:
        """Return the document; made again when the operations have changed."""
        version = self._table.version
        if self._made is None or self._made[0] != version:
            told = document(self._table.all, server=self.base or "/")
            body = json.dumps(told).encode()
            self._made = version, _Document(told, body, etag(body))
        return self._made[1]

    def openapi(self) -> tuple[bytes, str]:
        """Return the document as JSON, and its ETag."""
        made = self._document()
        return made.body, made.mark

    def page(self, origin: str) -> bytes:
        """Return the reference page for who asks at an address; made again when the operations have changed."""
        key = self._table.version, origin
        if self._page is None or self._page[0] != key:
            told = self._document().told
            page = reference(self._table.all, told, origin=origin, jupyter=self.face == "jupyter")
            self._page = key, page.encode()
        return self._page[1]

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a request that is being carried out."""
        self._working += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def close(self) -> None:
        """End the streams and the connection to the cluster, and let who waits for an answer read why there is none."""
        self.stopping.set()
        await self.door.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._idle.wait()


def etag(body: bytes) -> str:
    """Return the mark by which a client sees whether something has changed."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
