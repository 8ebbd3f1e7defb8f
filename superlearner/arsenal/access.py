"""Who may do what: three levels of access, tokens that carry them, and how fast each caller may ask. Pure."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Access = Literal["read", "operate", "admin"]
#: From the least to the most; each includes those before it.
LEVELS: tuple[Access, ...] = get_args(Access)
#: How many callers are remembered at once.
MOST_CALLERS = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks for an operation."""

    #: Who, as the event log names them: a token's name, or a user's.
    name: str
    access: Access
    #: By which way: ``rest``, ``jupyter``, ``cli`` or ``python``.
    face: str = "python"


def may(held: Access, wanted: Access) -> bool:
    """Tell whether who holds one level of access may do what asks for another.

    >>> may("operate", "read"), may("read", "operate")
    (True, False)
    """
    return LEVELS.index(held) >= LEVELS.index(wanted)


@dataclass(frozen=True, slots=True)
class Token:
    """What a caller shows; whoever has it may do what it says."""

    name: str
    access: Access
    secret: str
    #: Unix time in seconds; None: it is good until it is removed.
    expires: float | None = None

    def __repr__(self) -> str:
        return f"<Token {self.name!r} {self.access}>"


def vouched(tokens: Iterable[Token], shown: str, now: float) -> Token | None:
    """Return the token whose secret was shown, None when there is none, or it has expired.

    Every one is compared, in a time that tells nothing of how much of it was right.

    >>> tokens = [Token("ci", "read", "s3cret", expires=10.0)]
    >>> vouched(tokens, "s3cret", now=9.0).name
    'ci'
    >>> vouched(tokens, "s3cret", now=10.0), vouched(tokens, "guess", now=9.0)
    (None, None)
    """
    found, given = None, shown.encode(errors="surrogatepass")
    for token in tokens:
        if hmac.compare_digest(token.secret.encode(), given) and given:
            found = token
    if found is None or (found.expires is not None and now >= found.expires):
        return None
    return found


class Rate:
    """How many requests each caller has left: `burst` at once, and `rate` more each second.

    Only the newest `callers` are remembered; one that was forgotten begins anew.

    >>> limit = Rate(rate=2.0, burst=1)
    >>> limit.take("ann", now=0.0), limit.take("ann", now=0.0), limit.take("bob", now=0.0)
    (0.0, 0.5, 0.0)
    >>> limit.take("ann", now=0.5)
    0.0
    """

    def __init__(self, rate: float, burst: float, callers: int = MOST_CALLERS) -> None:
        self._rate = rate
        self._burst = burst
        self._callers = callers
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable, now: float) -> float:
        """Take one request; return 0, or the seconds to wait when there is none left."""
        left, since = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[caller] = (left - 1 if wait == 0 else left, max(now, since))
        while len(self._left) > self._callers:
            self._left.popitem(last=False)
        return wait
