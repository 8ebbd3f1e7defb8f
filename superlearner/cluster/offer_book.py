"""The control plane's side of offers: see `superlearner.cluster.offers`."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from dataclasses import dataclass

from superlearner.cluster.channel import ServedChannel
from superlearner.cluster.offers import NotOffered, Offer, OfferTaken
from superlearner.errors import NoConnection


@dataclass(frozen=True, slots=True)
class _Held:
    offer: Offer
    #: Whose it is: the same client may come by another channel, after its connection has broken.
    by: str
    channel: ServedChannel


class OfferBook:
    """The offers that the control plane knows, and what is being asked for through it."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        #: What was asked for and is not answered yet: by number, who is to answer what.
        self._asked: dict[int, tuple[ServedChannel, str, asyncio.Future[bytes | None]]] = {}
        self._numbers = itertools.count(1)
        #: Tells the present offers from those of before.
        self.mark = secrets.token_hex(8)

    def add(self, channel: ServedChannel, by: str, offer: Offer, *, replace: bool) -> None:
        """Take an offer of the client `by`, in the place of an earlier one of its own.

        Raises
        ------
        OfferTaken
            Another client offers something by that name (and it is not to be replaced), or at that place.
        """
        held = self._held.get(offer.name)
        if held is not None and held.by != by and not replace:
            raise OfferTaken(offer.name, offer.name)
        for other in self._held.values():
            if other.offer.place == offer.place and other.offer.name != offer.name:
                raise OfferTaken(offer.name, other.offer.name, offer.place)
        self._held[offer.name] = _Held(offer, by, channel)
        self._changed()

    def withdraw(self, by: str, name: str) -> Offer | None:
        """Forget an offer of the client `by`, and return it; None where there is none."""
        held = self._held.get(name)
        if held is None or held.by != by:
            return None
        del self._held[name]
        self._changed()
        return held.offer

    def listed(self, known: str | None = None) -> tuple[str, list[Offer]] | None:
        """Return the mark of the offers with them all; None where `known` is that mark."""
        if known == self.mark:
            return None
        return self.mark, [held.offer for _, held in sorted(self._held.items())]

    async def ask(self, name: str, mark: str, body: bytes) -> bytes:
        """Have an offer carried out, and return what its client answers.

        Raises
        ------
        NotOffered
            There is no such offer, or none with that mark.
        NoConnection
            Its client has gone before it answered.
        """
        held = self._held.get(name)
        if held is None or held.offer.mark != mark:
            raise NotOffered(name, tuple(self._held))
        number = next(self._numbers)
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = held.channel, name, future
        held.channel.push(("carry_out", (number, name, mark, body)))
        try:
            answer = await future
        finally:
            self._asked.pop(number, None)
        if answer is None:
            raise NotOffered(name, tuple(self._held))
        return answer

    def carried_out(self, channel: ServedChannel, number: int, answer: bytes | None) -> None:
        """Take the answer of a client, None: it has withdrawn that; one that nobody waits for is dropped."""
        asked = self._asked.get(number)
        if asked is not None and asked[0] is channel and not asked[2].done():
            asked[2].set_result(answer)

    def gone(self, channel: ServedChannel) -> list[Offer]:
        """Forget what was offered over a channel that has closed; return the offers that are gone."""
        for asked, name, future in self._asked.values():
            if asked is channel and not future.done():
                future.set_exception(NoConnection(name, "the process that registered it has ended"))
        gone = [held.offer for held in self._held.values() if held.channel is channel]
        for offer in gone:
            del self._held[offer.name]
        if gone:
            self._changed()
        return gone

    def _changed(self) -> None:
        self.mark = secrets.token_hex(8)
