"""What clients do for each other: offered by name to the control plane, asked for through it, gone with its client.

The control plane passes bytes on and runs nothing: what is offered is carried out in the process that offers it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from superlearner.errors import SuperlearnerError, did_you_mean


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that one client carries out for all."""

    name: str
    #: What no two offers may share beside their names, such as a route.
    place: str
    #: Tells whoever may ask what it is, in a language of theirs.
    declaration: bytes
    #: Tells this declaration from an earlier one of the same name.
    mark: str

    @classmethod
    def new(cls, name: str, place: str, declaration: bytes) -> Offer:
        """Make an offer that is like no other."""
        return cls(name, place, declaration, secrets.token_hex(8))


class NotOffered(SuperlearnerError):
    """Nobody offers that any more, or it has been declared anew meanwhile; nothing was done.

    Parameters
    ----------
    name
        What was asked for.
    known
        What is offered, to find the one that was meant.
    """

    code = "not_offered"

    def __init__(self, name: str = "it", known: tuple[str, ...] = ()) -> None:
        super().__init__(name, known)
        self.name = name
        near = did_you_mean(name, [other for other in known if other != name])
        self.advice = (
            f"{near} " * bool(near) + "Look again at what there is; register it again if it is yours."
        )

    def what(self) -> str:
        """Say what happened."""
        return (
            f"The process that registered {self.name!r} has ended, withdrawn it or declared it anew; "
            "nothing was done."
        )


class OfferTaken(SuperlearnerError):
    """Another process offers something by that name, or at that place; nothing was registered.

    Parameters
    ----------
    name
        What was to be offered.
    other
        The offer in its way.
    place
        What they share, where it is not the name.
    """

    code = "offer_taken"

    def __init__(self, name: str = "it", other: str = "it", place: str | None = None) -> None:
        super().__init__(name, other, place)
        self.name, self.other, self.place = name, other, place
        self.advice = "Choose another path." if place else "Choose another name, or give replace=True."

    def what(self) -> str:
        """Say what happened."""
        if self.place:
            return f"{self.place} belongs to {self.other!r} of another process; {self.name!r} was not registered."
        return f"Another process has registered {self.name!r}; nothing was registered."
