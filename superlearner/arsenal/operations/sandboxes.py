"""Sandboxes: making, looking, moving, mending, ending."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from superlearner.arsenal.listing import (
    PATIENCE,
    Next,
    NodeFailure,
    Page,
    Total,
    node_failures,
    page,
    who_answered,
)
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.rows import OneSandbox, SandboxRow
from superlearner.core.restart import Restart
from superlearner.core.snapshots import ApplicationVersion, CheckpointInfo, Migration, SandboxStatus
from superlearner.core.spec import Checkpoint, PlacementStrategy, Resources
from superlearner.errors import (
    CheckpointFailed,
    InvalidSpec,
    MoveFailed,
    NoConnection,
    NoGroup,
    NoPlacement,
    NoQuorum,
    NoSandbox,
    ReloadFailed,
    SandboxDown,
    SandboxExists,
    SandboxFailed,
    StartFailed,
    UnknownNode,
)
from superlearner.otp.application import ByPath

#: What the name of a sandbox, a node or a group may be, for those that are made.
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"


class SandboxResult(Result):
    """One sandbox."""

    sandbox: SandboxRow


# -- Looking ----------------------------------------------------------------------------------------


class SandboxQuery(Page):
    """Which sandboxes are wanted."""

    node: str | None = Field(None, max_length=63, description="Only those on this node.")
    status: SandboxStatus | None = Field(None, description="Only those of this status.")
    group: str | None = Field(None, max_length=63, description="Only the members of this group.")


class ListedSandbox(SandboxRow):
    """One sandbox of a list."""

    confirmed: bool | None = Field(
        description="Whether its node says that it is there now; null where it has no node, or that did not answer."
    )


class SandboxList(Result):
    """Sandboxes by id, as the registry knows them, and what the nodes say of that."""

    sandboxes: list[ListedSandbox]
    total: Total
    next: Next
    nodes_queried: list[str]
    nodes_successful: list[str]
    nodes_failed: list[str]
    failures: list[NodeFailure] = Field(description="Why each failed node did not answer.")


@operation("GET", "/distributed/sandboxes", access="read", timeout=5.0, errors=[UnknownNode])
async def list_sandboxes(cluster: AwaitedCluster, params: SandboxQuery) -> SandboxList:
    """List the sandboxes of all nodes.

    Every node is asked what runs there. One that does not answer in time is named under `failures`, and its
    sandboxes are still listed, as the registry knows them.
    """
    survey, infos = await asyncio.gather(
        cluster.survey(PATIENCE), cluster.sandboxes(params.node, params.status)
    )
    if params.node is not None and params.node not in survey:
        raise UnknownNode(params.node, tuple(survey))
    wanted = [info for info in infos if params.group is None or info.group == params.group]
    shown, after, total = page(wanted, params, key=lambda info: info.id)
    asked = {name: told for name, told in survey.items() if params.node in {None, name}}

    def confirmed(info: Any) -> bool | None:
        if info.node not in survey or survey[info.node].failure is not None:
            return None
        return bool(survey[info.node].sandboxes.get(info.id) == info.epoch)

    return SandboxList(
        sandboxes=[ListedSandbox.of(info, confirmed=confirmed(info)) for info in shown],
        total=total,
        next=after,
        **who_answered(asked),
    )


@operation("GET", "/distributed/sandboxes/{id}", access="read", timeout=5.0, errors=[NoSandbox])
async def get_sandbox(cluster: AwaitedCluster, params: OneSandbox) -> SandboxResult:
    """Tell about one sandbox."""
    return SandboxResult(sandbox=SandboxRow.of(await cluster.sandbox(params.id).info()))


class Logs(Result):
    """The last of what a sandbox has printed."""

    id: str
    text: str
    bytes: int = Field(description="How much there is; the newest 64 KiB are kept.")


class LogQuery(OneSandbox):
    """How much is wanted."""

    lines: int = Field(1000, ge=1, le=10_000, description="How many lines at most, the newest.")


@operation(
    "GET",
    "/distributed/sandboxes/{id}/logs",
    access="read",
    timeout=15.0,
    errors=[NoSandbox, SandboxFailed, NoConnection],
)
async def get_sandbox_logs(cluster: AwaitedCluster, params: LogQuery) -> Logs:
    """Return the last of what a sandbox has printed, to standard output and standard error."""
    text = await cluster.sandbox(params.id).logs()
    return Logs(
        id=params.id, text="".join(text.splitlines(keepends=True)[-params.lines :]), bytes=len(text.encode())
    )


class Sample(Result):
    """What was measured of a sandbox at one time."""

    at: float = Field(description="Unix time in seconds.")
    node: str
    memory: int | None = Field(description="Bytes.")
    cpu: float | None = Field(description="Share of one core; null in a sandbox's first sample.")
    responsive: bool | None


class SandboxMetrics(Result):
    """What was measured of a sandbox, oldest first."""

    id: str
    samples: list[Sample]


class MetricsQuery(OneSandbox):
    """Which samples are wanted."""

    since: float = Field(
        0.0, ge=0, description="Only those after this Unix time, for clients that ask again."
    )


@operation("GET", "/distributed/sandboxes/{id}/metrics", access="read", timeout=10.0, errors=[NoSandbox])
async def get_sandbox_metrics(cluster: AwaitedCluster, params: MetricsQuery) -> SandboxMetrics:
    """Return what was measured of a sandbox: a sample every 2 s, the newest 100 of each node."""
    await cluster.sandbox(params.id).info()
    found = [
        Sample(
            at=sample["at"],
            node=node,
            memory=figures.get("memory"),
            cpu=figures.get("cpu"),
            responsive=figures.get("responsive"),
        )
        for node, samples in (await cluster.metrics()).items()
        for sample in samples
        if (figures := sample["sandboxes"].get(params.id)) is not None and sample["at"] > params.since
    ]
    return SandboxMetrics(id=params.id, samples=sorted(found, key=lambda sample: sample.at))


# -- Making and ending ------------------------------------------------------------------------------


Size = Annotated[int, Field(ge=2**20, le=2**50)]
SizeText = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5} ?(MiB|MB|GiB|GB)$")]
Bytes = Size | SizeText


class ResourceParams(Params):
    """What one sandbox may use; each limit is enforced."""

    memory: Bytes | None = Field(None, description='Bytes, or text such as "64 MiB".')
    cpu: float = Field(0.1, ge=0, le=10_000, description="Share of one core that placement reserves for it.")
    cpu_time: float | None = Field(None, ge=0.1, description="Seconds of processor time in its life.")
    wall_clock: float | None = Field(None, ge=0.1, description="Seconds that it may live.")
    open_files: int = Field(256, ge=32, le=1_000_000)
    processes: int | None = Field(
        512, ge=0, le=1_000_000, description="OS processes and threads beside its first one."
    )
    disk: Bytes | None = Field(None, description="Bytes of its temporary directory, or of one file.")


class CheckpointParams(Params):
    """When the state of a sandbox is copied, and to how many other nodes."""

    every: float | None = Field(1.0, ge=0.05, le=86_400, description="Seconds; null: never by time.")
    messages: int | None = Field(None, ge=1, le=10**9, description="Messages; null: never by count.")
    copies: int = Field(2, ge=0, le=100, description="How many other nodes get a copy.")
    keep: int = Field(3, ge=1, le=100, description="How many versions each node keeps.")
    durability: Literal["interval", "reply"] = "interval"


_WORD = "[A-Za-z_][A-Za-z0-9_]*"


class Application(Params):
    """What a sandbox runs, by name: no code travels in a request."""

    application: str = Field(
        max_length=500,
        pattern=rf"^{_WORD}(\.{_WORD})*:{_WORD}(\.{_WORD})*$",
        description='Where it is imported from on the node, such as "package.module:name": a supervisor spec, or a '
        "GenServer or Supervisor class.",
    )
    arguments: list[Any] = Field(
        default_factory=list, max_length=100, description="For the init of a class, by position."
    )


Word = Annotated[str, Field(min_length=1, max_length=100)]
Labels = Annotated[dict[Word, Word], Field(max_length=50)]


class NewSandbox(Application):
    """A sandbox to be made."""

    id: str = Field(description="Its name in the cluster.", min_length=1, max_length=63, pattern=NAME)
    node: str = Field("auto", max_length=63, pattern=NAME, description='"auto", or the name of a node.')
    placement: PlacementStrategy = Field("least_loaded", description='How "auto" chooses.')
    resources: ResourceParams = Field(default_factory=ResourceParams, description="What it may use.")
    checkpoint: CheckpointParams = Field(
        default_factory=CheckpointParams, description="When its state is copied."
    )
    restart: Restart = Field("permanent", description="Whether it is started again when it ends.")
    max_restarts: int = Field(3, ge=0, le=1000, description="How often on one node, within `max_seconds`.")
    max_seconds: float = Field(5.0, ge=0.1, le=86_400, description="The window of `max_restarts`.")
    start_timeout: float = Field(30.0, ge=0.1, le=50.0, description="Seconds until it must answer.")
    shutdown: float = Field(5.0, ge=0.01, le=30.0, description="Seconds that it has to stop by itself.")
    labels: Labels = Field(default_factory=dict, description="What it is, for the anti_affinity of others.")
    node_selector: Labels = Field(default_factory=dict, description="Labels that its node must have.")
    anti_affinity: Labels = Field(
        default_factory=dict, description="It shares no node with sandboxes that have these labels."
    )
    group: str | None = Field(
        None, max_length=63, pattern=NAME, description="The group that supervises it, which must be there."
    )
    on_unresponsive: Literal["report", "restart"] = Field(
        "report", description="What is done when it does not answer."
    )
    unresponsive_after: float = Field(
        5.0, ge=0.5, le=3600, description="Seconds without an answer after which that is done."
    )


_CREATE = (InvalidSpec, SandboxExists, UnknownNode, NoGroup, NoPlacement, NoQuorum, StartFailed)


async def create(cluster: AwaitedCluster, wanted: NewSandbox) -> SandboxRow:
    """Make a sandbox."""
    options = {
        name: getattr(wanted, name)
        for name in NewSandbox.model_fields
        if name not in {"id", "application", "arguments", "resources", "checkpoint"}
    }
    sandbox = await cluster.create_sandbox(
        wanted.id,
        ByPath(wanted.application, tuple(wanted.arguments)),
        resources=Resources(**wanted.resources.model_dump()),
        checkpoint=Checkpoint(**wanted.checkpoint.model_dump()),
        **options,
    )
    return SandboxRow.of(await sandbox.info())


class Created(Result):
    """A sandbox that was made, and runs."""

    id: str
    sandbox: SandboxRow


@operation(
    "POST",
    "/distributed/sandboxes",
    access="operate",
    timeout=60.0,
    errors=_CREATE,
    creates="/distributed/sandboxes/{id}",
)
async def create_sandbox(cluster: AwaitedCluster, params: NewSandbox) -> Created:
    """Start an application in a new sandbox; answered when it runs."""
    return Created(id=params.id, sandbox=await create(cluster, params))


@operation(
    "DELETE",
    "/distributed/sandboxes/{id}",
    access="operate",
    timeout=60.0,
    dangerous=True,
    errors=[NoSandbox, NoQuorum],
)
async def destroy_sandbox(cluster: AwaitedCluster, params: OneSandbox) -> None:
    """Stop a sandbox for good and remove its checkpoints; answered when nothing of it is left."""
    await cluster.destroy_sandbox(params.id)


# -- Its life ---------------------------------------------------------------------------------------


@operation(
    "POST",
    "/distributed/sandboxes/{id}/restarts",
    access="operate",
    timeout=60.0,
    errors=[NoSandbox, SandboxFailed, StartFailed, NoPlacement, NoQuorum],
)
async def restart_sandbox(cluster: AwaitedCluster, params: OneSandbox) -> SandboxResult:
    """Start a sandbox's OS process again from its newest checkpoint; one that has failed gets a new chance."""
    return SandboxResult(sandbox=SandboxRow.of(await cluster.restart_sandbox(params.id)))


class MoveParams(OneSandbox):
    """Where a sandbox is to go."""

    node: str = Field("auto", max_length=63, description='"auto", or the name of a node.')


class MoveResult(Result):
    """How a planned move went."""

    migration: Migration


@operation(
    "POST",
    "/distributed/sandboxes/{id}/migrations",
    access="operate",
    timeout=120.0,
    errors=[NoSandbox, SandboxFailed, UnknownNode, MoveFailed, NoPlacement, NoQuorum],
)
async def migrate_sandbox(cluster: AwaitedCluster, params: MoveParams) -> MoveResult:
    """Move a sandbox to another node with its state; on a failure it goes on where it was."""
    return MoveResult(migration=await cluster.migrate_sandbox(params.id, node=params.node))


class CheckpointResult(Result):
    """A checkpoint that was stored."""

    id: str
    epoch: int
    seq: int
    size: int = Field(description="Bytes.")
    nodes: list[str] = Field(description="Those that hold a copy.")


_ALIVE = (NoSandbox, SandboxFailed, SandboxDown, NoConnection)


@operation(
    "POST",
    "/distributed/sandboxes/{id}/checkpoints",
    access="operate",
    timeout=30.0,
    errors=[*_ALIVE, CheckpointFailed],
)
async def checkpoint_sandbox(cluster: AwaitedCluster, params: OneSandbox) -> CheckpointResult:
    """Take a checkpoint of a sandbox now; answered when it is stored."""
    stored = await cluster.sandbox(params.id).checkpoint()
    return CheckpointResult(id=params.id, **stored)


class CheckpointList(Result):
    """The checkpoints of a sandbox that its nodes hold, newest first."""

    id: str
    checkpoints: list[CheckpointInfo]
    total: int
    failures: list[NodeFailure] = Field(description="The nodes that did not answer: they may hold more.")


@operation("GET", "/distributed/sandboxes/{id}/checkpoints", access="read", timeout=5.0, errors=[NoSandbox])
async def list_checkpoints(cluster: AwaitedCluster, params: OneSandbox) -> CheckpointList:
    """List the checkpoints that a sandbox can be restored from."""
    found = await cluster.sandbox(params.id).checkpoints(PATIENCE)
    return CheckpointList(
        id=params.id,
        checkpoints=list(found.found),
        total=len(found.found),
        failures=node_failures(found.failed),
    )


class RestoreParams(OneSandbox):
    """Which checkpoint is wanted; `list_checkpoints` tells which there are."""

    epoch: int = Field(ge=0, le=2**53)
    seq: int = Field(ge=0, le=2**53)


@operation(
    "POST",
    "/distributed/sandboxes/{id}/restorations",
    access="operate",
    timeout=60.0,
    dangerous=True,
    errors=[*_ALIVE, CheckpointFailed, StartFailed],
)
async def restore_sandbox(cluster: AwaitedCluster, params: RestoreParams) -> CheckpointResult:
    """Go back to a checkpoint: the sandbox's OS process starts again with the states in it.

    What it has now is kept as a checkpoint, too, where it still answers. Answered with the new checkpoint, from
    which it would start next.
    """
    stored = await cluster.sandbox(params.id).restore(params.epoch, params.seq)
    return CheckpointResult(id=params.id, **stored)


# -- Its code ---------------------------------------------------------------------------------------


class ReloadParams(OneSandbox, Application):
    """The new version of an application."""


class VersionList(Result):
    """The versions of a sandbox's application, oldest first."""

    id: str
    versions: list[ApplicationVersion]
    current: int = Field(description="The number of the one that runs.")


async def _versions(cluster: AwaitedCluster, id: str) -> VersionList:
    versions = await cluster.sandbox(id).versions()
    current = next(version.number for version in versions if version.current)
    return VersionList(id=id, versions=versions, current=current)


@operation(
    "POST",
    "/distributed/sandboxes/{id}/versions",
    access="operate",
    timeout=70.0,
    # What it names may not be there on the node.
    errors={**dict.fromkeys([*_ALIVE, ReloadFailed]), InvalidSpec: 409},
)
async def reload_sandbox(cluster: AwaitedCluster, params: ReloadParams) -> VersionList:
    """Run a new version of the application with the states of the old one; a failure rolls back."""
    await cluster.sandbox(params.id).reload(ByPath(params.application, tuple(params.arguments)))
    return await _versions(cluster, params.id)


@operation("GET", "/distributed/sandboxes/{id}/versions", access="read", timeout=5.0, errors=[NoSandbox])
async def list_versions(cluster: AwaitedCluster, params: OneSandbox) -> VersionList:
    """List the versions of a sandbox's application, since it or the control plane was started; the newest 10."""
    return await _versions(cluster, params.id)


class RollBackParams(OneSandbox):
    """Which version is wanted."""

    version: int | None = Field(
        None, ge=1, le=2**53, description="Its number; null: the one before that which runs."
    )


@operation(
    "POST",
    "/distributed/sandboxes/{id}/rollbacks",
    access="operate",
    timeout=70.0,
    # A number that is no version's is right in itself: it is the sandbox that has none such.
    errors={**dict.fromkeys([*_ALIVE, ReloadFailed]), InvalidSpec: 409},
)
async def roll_back_sandbox(cluster: AwaitedCluster, params: RollBackParams) -> VersionList:
    """Run an earlier version of the application again, with the states of now."""
    await cluster.sandbox(params.id).roll_back(params.version)
    return await _versions(cluster, params.id)
