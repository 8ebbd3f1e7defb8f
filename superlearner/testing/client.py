"""A simulated client: it looks sandboxes up, calls them, and follows the rules of `core.retry`, as a real link does."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from superlearner.core.retry import Outcome, decide, doubted, leaves_doubt
from superlearner.errors import NoConnection, ProcessDied, StaleEpoch, SuperlearnerError
from superlearner.testing.channels import Pool
from superlearner.testing.engine import EXPECTED, Process
from superlearner.testing.instance import Fenced

if TYPE_CHECKING:
    from superlearner.testing.cluster import SimulatedCluster

Place = tuple[str, int]


class SimulatedClient:
    """One client.

    Parameters
    ----------
    cluster
        What it calls.
    name
        Its name in schedules.
    """

    def __init__(self, cluster: SimulatedCluster, name: str) -> None:
        self.cluster = cluster
        self.process = Process(cluster.engine, name, cluster.clock(name))
        self._control = Pool(cluster.network, self.process, "control")
        self._nodes = Pool(cluster.network, self.process, "calls")
        self._places: dict[str, Place] = {}
        #: How its calls and requests ended: ``ok`` or an error's name -> how often.
        self.outcomes: Counter[str] = Counter()

    async def ask(self, verb: str, *words: Any) -> None:
        """Ask the control plane for something, and note how that ended."""
        try:
            await self.requested(verb, *words)
        except EXPECTED as error:
            self.outcomes[f"{verb} {type(error).__name__}"] += 1
        else:
            self.outcomes[f"{verb} ok"] += 1

    async def requested(self, verb: str, *words: Any) -> Any:
        """Ask the control plane for something, and return its answer."""
        return await self._control.ask("scheduler:1", verb, *words)

    async def call(self, sandbox: str, call: str, *, durable: bool, timeout: float) -> None:
        """Call a sandbox wherever it lives, and note how that ended; with ``*`` at its end its name is its id."""
        try:
            await self.called(sandbox, call, durable=durable, timeout=timeout)
        except EXPECTED as error:
            self.outcomes[f"call {type(error).__name__}"] += 1
        else:
            self.outcomes["call ok"] += 1

    async def called(self, sandbox: str, call: str, *, durable: bool, timeout: float) -> Any:
        """Call a sandbox wherever it lives, and return its answer; TimeoutError when there is none in time."""
        work = self.process.spawn(self._call(sandbox, call, durable, timeout))
        return await self.process.within(timeout, work)

    async def _call(self, sandbox: str, call: str, durable: bool, timeout: float) -> Any:
        stale: Place | None = None
        doubt = False
        try:
            while True:
                place = await self._locate(sandbox, stale, 0.8 * timeout)
                try:
                    channel = await self._nodes.get(place[0])
                except OSError:
                    stale = place
                    continue
                try:
                    return await channel.request(sandbox, place[1], call, durable)
                except EXPECTED as error:
                    ended = _outcome(error, closed=channel.closed)
                    doubt = doubt or leaves_doubt(ended)
                    match decide(ended, idempotent=call.endswith("*")):
                        case "elsewhere":
                            stale = place
                        case "again":
                            stale = None
                        case "unknown":
                            raise NoConnection(sandbox, "its node is gone") from None
                        case _:
                            raise
        except SuperlearnerError as error:
            if doubt and error.definite:
                raise doubted(error, sandbox) from error
            raise

    async def _locate(self, sandbox: str, stale: Place | None, patience: float) -> Place:
        if stale is not None:
            if self._places.get(sandbox) == stale:
                del self._places[sandbox]
        elif (known := self._places.get(sandbox)) is not None:
            return known
        place: Place = await self._control.ask("scheduler:1", "lookup", sandbox, stale, patience)
        self._places[sandbox] = place
        return place


def _outcome(error: BaseException, *, closed: bool) -> Outcome:
    if closed or isinstance(error, Fenced):
        return "closed"
    if isinstance(error, StaleEpoch):
        return "stale"
    return "died" if isinstance(error, ProcessDied) else "refused"
