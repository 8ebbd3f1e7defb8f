"""How the rules of broken links reach the ends that follow them, and what they keep the scheduler from knowing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from superlearner.cluster.commands import NodeDoor
from superlearner.cluster.faulty import can_break
from superlearner.cluster.lanes import HERE, plain_rules
from superlearner.core.faults import SCHEDULER, Link, LinkRule
from superlearner.errors import Unsupported

if TYPE_CHECKING:
    from superlearner.cluster.pump import Pump

logger = logging.getLogger(__name__)
#: Seconds that a node may take to follow new rules before nobody waits for it any more.
ACK_TIMEOUT = 3.0


class Rulebook:
    """Has the scheduler and the nodes follow rules.

    Parameters
    ----------
    plane
        The control plane that knows the nodes.
    nodes
        Commands to the nodes, over connections that every fault spares.
    """

    def __init__(self, plane: Pump, nodes: NodeDoor) -> None:
        self._plane = plane
        self._nodes = nodes
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        #: The addresses of nodes whose process has ended.
        self._ended: set[str] = set()
        #: The addresses of nodes that have been told rules.
        self._told: set[str] = set()

    # -- Telling -------------------------------------------------------------------------------------

    def refuse_where_unbreakable(self) -> None:
        """Raise `Unsupported` unless scheduler and nodes talk over a transport that can be broken."""
        up = [facts["address"] for facts in self._plane.known.values() if facts["up"]]
        for address in [self._plane.address, *up]:
            if not can_break(address):
                raise Unsupported(
                    f"Links can only be broken where scheduler and workers talk over the transport faulty+tls:// (or "
                    f"faulty:// without TLS), and {address} does not; nothing was broken. A cluster made by "
                    "superlearner.Cluster() does. Elsewhere start scheduler and workers with "
                    "--protocol faulty+tls --preload superlearner.cluster.preload."
                )

    async def publish(
        self, rules: Mapping[Link, LinkRule], *, frozen: Collection[str], waking: str | None = None
    ) -> dict[str, str]:
        """Have every end follow these rules instead of those before; return the name that each node gives itself.

        Nobody waits for `frozen` nodes: they find the rules when they wake. A node that was given up for its
        silence is told as well: it may live, and keep to what it knows.
        """
        version, plain = time.time_ns(), plain_rules(rules)
        HERE.adopt(version, plain)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        named: dict[str, str] = {}

        async def tell(node: str, address: str) -> None:
            try:
                named[node] = await self._nodes.ask(address, "follow", version, plain)
            except OSError:  # lost meanwhile; the next process there learns the rules from the scheduler
                self._told.discard(address)
            else:
                self._told.add(address)

        telling = {
            self.spawn(tell(node, facts["address"])): node
            for node, facts in self._plane.known.items()
            if can_break(facts["address"])
            and facts["address"] not in self._ended
            and (facts["up"] or node == waking or facts["address"] in self._told)
        }
        waited = [task for task, node in telling.items() if node not in frozen]
        if waited:
            await asyncio.wait(waited, timeout=ACK_TIMEOUT)
        return named

    # -- What the scheduler cannot know --------------------------------------------------------------

    def hides(self, node: str) -> bool:
        """Tell whether the scheduler cannot learn of that node's death now."""
        return HERE.rule(node, SCHEDULER).cut

    async def revealed(self, node: str) -> None:
        """Wait until the scheduler can learn of that node's death."""
        while self.hides(node):
            await self._changed.wait()

    def ended(self, node: str, address: str, tell: Callable[[], None]) -> None:
        """Learn that a node's process has ended, and call `tell` when the scheduler may know it."""
        self._ended.add(address)
        self._nodes.abandon(address)
        if not self.hides(node):
            tell()
            return

        async def tell_later() -> None:
            await self.revealed(node)
            tell()

        self.spawn(tell_later())

    # -- Tasks ---------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work`, whoever asked for it, until `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("superlearner: a fault could not do its part", exc_info=error)

    async def close(self) -> None:
        """Tell nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._nodes.close()
