"""Who is restarted, how often, and after what wait: the rules, for processes and sandboxes alike."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, Literal, assert_never

Restart = Literal["permanent", "transient", "temporary"]
#: Why a sandbox is started again that has not failed: it was asked for, the order in place, and going back, to which
#: the checkpoint is added.
ASKED, RESTART, RESTORED = "it was asked for", "restart", "restored from checkpoint"


def was_asked_for(reason: Any) -> bool:
    """Tell whether a sandbox was started again since somebody asked for it, and not because it had failed.

    >>> was_asked_for("restart"), was_asked_for("restored from checkpoint 3 of epoch 1"), was_asked_for("killed")
    (True, True, False)
    """
    return reason in (ASKED, RESTART) or (isinstance(reason, str) and reason.startswith(RESTORED))


def is_normal(reason: Any) -> bool:
    """Tell whether an exit reason counts as a wanted end: normal, shutdown or ("shutdown", detail).

    >>> is_normal("normal"), is_normal(("shutdown", "scaled down")), is_normal("killed")
    (True, True, False)
    """
    match reason:
        case str():
            return reason in {"normal", "shutdown"}
        case (str() as word, _):
            return word == "shutdown"
        case _:
            return False


def should_restart(restart: Restart, reason: Any) -> bool:
    """Tell whether a child that ended with `reason` is started again.

    The table of OTP's ``supervisor``:

    >>> [should_restart(r, "crash") for r in ("permanent", "transient", "temporary")]
    [True, True, False]
    >>> [should_restart(r, "shutdown") for r in ("permanent", "transient", "temporary")]
    [True, False, False]
    """
    match restart:
        case "permanent":
            return True
        case "transient":
            return not is_normal(reason)
        case "temporary":
            return False
    assert_never(restart)


@dataclass(frozen=True, slots=True)
class Intensity:
    """The restart budget: at most `max_restarts` within any `max_seconds`; frozen, each step returns a new one.

    >>> budget = Intensity(max_restarts=1, max_seconds=5.0)
    >>> budget, allowed = budget.spend(at=0.0); allowed
    True
    >>> budget, allowed = budget.spend(at=1.0); allowed
    False
    """

    max_restarts: int = 3
    max_seconds: float = 5.0
    #: The times of the restarts still inside the window, oldest first.
    restarts: tuple[float, ...] = ()

    def spend(self, at: float) -> tuple[Intensity, bool]:
        """Count one restart at time `at`; return the new budget and whether it was still allowed."""
        recent = (*self.restarts[self._outside(at) :], at)
        return Intensity(self.max_restarts, self.max_seconds, recent), len(recent) <= self.max_restarts

    def left(self, at: float) -> int:
        """Return how many restarts are still allowed at time `at`."""
        return max(0, self.max_restarts - len(self.restarts) + self._outside(at))

    def _outside(self, at: float) -> int:
        # The times are in order: found without a look at each, since a budget may be large.
        return bisect_left(self.restarts, -self.max_seconds, key=lambda t: t - at)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before the n-th restart in a row: exponential, capped, without chance.

    >>> backoff = Backoff(first=0.1, factor=2.0, longest=1.0)
    >>> [backoff.wait(n) for n in (1, 2, 3, 9)]
    [0.0, 0.1, 0.2, 1.0]
    """

    #: Seconds before the second try; the first try is made at once.
    first: float = 0.05
    factor: float = 2.0
    longest: float = 5.0

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait before try number `attempt`, counted from 1."""
        if attempt <= 1:
            return 0.0
        # The exponent is bounded so that a child that failed for days cannot overflow a float.
        return min(self.longest, self.first * self.factor ** min(attempt - 2, 64))
