"""Addresses and references: values that may be kept in a state, sent, compared and pickled."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Self

from superlearner.errors import InvalidSpec

_PID = re.compile(r"<([^.<>]*)\.([^.<>]*)\.(\d+)>")


class Awaitable:
    """What plain verbs return: awaiting it is harmless and gives it back."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Self]:
        return self
        yield


class Pid(Awaitable, str):
    """A process's address; its text is ``<node.sandbox.serial>``, and it is never reused.

    >>> pid = Pid.of("alpha", "shop", 3)
    >>> print(pid, pid.node, pid.sandbox, pid.serial)
    <alpha.shop.3> alpha shop 3
    >>> pid == "<alpha.shop.3>", pid
    (True, <alpha.shop.3>)
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _PID.fullmatch(text):
            raise InvalidSpec(f"{text!r} is not a pid: a pid reads <node.sandbox.serial>.")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, node: str, sandbox: str, serial: int) -> Pid:
        """Make a pid of its parts."""
        return str.__new__(cls, f"<{node}.{sandbox}.{serial}>")

    @property
    def node(self) -> str:
        """The node it was started on."""
        return self[1:-1].split(".")[0]

    @property
    def sandbox(self) -> str:
        """The sandbox it lives in."""
        return self[1:-1].split(".")[1]

    @property
    def serial(self) -> int:
        """Its number in the sandbox."""
        return int(self[1:-1].split(".")[2])

    def __repr__(self) -> str:
        return str.__str__(self)


class Ref(Awaitable, str):
    """Names one monitor; comes back in its `Down`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__str__(self)


class Timer(Awaitable, str):
    """Names one `send_after`, for `cancel_timer`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__str__(self)


class SecondsLeft(Awaitable, float):
    """How long a cancelled timer still had to go."""

    __slots__ = ()


class Done(Awaitable):
    """What a verb returns that has nothing to tell."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ok"


DONE = Done()
