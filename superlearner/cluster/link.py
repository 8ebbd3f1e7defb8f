"""A client's link to a cluster: one channel to the control plane, one to each node that it calls.

The rules of a call are in ``core/retry.py``. A request that certainly did not happen (no connection, a stale epoch, a
moving sandbox) is made again where the sandbox lives now, until its timeout. One that was sent and not
answered is *not* sent again, unless the caller declared it idempotent or gave it an id: it may have taken effect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from superlearner import config
from superlearner.cluster.channel import CHANNEL_OP, CONTROL_OP, Answer, Channel, ChannelClosed
from superlearner.cluster.faulty import EXEMPT, can_break
from superlearner.cluster.handlers import Handler, Handlers
from superlearner.cluster.offering import Offering, Work
from superlearner.cluster.offers import Offer
from superlearner.cluster.pool import ChannelPool
from superlearner.core.history import Event
from superlearner.core.retry import decide, doubted, leaves_doubt
from superlearner.errors import (
    CallTimeout,
    ClusterClosed,
    ClusterNotFound,
    ClusterSilent,
    NoConnection,
    SandboxDown,
    SuperlearnerError,
)
from superlearner.sandbox import payload
from superlearner.sandbox.answers import outcome, unpack

logger = logging.getLogger(__name__)
Place = tuple[str, int]  # (address, epoch)
#: Seconds between two tries to reach a control plane that is being started again.
_RETRY = 0.05
#: What the control plane answers without waiting for anything: no answer means that it is frozen.
_LOOKS = frozenset(
    {
        "hello",
        "status",
        "nodes",
        "sandboxes",
        "sandbox",
        "events",
        "story",
        "metrics",
        "explain",
        "alerts",
        "health",
        "bottlenecks",
        "offers",
    }
)


class Carrier(Protocol):
    """What carries requests to one node: a channel, or a short cut within this process."""

    def post(self, verb: str, *fields: Any) -> None:
        """Send a message that has no answer; raise `ChannelClosed` when it cannot arrive."""

    async def request(
        self, verb: str, *fields: Any, deadline: float | None = None, limit: float | None = None
    ) -> Answer:
        """Send a request and wait for its status and payload; raise `ChannelClosed` when it cannot come."""


class Carriers(Protocol):
    """One carrier for each address."""

    def ready(self, address: str) -> Carrier | None:
        """Return the carrier to `address` if it is open now."""

    async def get(self, address: str) -> Carrier:
        """Return the open carrier to `address`; raise OSError when there can be none."""

    def prepare(self, address: str) -> None:
        """Have a carrier to `address` ready, which may be asked for one day."""

    def abandon(self, address: str) -> None:
        """Break with a lost node at once."""

    async def close(self) -> None:
        """Close every carrier."""


class Link:
    """The asynchronous heart of `superlearner.Cluster`.

    Parameters
    ----------
    address
        The scheduler's address.
    connection_args
        What Dask needs to connect: ``security.get_connection_args("client")``.
    nodes
        What carries requests to the nodes; by default channels, opened when they are needed.
    kinds
        The kinds of events to be told; None: all.
    """

    def __init__(
        self,
        address: str,
        connection_args: dict[str, Any],
        nodes: Carriers | None = None,
        *,
        kinds: tuple[str, ...] | None = None,
    ) -> None:
        self.address = self._apart = address
        self._args = connection_args
        self._control: Channel | None = None
        self._nodes: Carriers = nodes or ChannelPool(CHANNEL_OP, connection_args)
        self._kinds = kinds
        self._places: dict[str, Place] = {}
        #: The addresses of lost nodes: an answer of before their loss must not lead there.
        self._lost: set[str] = set()
        self._handlers = Handlers()
        self._offering = Offering()
        #: Whether nobody is to be asked any more: it was closed, the cluster was stopped, or is gone for good.
        self._over = False
        self._back = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        #: The newest event that was told, and those that wait until what came before them is told.
        self._seq = 0
        self._held: list[Event] | None = None

    async def open(self) -> None:
        """Connect to the control plane; raise `ClusterNotFound` when it does not answer."""
        try:
            await self._connect(config.get("connect-timeout"))
        except (OSError, TimeoutError) as error:
            raise ClusterNotFound(
                f"No cluster of superlearner answers at {self.address} ({error})."
            ) from error
        self._keeping = asyncio.create_task(self._keep_connected(), name="superlearner-link")

    async def _connect(self, timeout: float) -> None:
        control = await Channel.open(
            self.address, CONTROL_OP, self._args, timeout=timeout, on_push=self._on_push
        )
        try:
            async with asyncio.timeout(timeout):
                there = str(unpack(*await control.request("hello", payload.dumps({})))["address"])
                if can_break(there):  # the same place, by the transport that faults can spare
                    self._apart = f"{there.partition('://')[0]}://{self.address.partition('://')[2]}"
                await control.request("subscribe", self._kinds)
        except BaseException:
            await control.close()
            raise
        self._control = control
        self._back.set()

    async def close(self) -> None:
        """Close every channel."""
        self._over = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._offering.close()
        await self._nodes.close()
        if self._control is not None:
            await self._control.close()

    # -- A control plane that was killed --------------------------------------------------------------

    async def _keep_connected(self) -> None:
        """Connect again whenever the control plane has been started again, at its address and with its keys."""
        while not self._over and self._control is not None:
            await self._control.wait_closed()
            self._back.clear()
            self._places.clear()
            self._held = []
            self._over = self._over or not await self._connect_again()
            self._back.set()
            if not self._over:
                await self._catch_up()
                await self._offer_again()

    async def _connect_again(self) -> bool:
        """Try to connect for as long as a new control plane may take to come up; return whether it has."""
        timeout = config.get("connect-timeout")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2 * timeout
        while not self._over and loop.time() < deadline:
            try:
                await self._connect(timeout)
            except (OSError, TimeoutError):
                await asyncio.sleep(_RETRY)  # nobody tells when somebody begins to listen there
            else:
                return True
        return False

    async def _catch_up(self) -> None:
        """Tell what happened while nobody was listening, then what has come since."""
        assert self._control is not None
        try:
            # Not by `ask`, which waits for the next connection: that is made by whoever waits here.
            answer = await self._control.request("events", payload.dumps({"since": self._seq}))
            missed: list[Event] = unpack(*answer)
        except ChannelClosed:
            return  # it has gone again: the next time brings what is held, too
        except SuperlearnerError:
            missed = []
        held, self._held = self._held or [], None
        wanted = (e for e in missed if self._kinds is None or e.kind in self._kinds)
        for event in sorted((*wanted, *held), key=lambda event: event.seq):
            if event.seq > self._seq:
                self._tell(event)

    # -- The control plane ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the control plane can be asked."""
        return self._control is not None and not self._control.closed

    async def ask(self, verb: str, **kwargs: Any) -> Any:
        """Ask the control plane; wait for it when it was killed and is being started again."""
        while True:
            if not self.connected:
                await self._back.wait()
            if self._over or self._control is None:
                raise ClusterClosed(f"The connection to the cluster at {self.address} is closed.")
            limit = config.get("connect-timeout") if verb in _LOOKS else None
            try:
                async with asyncio.timeout(limit):
                    status, body = await self._control.request(verb, payload.dumps(kwargs))
            except ChannelClosed:
                self._back.clear()
                if verb in _LOOKS or verb == "lookup":
                    continue  # nothing can have happened
                raise NoConnection(f"the control plane at {self.address}", "it has ended") from None
            except TimeoutError:
                raise ClusterSilent(
                    f"The control plane at {self.address} has not answered within {limit:g} s: "
                    "it is frozen, or the machine is overloaded."
                ) from None
            return unpack(status, body)

    async def ask_apart(self, verb: str, **kwargs: Any) -> Any:
        """Ask the control plane over a connection of its own, which every fault spares."""
        if self._over:
            raise ClusterClosed(f"The connection to the cluster at {self.address} is closed.")
        try:
            channel = await Channel.open(
                self._apart, CONTROL_OP, {**self._args, **EXEMPT}, timeout=config.get("connect-timeout")
            )
            try:
                status, body = await channel.request(verb, payload.dumps(kwargs))
            finally:
                await channel.close()
        except OSError as error:
            raise NoConnection(f"the control plane at {self.address}", error) from None
        return unpack(status, body)

    def subscribe(self, handler: Handler, kind: str | None) -> Callable[[], None]:
        """Call `handler` with every event from now on; return what ends that."""
        return self._handlers.add(handler, kind)

    # -- What this client does for others ---------------------------------------------------------------

    async def offer(self, offer: Offer, work: Work, *, replace: bool) -> None:
        """Carry something out for whoever asks for it, from now on, also after a new connection.

        Raises
        ------
        OfferTaken
            Another client offers something by that name, or at that place.
        """
        before = self._offering.keep(offer, work)  # before it is known: it may be asked for at once
        try:
            await self.ask("offer", by=self._offering.by, offer=offer, replace=replace)
        except BaseException:
            self._offering.forget(offer.name, before)
            raise

    async def _offer_again(self) -> None:
        """Offer over a new connection what was offered over the one that has broken."""
        for offer in self._offering:
            fields = {"by": self._offering.by, "offer": offer, "replace": False}
            try:
                assert self._control is not None
                unpack(*await self._control.request("offer", payload.dumps(fields)))
            except ChannelClosed:
                return  # it has gone again: so it is done at the next time
            except SuperlearnerError as error:  # somebody else was faster
                logger.warning("superlearner: %s is not offered any more: %s", offer.name, error)
                self._offering.forget(offer.name)

    async def withdraw(self, name: str) -> None:
        """Offer something no longer."""
        self._offering.forget(name)
        await self.ask("withdraw_offer", by=self._offering.by, name=name)

    def _on_push(self, message: tuple[str, Any]) -> None:
        kind, plain = message
        if kind == "carry_out" and self._control is not None:
            self._offering.carry_out(self._control, *plain)
        if kind != "event":
            return
        event = Event.from_dict(plain)
        if self._held is not None:
            self._held.append(event)
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        self._seq = max(self._seq, event.seq)
        if event.kind == "cluster_stopped":
            self._over = True
        elif event.kind == "node_lost":
            self._abandon(event.detail.get("address"))
        elif event.kind == "node_joined":
            self._lost.discard(str(event.detail.get("address")))
        if event.sandbox is not None and event.epoch is not None:
            place = self._places.get(event.sandbox)
            if place is not None and place[1] < event.epoch:
                del self._places[event.sandbox]
        self._handlers.tell(event)

    def _abandon(self, address: Any) -> None:
        """Break with a lost node at once: no call to it waits for a timeout."""
        self._lost.add(address)
        self._nodes.abandon(address)
        for sandbox, place in list(self._places.items()):
            if place[0] == address:
                del self._places[sandbox]

    # -- The sandboxes ---------------------------------------------------------------------------------

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
        """Make a request to a sandbox wherever it lives, and return its answer.

        Raises
        ------
        CallTimeout
            No answer within `timeout` seconds (None: wait for ever).
        NoConnection
            The connection broke after the request was sent.
        SuperlearnerError
            What the sandbox or the callee raised.
        """
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        stale: Place | None = None
        first, doubt = True, False
        try:
            while True:
                # The way of nearly every request: both are known, and nothing is awaited but the answer.
                place = None if stale is not None else self._places.get(sandbox)
                channel = None if place is None else self._nodes.ready(place[0])
                try:
                    if first and place is not None and channel is not None:
                        first = False
                        status, answer = await channel.request(
                            verb, sandbox, place[1], target, body, timeout, limit=timeout
                        )
                    else:
                        async with asyncio.timeout_at(deadline):
                            patience = None if timeout is None else 0.8 * timeout
                            place, channel = await self.reach(sandbox, stale, patience)
                        status, answer = await channel.request(
                            verb, sandbox, place[1], target, body, timeout, deadline=deadline
                        )
                except ChannelClosed:
                    stale, doubt = place, True
                    if decide("closed", idempotent=idempotent) == "unknown":
                        raise NoConnection(_named(sandbox, target), self._why_closed(place)) from None
                    continue
                except TimeoutError as error:
                    if isinstance(error, SuperlearnerError):
                        raise
                    raise CallTimeout(_named(sandbox, target), timeout) from None
                if status == 0:
                    return payload.loads(answer, "the answer")
                ended = outcome(status, answer)
                doubt = doubt or leaves_doubt(ended)
                match decide(ended, idempotent=idempotent):
                    case "elsewhere":
                        stale = place
                    case "again":  # the node lets it wait for the new OS process
                        stale = None
                    case _:
                        return unpack(status, answer, _named(sandbox, target))
        except SuperlearnerError as error:
            if doubt and error.definite:
                raise doubted(error, _named(sandbox, target)) from error
            raise

    async def post(self, verb: str, sandbox: str, target: Any, body: bytes) -> None:
        """Send a message that has no answer, to wherever the sandbox lives now.

        Raises
        ------
        NoQuorum, SandboxDown, NoConnection
            It could not leave within the setting ``superlearner.call-timeout``; nothing was sent.
        """
        stale: Place | None = None
        deadline: float | None = None
        while True:
            place = None if stale is not None else self._places.get(sandbox)
            channel = None if place is None else self._nodes.ready(place[0])
            if place is None or channel is None:
                limit = config.get("call-timeout")
                deadline = deadline or asyncio.get_running_loop().time() + limit
                try:
                    async with asyncio.timeout_at(deadline):
                        place, channel = await self.reach(sandbox, stale, 0.8 * limit)
                except TimeoutError:
                    raise await self._not_sent(sandbox, target, limit) from None
            try:
                channel.post(verb, sandbox, place[1], target, body, None)
            except ChannelClosed:
                stale = place
            else:
                return

    def _why_closed(self, place: Place | None) -> str:
        """Say why a channel has closed under a request, as far as it is known by now."""
        if self._over:
            return "the connection to the cluster was closed"
        if place is not None and place[0] in self._lost:
            return "its node is gone"
        return "its node is gone, or the link to it has broken"

    async def _not_sent(self, sandbox: str, target: Any, limit: float) -> SuperlearnerError:
        """Return the error that tells why a message has not left in time."""
        status = (await self.ask("sandbox", sandbox=sandbox)).status
        if status not in {"running", "suspended"}:
            return SandboxDown(sandbox, status)
        error = NoConnection(_named(sandbox, target), f"its node cannot be reached within {limit:g} s")
        error.definite, error.advice = True, "Nothing was sent."
        return error

    async def reach(
        self, sandbox: str, stale: Place | None, patience: float | None = None
    ) -> tuple[Place, Carrier]:
        """Return where the sandbox lives, other than at `stale`, with the open channel to its node.

        `patience`: how many seconds the control plane may wait for a quorum before it refuses.
        """
        while True:
            place = await self._locate(sandbox, stale, patience)
            try:
                return place, await self._nodes.get(place[0])
            except OSError:
                stale = place

    async def _locate(self, sandbox: str, stale: Place | None, patience: float | None) -> Place:
        if stale is not None:
            if self._places.get(sandbox) == stale:
                del self._places[sandbox]
        elif (known := self._places.get(sandbox)) is not None:
            return known
        while True:
            found = await self.ask("lookup", sandbox=sandbox, stale=stale, patience=patience)
            _, address, epoch, *_, heirs = found
            stale = (address, epoch)
            if address not in self._lost:
                for heir in heirs:
                    if heir not in self._lost:
                        self._nodes.prepare(heir)
                self._places[sandbox] = stale
                return stale


def _named(sandbox: str, target: Any) -> str:
    return sandbox if target is None else f"{sandbox}/{target}"
