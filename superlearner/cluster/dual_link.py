"""Two ways in one: to a cluster while it answers, and to the sandboxes of this machine.

A request goes where its sandbox lives. While a sandbox is promoted its requests wait, and then go to the
cluster. The events of both sides are one log with numbers of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from superlearner.cluster.handlers import Handler
from superlearner.cluster.link import Link
from superlearner.cluster.local import Connection
from superlearner.cluster.local_link import LocalLink
from superlearner.cluster.local_node import LOCAL
from superlearner.cluster.offering import Work
from superlearner.cluster.offers import Offer
from superlearner.cluster.promotion import Promotion
from superlearner.cluster.session import Found
from superlearner.cluster.sides import Sides
from superlearner.core.history import Event
from superlearner.core.snapshots import ClusterStatus, Migration, SandboxInfo
from superlearner.core.spec import SandboxSpec
from superlearner.errors import (
    CallTimeout,
    ClusterClosed,
    ClusterNotFound,
    MoveFailed,
    NoConnection,
    NoQuorum,
    NoSandbox,
    SandboxExists,
)


class DualLink:
    """The way of a `DualSandboxManager`.

    Parameters
    ----------
    local
        The way to the sandboxes of this machine.
    find
        Finds the cluster; raises `ClusterNotFound` when none answers.
    """

    def __init__(self, local: LocalLink, find: Callable[[], Awaitable[Connection | Found]]) -> None:
        self._sides = Sides(local, find)
        self._local = local
        self._gates = self._sides.gates
        #: Sandboxes that were created here and live in the cluster now.
        self._promoted: set[str] = set()
        self._creating: set[str] = set()

    @property
    def address(self) -> str:
        """Where the cluster was found last; before that, the local side's."""
        return self._sides.address

    async def open(self) -> None:
        """Start the local side, and connect to the cluster if it answers."""
        await self._sides.open()

    async def close(self) -> None:
        """End the sandboxes of this machine, and the connection to the cluster."""
        await self._sides.close()

    def subscribe(self, handler: Handler, kind: str | None) -> Callable[[], None]:
        """Call `handler` with every event of either side from now on; return what ends that."""
        return self._sides.handlers.add(handler, kind)

    # -- Where a sandbox lives -------------------------------------------------------------------------

    def _is_here(self, sandbox: str) -> bool:
        """Tell whether a sandbox lives on this machine; one that was promoted is held until it has stopped."""
        return self._local.holds(sandbox) and sandbox not in self._promoted

    async def _settled(self, sandbox: str) -> None:
        """Wait until no promotion of a sandbox is under way."""
        while (gate := self._gates.get(sandbox)) is not None:
            await gate.wait()

    async def _home(self, sandbox: str) -> Link:
        """Return the way to where a sandbox lives, when its promotion is over."""
        await self._settled(sandbox)
        if self._is_here(sandbox):
            return self._local
        may_be_there = self._sides.known or sandbox in self._local.plane.held or sandbox in self._promoted
        remote = await self._sides.cluster(again=True)
        if remote is not None:
            return self._local if self._is_here(sandbox) else remote
        if may_be_there:
            raise ClusterNotFound(
                f"There is no sandbox {sandbox!r} on this machine, and the cluster that may have it does not "
                f"answer: {self._sides.missing}"
            )
        raise NoSandbox(sandbox)

    def _has_moved(self, sandbox: str, home: Link | None) -> bool:
        """Tell whether a sandbox that was not found at `home` is being promoted, or was, meanwhile."""
        return home is self._local and (sandbox in self._promoted or sandbox in self._gates)

    # -- Messages --------------------------------------------------------------------------------------

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
        """Make a request to a sandbox wherever it lives, and return its answer: `Link.request`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            left = None if timeout is None else max(0.0, began + timeout - loop.time())
            home = None
            try:
                async with asyncio.timeout(left):
                    home = await self._home(sandbox)
                left = None if timeout is None else max(0.0, began + timeout - loop.time())
                return await home.request(verb, sandbox, target, body, timeout=left, idempotent=idempotent)
            except NoSandbox:
                if not self._has_moved(sandbox, home):
                    raise
            except CallTimeout as error:
                raise CallTimeout(error.target, timeout) from error.__cause__
            except TimeoutError:
                raise CallTimeout(f"{sandbox}/{target}", timeout) from None

    async def post(self, verb: str, sandbox: str, target: Any, body: bytes) -> None:
        """Send a message that has no answer, to wherever the sandbox lives now."""
        await self._at_home(sandbox, lambda home: home.post(verb, sandbox, target, body))

    # -- Questions -------------------------------------------------------------------------------------

    async def ask(self, verb: str, **kwargs: Any) -> Any:
        """Ask the side that it concerns, or both."""
        match verb:
            case "create":
                return await self._create(**kwargs)
            case "promote":
                return await self._promote(**kwargs)
            case "events":
                return self._events(**kwargs)
            case "story":
                events = [event for answer in await self._both(verb, **kwargs) for event in answer]
                return sorted(events, key=lambda event: event.at)
            case "status":
                return _status(*await self._both(verb))
            case "alerts":
                return [alert for answer in await self._both(verb) for alert in answer]
            case "acknowledge" if str(kwargs["alert"]).startswith(f"{LOCAL}-"):
                return await self._local.ask(verb, **kwargs)
            case "nodes":
                return [node for answer in reversed(await self._both(verb)) for node in answer]
            case "metrics":
                return {
                    node: samples for answer in await self._both(verb) for node, samples in answer.items()
                }
            case "sandboxes":
                return await self._sandboxes(**kwargs)
        if "sandbox" not in kwargs:
            return await ((await self._sides.cluster()) or self._local).ask(verb, **kwargs)
        return await self._at_home(kwargs["sandbox"], lambda home: home.ask(verb, **kwargs))

    async def ask_apart(self, verb: str, **kwargs: Any) -> Any:
        """Ask the side that it concerns, or both, in a way that every fault spares."""
        remote = await self._sides.cluster()
        if verb in {"heal", "faults"}:
            sides = [self._local] if remote is None else [self._local, remote]
            return [each for side in sides for each in await side.ask_apart(verb)]
        sandbox = kwargs.get("sandbox") or kwargs.get("detail", {}).get("sandbox")
        if sandbox is not None:
            return await self._at_home(sandbox, lambda home: home.ask_apart(verb, **kwargs))
        mine = remote is None or str(kwargs.get("id", "")).startswith(f"{LOCAL}-")
        return await (self._local if mine or remote is None else remote).ask_apart(verb, **kwargs)

    async def offer(self, offer: Offer, work: Work, *, replace: bool) -> None:
        """Carry something out for whoever asks for it in the cluster, while it answers."""
        await ((await self._sides.cluster()) or self._local).offer(offer, work, replace=replace)

    async def withdraw(self, name: str) -> None:
        """Offer something no longer."""
        await ((await self._sides.cluster()) or self._local).withdraw(name)

    async def _at_home(self, sandbox: str, ask: Callable[[Link], Awaitable[Any]]) -> Any:
        """Ask where a sandbox lives, again if it has moved meanwhile."""
        while True:
            home = await self._home(sandbox)
            try:
                return await ask(home)
            except NoSandbox:
                if not self._has_moved(sandbox, home):
                    raise

    async def _both(self, verb: str, **kwargs: Any) -> list[Any]:
        """Return the answers of the local side and, while it answers, of the cluster."""
        answers = [await self._local.ask(verb, **kwargs)]
        remote = await self._sides.cluster()
        if remote is not None:
            try:
                answers.append(await remote.ask(verb, **kwargs))
            except (NoConnection, ClusterClosed) as error:  # it has just been lost: the next one looks again
                self._sides.missing = error.what()
        return answers

    def _events(self, since: int = 0, **only: Any) -> list[Event]:
        return self._sides.log.since(since, **only)

    async def _sandboxes(self, **kwargs: Any) -> list[Any]:
        local, *remote = await self._both("sandboxes", **kwargs)
        mine = [info for info in local if info.id not in self._promoted]
        # One that is on its way is shown where it still counts.
        theirs = [info for answer in remote for info in answer if info.id not in self._gates]
        return sorted(mine + theirs, key=lambda info: info.id)

    # -- Creating and promoting ------------------------------------------------------------------------

    async def _create(self, spec: SandboxSpec, checkpoint: Any = None) -> Any:
        """Create a sandbox in the cluster, or here when no cluster answers or it has no quorum."""
        if spec.id in self._creating or self._is_here(spec.id):
            raise SandboxExists(spec.id, LOCAL)
        self._creating.add(spec.id)
        try:
            remote = LOCAL if spec.node == LOCAL else await self._able_cluster()
            if isinstance(remote, Link):
                try:
                    return await remote.ask("create", spec=spec, checkpoint=checkpoint)
                except NoQuorum as error:
                    return await self._create_here(spec, checkpoint, error.what())
            why = "its spec names this node" if spec.node == LOCAL else remote
            return await self._create_here(spec, checkpoint, why)
        finally:
            self._creating.discard(spec.id)

    async def _create_here(self, spec: SandboxSpec, checkpoint: Any, why: str) -> SandboxInfo:
        there = await self._in_cluster(spec.id)
        if there is not None:
            raise SandboxExists(spec.id, there.node)
        made: SandboxInfo = await self._local.ask("create", spec=spec, checkpoint=checkpoint)
        self._promoted.discard(spec.id)
        fields: dict[str, Any] = {"sandbox": spec.id, "node": LOCAL, "epoch": made.epoch}
        self._local.plane.record(
            Event("sandbox_kept_local", at=self._local.plane.now(), reason=why, **fields)
        )
        return made

    async def _able_cluster(self) -> Link | str:
        """Return the way to a cluster that can take sandboxes, or why there is none."""
        remote = await self._sides.cluster(again=True)
        if remote is not None:
            try:
                status: ClusterStatus = await remote.ask("status")
            except (NoConnection, ClusterClosed) as error:
                self._sides.missing = error.what()
            else:
                return remote if status.quorum else "the cluster has no quorum"
        return f"no cluster answers: {self._sides.missing}"

    async def _promote(self, sandbox: str, node: str) -> Migration:
        """Move a sandbox of this machine into the cluster."""
        await self._settled(sandbox)
        if not self._is_here(sandbox):
            if sandbox in self._promoted or await self._in_cluster(sandbox) is not None:
                raise MoveFailed(sandbox, "it lives in the cluster already")
            raise NoSandbox(sandbox)
        gate = self._gates[sandbox] = asyncio.Event()
        try:
            remote = await self._able_cluster()
            if not isinstance(remote, Link):
                raise MoveFailed(sandbox, remote.rstrip("."))
            promotion = Promotion(self._local, remote, sandbox, node)
            moved = await promotion.run()
            self._promoted.add(sandbox)
        finally:
            del self._gates[sandbox]
            gate.set()
        await promotion.leave()
        return moved

    async def _in_cluster(self, sandbox: str) -> SandboxInfo | None:
        """Return what the cluster says of a sandbox, None when it has none or does not answer."""
        remote = await self._sides.cluster()
        if remote is None:
            return None
        try:
            found: SandboxInfo = await remote.ask("sandbox", sandbox=sandbox)
        except (NoSandbox, NoConnection, ClusterClosed):
            return None
        return found


def _status(local: ClusterStatus, remote: ClusterStatus | None = None) -> ClusterStatus:
    """Return both sides at a glance; health and quorum are the cluster's while it answers."""
    if remote is None:
        return local
    return replace(
        remote,
        nodes=remote.nodes + local.nodes,
        total_nodes=remote.total_nodes + local.total_nodes,
        healthy_nodes=remote.healthy_nodes + local.healthy_nodes,
        reachable_nodes=remote.reachable_nodes + local.reachable_nodes,
        sandboxes=remote.sandboxes + local.sandboxes,
    )
