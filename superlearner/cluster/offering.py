"""What this client does for others: the side that offers, and the side that asks. See `superlearner.cluster.offers`."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from superlearner.cluster.channel import Channel, ChannelClosed
from superlearner.cluster.offers import Offer

if TYPE_CHECKING:
    from superlearner.cluster.session import Session

logger = logging.getLogger(__name__)
#: Carries out what was asked for: bytes to bytes. It answers failures in them, too, and raises nothing.
Work = Callable[[bytes], Coroutine[Any, Any, bytes]]


class Offering:
    """What one link offers: kept for when it has to connect again."""

    def __init__(self) -> None:
        #: Tells the link to the control plane, whichever connection it comes by.
        self.by = secrets.token_hex(8)
        self._works: dict[str, tuple[Offer, Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Offer]:
        return iter([offer for offer, _ in self._works.values()])

    def keep(self, offer: Offer, work: Work) -> tuple[Offer, Work] | None:
        """Remember how an offer is carried out; return what was kept by its name, for `forget`."""
        before = self._works.get(offer.name)
        self._works[offer.name] = offer, work
        return before

    def forget(self, name: str, before: tuple[Offer, Work] | None = None) -> None:
        """Forget an offer, and keep what was kept before it."""
        self._works.pop(name, None)
        if before is not None:
            self._works[name] = before

    def carry_out(self, channel: Channel, number: int, name: str, mark: str, body: bytes) -> None:
        """Begin what was asked for over `channel`, and answer there."""
        kept = self._works.get(name)
        work = kept[1](body) if kept is not None and kept[0].mark == mark else _nothing()
        task = asyncio.create_task(_answer(channel, number, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break off what is under way, but for that which closes the link itself."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing() -> None:
    """Answer for what was withdrawn meanwhile."""


async def _answer(channel: Channel, number: int, work: Awaitable[bytes | None]) -> None:
    answer = await work
    try:
        channel.post("carried_out", number, answer)
    except ChannelClosed:
        logger.info("superlearner: nobody hears the answer any more, as the connection has broken")


class Offers:
    """The offers of a cluster, as a manager has them; its methods are to be awaited."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, offer: Offer, work: Work, *, replace: bool = False) -> None:
        """Offer something until `withdraw`, or the end of the session; raise `OfferTaken`."""
        await self._session.link.offer(offer, work, replace=replace)

    async def withdraw(self, name: str) -> None:
        """Offer something no longer."""
        await self._session.link.withdraw(name)

    async def listed(self, known: str | None = None) -> tuple[str, list[Offer]] | None:
        """Return the mark of all offers of the cluster with them; None where `known` is that mark."""
        found: tuple[str, list[Offer]] | None = await self._session.link.ask("offers", known=known)
        return found

    async def ask(self, offer: Offer, body: bytes) -> Any:
        """Have an offer carried out by whoever offers it.

        Raises
        ------
        NotOffered
            It is not offered any more, or was declared anew.
        NoConnection
            Its process has ended before it answered.
        """
        return await self._session.link.ask("ask_offer", name=offer.name, mark=offer.mark, body=body)
