"""The way to processes of other sandboxes: their addresses, and what a kernel asks of whoever can reach them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from superlearner.errors import InvalidSpec
from superlearner.otp._pid import Pid, Ref

if TYPE_CHECKING:
    from superlearner.otp._process import Process

#: Takes the pid of a process that has ended, where it is known, and the reason.
OnDown = Callable[[Pid | None, Any], None]


class Far(NamedTuple):
    """The address of a process by its sandbox."""

    sandbox: str
    #: What it is called there: a name, a pid, or ``(partition supervisor, key)``.
    target: Any

    def __str__(self) -> str:
        return str(self.target) if isinstance(self.target, Pid) else f"{self.sandbox}/{self.target}"


def far(target: Any) -> Far | None:
    """Take apart an address that names its sandbox; None for one that does not.

    >>> far("shop/counter"), far(("shop/shards", "ann"))
    (Far(sandbox='shop', target='counter'), Far(sandbox='shop', target=('shards', 'ann')))
    >>> far("<alpha.shop.3>"), far("counter")
    (Far(sandbox='shop', target=<alpha.shop.3>), None)
    """
    match target:
        case Pid():
            return Far(target.sandbox, target)
        case str() if target.startswith("<"):
            try:
                return far(Pid(target))
            except InvalidSpec:
                return None
        case str():
            sandbox, _, name = target.partition("/")
            return Far(sandbox, name) if sandbox and name and "/" not in name else None
        case (supervisor, key):
            found = far(supervisor)
            return None if found is None else Far(found.sandbox, (found.target, key))
    return None


class Gateway(Protocol):
    """Reaches the processes of other sandboxes; each method is called on the kernel's loop and does not block.

    A message that cannot leave raises `NotSerializable`, and nothing is sent. What one sandbox sends to another
    arrives in order.
    """

    def call(
        self, to: Far, request: Any, caller: Pid, timeout: float | None, request_id: str | None
    ) -> asyncio.Future[Any]:
        """Send a call, with its id if it has one.

        The future is cancelled, or given an exception, by who does not wait any more.
        """

    def post(self, verb: Literal["cast", "send"], to: Far, message: Any) -> None:
        """Send a message that has no answer."""

    def watch(self, to: Far, on_down: OnDown) -> Callable[[], None]:
        """Call `on_down` once, later, when `to` has ended or cannot be seen any more; return what ends that."""

    def whereis(self, to: Far) -> asyncio.Future[Pid | None]:
        """Ask for the pid of a name."""


class Watcher(Protocol):
    """Who learns of a process's end."""

    def on_down(self, ref: Ref, pid: Any, reason: Any) -> None:
        """Learn that the process behind `ref` has ended."""


class Watched(Protocol):
    """What stands for a monitored process on the side of who monitors it."""

    pid: Any

    def unwatch(self, ref: Ref) -> None:
        """Tell the watcher behind `ref` nothing any more."""


class FarProcess:
    """A monitored process of another sandbox."""

    def __init__(self, gateway: Gateway, address: Far, ref: Ref, watcher: Process) -> None:
        #: What was asked for: the pid itself may never become known.
        self.pid = address.target if isinstance(address.target, Pid) else str(address)
        self._ref, self._watcher = ref, watcher
        self._end = gateway.watch(address, self._ended)

    def _ended(self, pid: Pid | None, reason: Any) -> None:
        self._watcher.on_down(self._ref, self.pid if pid is None else pid, reason)

    def unwatch(self, ref: Ref) -> None:
        """Stop watching."""
        self._end()


class Outsider:
    """Somebody outside of this runtime who watches a process in it."""

    def __init__(self, tell: OnDown) -> None:
        self._tell = tell

    def on_down(self, ref: Ref, pid: Pid, reason: Any) -> None:
        """Pass it on."""
        self._tell(pid, reason)
