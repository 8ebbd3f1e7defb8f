"""Breaking things on purpose: every fault is real, and recorded before it acts."""

from __future__ import annotations

import asyncio
import inspect
import random
import signal
from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from superlearner.cluster.outgoing import split
from superlearner.cluster.sandbox import Sandbox
from superlearner.cluster.session import Session
from superlearner.core.faults import FaultRecord
from superlearner.errors import InvalidSpec, NoConnection

#: In a schedule: some node or sandbox, chosen by the seed.
ANY = "any"


class _Inside:
    """A session as its own coroutines use it: what it runs is awaited, whichever face its owner has."""

    asynchronous = True

    def __init__(self, session: Session) -> None:
        self.link = session.link

    def run(self, work: Any) -> Any:
        """Return what is to be awaited."""
        return work


class Fault:
    """A fault that was made: `revert` ends it, and so does the end of a ``with`` block.

    >>> with cluster.chaos.cut("alpha", "beta"):     # doctest: +SKIP
    ...     ...
    """

    def __init__(self, session: Session | _Inside, record: FaultRecord) -> None:
        self._session: Any = session
        #: Its id among the faults of the cluster, such as ``"cut-3"``.
        self.id = record.id
        #: What it is, such as ``"cut"``.
        self.kind = record.kind
        #: What it was made with, and what it concerns.
        self.detail = record.detail
        #: When it was made, in seconds since 1970.
        self.at = record.at

    def __repr__(self) -> str:
        return f"<Fault {self.id}: {self.detail}>"

    def revert(self) -> bool:
        """End it; returns when it does not act any more: False if it had ended already."""
        return self._session.run(self._revert())

    async def _revert(self) -> bool:
        return bool(await self._session.link.ask_apart("revert", id=self.id))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.revert()


class Injection:
    """A fault about to be made, for those who await: ``await`` it, or use it in ``async with``."""

    def __init__(self, work: Coroutine[Any, Any, Fault]) -> None:
        self._work = work
        self._fault: Fault | None = None

    def __await__(self) -> Generator[Any, None, Fault]:
        return self._work.__await__()

    async def __aenter__(self) -> Fault:
        self._fault = await self._work
        return self._fault

    async def __aexit__(self, *_: object) -> None:
        assert self._fault is not None
        await self._fault._revert()  # noqa: SLF001 - it is this module's


class Chaos:
    """The faults of a cluster, as ``cluster.chaos``.

    Those that last (all but the kills) return a `Fault`, are listed by `faults`, and end with its `revert`,
    with the ``with`` block that they begin, or with `heal`. The two ends of a link are names of nodes,
    ``"scheduler"``, or ``"client"``: every client together; ``"*"`` is every other end.

    Links can be broken in a cluster that `superlearner.Cluster` or ``superlearner start`` has made, and in
    a Dask cluster whose processes talk over ``faulty+tls://``; elsewhere `Unsupported` says so.
    """

    def __init__(self, session: Session | _Inside) -> None:
        self._session: Any = session

    # -- Killing -------------------------------------------------------------------------------------

    def kill_process(self, target: str, reason: Any = "kill") -> Any:
        """Kill one process, named ``"sandbox/process"``: its supervisor notices."""
        sandbox, process = split(target)
        return Sandbox(self._session, sandbox).kill(process, reason)

    def kill_sandbox(self, id: str) -> int:
        """Kill the OS process of a sandbox with SIGKILL; return the pid that it had: its instance notices."""
        return self._ask("signal_sandbox", sandbox=id, number=int(signal.SIGKILL))

    def kill_node(self, node: str) -> int:
        """Kill a node's worker process with SIGKILL and wait until its loss is noticed; return its pid.

        Everything on the node dies with it: the control plane notices, and starts it elsewhere. Where a cut
        link keeps the control plane from noticing, nobody waits for it.
        """
        return self._ask("signal_node", node=node, number=int(signal.SIGKILL))

    def kill_scheduler(self) -> None:
        """Kill the scheduler's process with SIGKILL; returns when a new one answers.

        All nodes die with it. The guardian of a local cluster starts it again, and every sandbox comes back
        from its newest checkpoint on disk, with a higher epoch. Elsewhere `Unsupported`: nobody would.
        """
        return self._session.run(self._kill_scheduler())

    # -- Pausing -------------------------------------------------------------------------------------

    def pause_node(self, node: str, seconds: float | None = None) -> Fault:
        """Freeze a node's worker process (SIGSTOP), for `seconds` or until it is healed.

        No connection closes: the node is only silent. The OS processes of its sandboxes run on, without
        anybody who could reach them, until they miss their worker for longer than their lease.
        """
        return self._inject("pause_node", node=node, seconds=seconds)

    def pause_sandbox(self, id: str, seconds: float | None = None) -> Fault:
        """Freeze the OS process of a sandbox, for `seconds` or until it is healed."""
        return self._inject("pause_sandbox", sandbox=id, seconds=seconds)

    # -- Links ---------------------------------------------------------------------------------------

    def partition(self, groups: Iterable[Iterable[str]]) -> Fault:
        """Cut all links between the groups, such as ``[["alpha"], ["beta", "gamma"]]``.

        The scheduler is in the group that names ``"scheduler"``, else in the largest (of equals, the first);
        clients are where the scheduler is. Nodes that no group names form one more group.
        """
        sides = (
            [groups]
            if isinstance(groups, str)
            else [[side] if isinstance(side, str) else side for side in groups]
        )
        return self._inject("partition", groups=[list(side) for side in sides])

    def cut(self, a: str, b: str, *, one_way: bool = False) -> Fault:
        """Cut the link between two ends: connections stay open, and nothing passes until it is healed.

        `one_way`: only what `a` sends to `b` is held.
        """
        return self._inject("cut", a=a, b=b, one_way=one_way)

    def delay(
        self, a: str, b: str, seconds: float, *, jitter: float = 0.0, one_way: bool = False, seed: int = 0
    ) -> Fault:
        """Have every message between two ends arrive `seconds` later, and up to `jitter` more by chance."""
        return self._inject("delay", a=a, b=b, seconds=seconds, jitter=jitter, one_way=one_way, seed=seed)

    def slow(self, a: str, b: str, bytes_per_second: float, *, one_way: bool = False) -> Fault:
        """Let only so many bytes per second pass between two ends, in each direction."""
        return self._inject("slow", a=a, b=b, bytes_per_second=bytes_per_second, one_way=one_way)

    def drop(self, a: str, b: str, probability: float, *, one_way: bool = False, seed: int = 0) -> Fault:
        """Lose each message between two ends with a probability.

        A connection that has lost a message is broken, and both ends see it closed: these are streams. A
        node that loses the connection to the scheduler is lost, and its process is started again: at once, or,
        where it lost the answer to its registration, after half a minute.
        """
        return self._inject("drop", a=a, b=b, probability=probability, one_way=one_way, seed=seed)

    def flap(
        self, a: str, b: str, *, cut_for: float = 1.0, open_for: float = 1.0, one_way: bool = False
    ) -> Fault:
        """Cut the link between two ends for `cut_for` seconds, open it for `open_for`, and so on."""
        return self._inject("flap", a=a, b=b, cut_for=cut_for, open_for=open_for, one_way=one_way)

    # -- Ending --------------------------------------------------------------------------------------

    def heal(self) -> list[str]:
        """End every fault, whoever made it, and return their ids; returns when none acts any more."""
        return self._ask("heal")

    def faults(self) -> list[Fault]:
        """Return the faults that act now, oldest first."""
        return self._session.run(self._faults())

    def run(self, schedule: Sequence[tuple[float, str, Any]], seed: int = 0) -> list[tuple[float, str, Any]]:
        """Make faults on a schedule, then heal; returns when all that is done.

        Parameters
        ----------
        schedule
            Each ``(seconds from the start, fault, arguments)``: a method's name and what to call it with, as
            a list or, by name, as a dict, such as ``(2.0, "cut", ["alpha", "beta"])``. ``"any"`` for a node
            or a sandbox is one that runs then, chosen by chance.
        seed
            Decides these choices, and the chances of faults that have no seed of their own.

        Returns
        -------
        list
            What was done: the seconds after which it was, the fault, and its arguments by name.
        """
        return self._session.run(self._run([_checked(step) for step in schedule], seed))

    async def _faults(self) -> list[Fault]:
        return [Fault(self._session, record) for record in await self._session.link.ask_apart("faults")]

    async def _run(
        self, steps: list[tuple[float, str, dict[str, Any]]], seed: int
    ) -> list[tuple[float, str, Any]]:
        chance, inside = random.Random(seed), Chaos(_Inside(self._session))
        loop = asyncio.get_running_loop()
        start, done = loop.time(), []
        try:
            for seconds, fault, arguments in sorted(steps, key=lambda step: step[0]):
                await asyncio.sleep(start + seconds - loop.time())
                chosen = await self._choose(arguments, chance)
                if "seed" in _parameters(fault) and "seed" not in chosen:
                    chosen["seed"] = chance.randrange(2**31)
                done.append((loop.time() - start, fault, chosen))
                await getattr(inside, fault)(**chosen)
        finally:
            await self._session.link.ask_apart("heal")
        return done

    async def _choose(self, arguments: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Put a node or a sandbox in the place of each ``"any"``."""
        chosen = dict(arguments)
        for name, value in arguments.items():
            if value == ANY and name in {"node", "a", "b"}:
                nodes = await self._session.link.ask_apart("nodes")
                taken = chosen.values()
                chosen[name] = chance.choice(
                    [n.name for n in nodes if n.status == "up" and n.name not in taken]
                )
            elif value == ANY and name == "id":
                boxes = await self._session.link.ask_apart("sandboxes", status="running")
                chosen[name] = chance.choice([box.id for box in boxes])
        return chosen

    # -- How -----------------------------------------------------------------------------------------

    def _inject(self, kind: str, **detail: Any) -> Any:
        work = self._injected(kind, detail)
        return Injection(work) if self._session.asynchronous else self._session.run(work)

    async def _injected(self, kind: str, detail: dict[str, Any]) -> Fault:
        return Fault(self._session, await self._session.link.ask_apart("inject", kind=kind, detail=detail))

    async def _kill_scheduler(self) -> None:
        link = self._session.link
        with suppress(NoConnection):  # it dies before it can answer
            await link.ask_apart("signal_scheduler", number=int(signal.SIGKILL))
        await link.ask("hello")  # waits until it is there again

    def _ask(self, verb: str, **kwargs: Any) -> Any:
        return self._session.run(self._session.link.ask_apart(verb, **kwargs))


def _parameters(fault: str) -> dict[str, inspect.Parameter]:
    return {
        name: p for name, p in inspect.signature(getattr(Chaos, fault)).parameters.items() if name != "self"
    }


def _checked(step: Any) -> tuple[float, str, dict[str, Any]]:
    """Return one step of a schedule with its arguments by name; refuse what could not be done."""
    try:
        seconds, fault, arguments = step
        seconds = float(seconds)
    except (TypeError, ValueError):
        raise InvalidSpec(
            f"{step!r} is no step of a schedule; nothing was broken. Write (seconds, fault, arguments), such as "
            '(2.0, "cut", ["alpha", "beta"]).'
        ) from None
    if fault not in FAULTS:
        raise InvalidSpec(f"There is no fault {fault!r}; nothing was broken. There are: {', '.join(FAULTS)}.")
    try:
        signature = inspect.signature(getattr(Chaos, fault))
        if isinstance(arguments, Mapping):
            bound = signature.bind(None, **arguments)
        else:
            bound = signature.bind(None, *([arguments] if isinstance(arguments, str) else arguments))
    except TypeError as error:
        raise InvalidSpec(f"{fault} in the schedule: {error}; nothing was broken.") from None
    return seconds, fault, {name: value for name, value in bound.arguments.items() if name != "self"}


#: What a schedule may name.
FAULTS = tuple(
    sorted(name for name in vars(Chaos) if not name.startswith("_") and name not in {"faults", "run"})
)
