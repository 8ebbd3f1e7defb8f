"""What clients did: operations with the times of their beginning and end. The record that checkers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

#: ``ok``: it was answered. ``failed``: it certainly did not happen. ``unknown``: it may take effect at any
#: time from its beginning on, or never.
Outcome = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client on one object.

    ``argument`` and ``value`` are plain, so that a history can be written as JSON lines and read again.

    >>> print(Operation("ann", "write", 3, invoked=1.0, completed=1.25, subject="shop"))
    ann: write(3) on shop, 1.000 s to 1.250 s
    >>> print(Operation("bob", "read", value=3, invoked=1.0, outcome="unknown", reason="call_timeout"))
    bob: read(), from 1.000 s on: unknown (call_timeout)
    """

    client: str
    #: Such as ``read``, ``write``, ``cas`` (compare and set), ``increment``.
    kind: str
    argument: Any = None
    #: Seconds, by one clock for all clients.
    invoked: float = 0.0
    #: Seconds; None while no answer is known, as of one whose outcome is unknown.
    completed: float | None = None
    outcome: Outcome = "ok"
    #: What was answered.
    value: Any = None
    #: Whose state it was about, such as a sandbox.
    subject: str = ""
    #: Its number, which no other operation of the history has; an effect is remembered under it.
    number: int = 0
    #: Who answered, where the answer says so: one incarnation of the subject.
    by: str | None = None
    #: Why it was not answered, as an error's code.
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the operation as a plain dict, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Operation:
        """Rebuild an operation from `as_dict`; JSON has made a list of a tuple."""
        argument = plain.get("argument")
        return cls(**{**plain, "argument": tuple(argument) if isinstance(argument, list) else argument})

    @property
    def call(self) -> str:
        """What was asked, as code."""
        match self.argument:
            case None:
                return f"{self.kind}()"
            case tuple(several):
                return f"{self.kind}({', '.join(map(repr, several))})"
            case one:
                return f"{self.kind}({one!r})"

    def __str__(self) -> str:
        told = f"{self.client}: {self.call}"
        if self.outcome == "ok" and self.value is not None:
            told += f" -> {self.value!r}"
        if self.subject:
            told += f" on {self.subject}"
        if self.completed is None:
            told += f", from {self.invoked:.3f} s on"
        else:
            told += f", {self.invoked:.3f} s to {self.completed:.3f} s"
        if self.outcome != "ok":
            told += f": {self.outcome}" + (f" ({self.reason})" if self.reason else "")
        return told
