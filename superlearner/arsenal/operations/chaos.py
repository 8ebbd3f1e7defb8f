"""Breaking things on purpose: every fault is real, recorded before it acts, and ends when it is told to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.cluster import NoParams
from superlearner.arsenal.plain import as_json
from superlearner.cluster.chaos import Fault
from superlearner.errors import (
    InvalidSpec,
    NoConnection,
    NoFault,
    NoProcess,
    NoSandbox,
    SandboxDown,
    SandboxFailed,
    UnknownNode,
    Unsupported,
)

#: The longest schedule, in seconds: an operation has 600 s.
LONGEST = 500.0

NodeName = Annotated[str, Field(min_length=1, max_length=63)]
SandboxId = Annotated[str, Field(min_length=1, max_length=63)]
End = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        description='A node, "scheduler", "client" (every client together), or "*" for every other end.',
    ),
]
Seconds = Annotated[
    float | None, Field(ge=0, description="It ends by itself after these; null: when it is healed.")
]


# -- What can be killed -------------------------------------------------------------------------------


class KillProcess(Params):
    """Kill one process of a sandbox; its supervisor notices."""

    kind: Literal["kill_process"]
    target: str = Field(min_length=3, max_length=200, pattern=r"^[^/]+/.+$", description='"sandbox/process".')
    reason: str = Field("kill", max_length=200, description='"kill" cannot be trapped.')


class KillSandbox(Params):
    """Kill the OS process of a sandbox with SIGKILL; its instance notices."""

    kind: Literal["kill_sandbox"]
    id: SandboxId


class KillNode(Params):
    """Kill a node's worker process with SIGKILL; everything on it dies with it."""

    kind: Literal["kill_node"]
    node: NodeName


class KillScheduler(Params):
    """Kill the scheduler's process with SIGKILL; all nodes die with it, and all comes back from the disk."""

    kind: Literal["kill_scheduler"]


# -- What lasts -----------------------------------------------------------------------------------------


class PauseNode(Params):
    """Freeze a node's worker process: it is only silent, no connection closes."""

    kind: Literal["pause_node"]
    node: NodeName
    seconds: Seconds = None


class PauseSandbox(Params):
    """Freeze the OS process of a sandbox."""

    kind: Literal["pause_sandbox"]
    id: SandboxId
    seconds: Seconds = None


class Partition(Params):
    """Cut all links between groups of ends; nodes that no group names form one more."""

    kind: Literal["partition"]
    groups: list[Annotated[list[End], Field(max_length=1000)]] = Field(min_length=1, max_length=100)


class _OnLink(Params):
    """A fault of the link between two ends."""

    a: End
    b: End
    one_way: bool = Field(False, description="Only what `a` sends to `b`.")


class Cut(_OnLink):
    """Cut a link: connections stay open, and nothing passes."""

    kind: Literal["cut"]


class Delay(_OnLink):
    """Have every message arrive later."""

    kind: Literal["delay"]
    seconds: float = Field(ge=0)
    jitter: float = Field(0.0, ge=0, description="Up to how many seconds more, by chance.")
    seed: int = Field(0, ge=0, lt=2**31)


class Slow(_OnLink):
    """Let only so many bytes per second pass."""

    kind: Literal["slow"]
    bytes_per_second: float = Field(ge=1)


class Drop(_OnLink):
    """Lose each message with a probability; a connection that has lost one is broken."""

    kind: Literal["drop"]
    probability: float = Field(ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)


class Flap(_OnLink):
    """Cut a link and open it again, and so on."""

    kind: Literal["flap"]
    cut_for: float = Field(1.0, ge=0.001, description="Seconds.")
    open_for: float = Field(1.0, ge=0.001, description="Seconds.")


Kill = KillProcess | KillSandbox | KillNode | KillScheduler
Lasting = PauseNode | PauseSandbox | Partition | Cut | Delay | Slow | Drop | Flap
_WRONG = (InvalidSpec, UnknownNode, NoSandbox, Unsupported)


class FaultRow(Result):
    """A fault that acts now."""

    id: str
    kind: str
    at: float = Field(description="When it was made: Unix time in seconds.")
    detail: dict[str, Any] = Field(description="What it was made with, and what it concerns.")

    @classmethod
    def of(cls, fault: Fault) -> FaultRow:
        """Return the row of a fault."""
        return cls(id=fault.id, kind=fault.kind, at=fault.at, detail=as_json(fault.detail, "the fault"))


class Faults(Result):
    """The faults that act now, oldest first."""

    faults: list[FaultRow]


@operation("GET", "/distributed/chaos/faults", access="read", timeout=10.0)
async def list_faults(cluster: AwaitedCluster, params: NoParams) -> Faults:
    """List what is broken on purpose now."""
    return Faults(faults=[FaultRow.of(fault) for fault in await cluster.chaos.faults()])


class OneFault(Params):
    """One fault."""

    id: str = Field(min_length=1, max_length=100, description='Its id, such as "cut-3".')


class FaultResult(Result):
    """One fault."""

    fault: FaultRow


@operation("GET", "/distributed/chaos/faults/{id}", access="read", timeout=10.0, errors=[NoFault])
async def get_fault(cluster: AwaitedCluster, params: OneFault) -> FaultResult:
    """Tell about one fault that acts now."""
    for fault in await cluster.chaos.faults():
        if fault.id == params.id:
            return FaultResult(fault=FaultRow.of(fault))
    raise NoFault(params.id)


class NewFault(Params):
    """A fault to be made."""

    fault: Lasting = Field(discriminator="kind")


class InjectedFault(FaultResult):
    """A fault that acts."""

    id: str


@operation(
    "POST",
    "/distributed/chaos/faults",
    access="admin",
    timeout=60.0,
    dangerous=True,
    creates="/distributed/chaos/faults/{id}",
    errors=[*_WRONG, NoConnection],
)
async def inject_fault(cluster: AwaitedCluster, params: NewFault) -> InjectedFault:
    """Break something until it is reverted or healed; answered when it acts.

    A node or a sandbox is paused, or links are cut, delayed, slowed, made to lose messages, or flap. Links can be
    broken in a cluster that superlearner has started, or whose processes talk over ``faulty+tls://``.
    """
    given = params.fault.model_dump(exclude={"kind"})
    fault = FaultRow.of(await getattr(cluster.chaos, params.fault.kind)(**given))
    return InjectedFault(id=fault.id, fault=fault)


class NewKill(Params):
    """What is to be killed."""

    kill: Kill = Field(discriminator="kind")


class Killed(Result):
    """What was killed."""

    kind: str
    pid: int | None = Field(description="The OS process that was killed, where that is known.")


@operation(
    "POST",
    "/distributed/chaos/kills",
    access="admin",
    timeout=120.0,
    dangerous=True,
    errors=[*_WRONG, NoProcess, SandboxDown, SandboxFailed, NoConnection],
)
async def kill(cluster: AwaitedCluster, params: NewKill) -> Killed:
    """Kill a process, a sandbox, a node or the scheduler; answered when that is noticed.

    What brings it back is what would bring it back after an accident: its supervisor, its instance, the control
    plane, or the guardian of a local cluster.
    """
    given = params.kill.model_dump(exclude={"kind"})
    pid = await getattr(cluster.chaos, params.kill.kind)(**given)
    known = isinstance(params.kill, KillSandbox | KillNode)
    return Killed(kind=params.kill.kind, pid=pid if known else None)


@operation("DELETE", "/distributed/chaos/faults/{id}", access="operate", timeout=60.0, errors=[NoFault])
async def revert_fault(cluster: AwaitedCluster, params: OneFault) -> None:
    """End one fault; answered when it does not act any more."""
    for fault in await cluster.chaos.faults():
        if fault.id == params.id and await fault.revert():
            return
    raise NoFault(params.id)


class Healed(Result):
    """What does not act any more."""

    healed: list[str] = Field(description="The ids of the faults that have ended.")


@operation("POST", "/distributed/chaos/heal", access="operate", timeout=60.0, idempotent=True)
async def heal(cluster: AwaitedCluster, params: NoParams) -> Healed:
    """End every fault, whoever made it; answered when none acts any more."""
    return Healed(healed=await cluster.chaos.heal())


class Step(Params):
    """One fault of a schedule."""

    after: float = Field(ge=0, le=LONGEST, description="Seconds from the start.")
    fault: Kill | Lasting = Field(
        discriminator="kind",
        description='"any" for a node or a sandbox is one that runs then, chosen by the seed.',
    )


class Schedule(Params):
    """Faults in time."""

    steps: list[Step] = Field(min_length=1, max_length=200)
    seed: int = Field(
        0, ge=0, lt=2**31, description='Decides every "any", and the chances of faults without a seed.'
    )


class DoneStep(Result):
    """One fault that was made."""

    after: float = Field(description="Seconds from the start.")
    kind: str
    arguments: dict[str, Any]


class Ran(Result):
    """What was done; everything is healed by now."""

    done: list[DoneStep]


@operation(
    "POST",
    "/distributed/chaos/runs",
    access="admin",
    timeout=600.0,
    dangerous=True,
    errors=[*_WRONG, NoProcess, SandboxDown, SandboxFailed, NoConnection],
)
async def run_schedule(cluster: AwaitedCluster, params: Schedule) -> Ran:
    """Make faults on a schedule, then heal; answered when all that is done.

    The same schedule and seed choose the same victims in a cluster that is the same. Whatever stops it heals, too.
    """
    steps = [
        (step.after, step.fault.kind, step.fault.model_dump(exclude={"kind"}, exclude_unset=True))
        for step in params.steps
    ]
    done = await cluster.chaos.run(steps, params.seed)
    return Ran(
        done=[
            DoneStep(after=after, kind=kind, arguments=as_json(arguments, "the step"))
            for after, kind, arguments in done
        ]
    )
