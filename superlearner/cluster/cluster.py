"""The cluster that a person holds, and what it has in common with managers that need none.

The module is long because it is a face: a method for everything that can be asked, each with its words.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any, NoReturn, Self, get_args

from distributed import Client, Security

from superlearner import config
from superlearner.cluster import foreign, outgoing, starting
from superlearner.cluster.chaos import Chaos
from superlearner.cluster.faulty import plain_address
from superlearner.cluster.local import Connection, stop_daemon
from superlearner.cluster.names import NodesWanted, node_labels, node_names
from superlearner.cluster.offering import Offers
from superlearner.cluster.outgoing import split
from superlearner.cluster.sandbox import Sandbox
from superlearner.cluster.session import Found, Session
from superlearner.core.alerts import Alert, AlertState
from superlearner.core.bottlenecks import Bottlenecks
from superlearner.core.childspec import Strategy, choice
from superlearner.core.history import Event, Story
from superlearner.core.rebalance import Suggestion
from superlearner.core.scores import ClusterScore
from superlearner.core.snapshots import (
    ClusterStatus,
    GroupInfo,
    Location,
    Migration,
    NodeInfo,
    NodeSurvey,
    PlacementRow,
    SandboxInfo,
    SandboxStatus,
)
from superlearner.core.spec import GroupSpec, Resources, SandboxSpec, validate_id
from superlearner.core.times import seconds
from superlearner.errors import InvalidSpec, SuperlearnerError
from superlearner.otp import as_application
from superlearner.otp.application import to_send
from superlearner.sandbox import payload

_OPTIONS = tuple(field.name for field in fields(SandboxSpec) if field.name not in {"id", "application"})


class Manager:
    """What can be done with sandboxes, wherever they run; `Cluster` and `LocalSandboxManager` are managers."""

    @classmethod
    def of(cls, session: Session) -> Self:
        """Make a manager for a session that exists already; use `superlearner.connect`."""
        manager = cls.__new__(cls)
        manager._begin(session)  # noqa: SLF001
        return manager

    def _begin(self, session: Session) -> None:
        self._session = session
        session.manager = type(self)
        #: The faults that can be made here: `superlearner.cluster.chaos.Chaos`.
        self.chaos = Chaos(session)
        #: What processes do for each other through the cluster: `superlearner.cluster.offering.Offers`.
        self.offers = Offers(session)
        if not session.asynchronous:
            session.open_now()

    # -- The object itself -------------------------------------------------------------------------

    @property
    def asynchronous(self) -> bool:
        """Whether the methods are to be awaited."""
        return self._session.asynchronous

    @property
    def address(self) -> str:
        """The scheduler's address, for any Dask client; without one, a name that tells this manager from others."""
        return plain_address(self._session.link.address)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._session}>"

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"a {name} stays in the process that made it: in a sandbox write call('sandbox/process', ...)"
        )

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self._session.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def close(self) -> Any:
        """Close the connection; a local cluster that this object started ends with all its sandboxes."""
        return self._session.close() if self.asynchronous else self._session.close_now()

    # -- Looking -------------------------------------------------------------------------------------

    def status(self) -> ClusterStatus:
        """Return the cluster at a glance."""
        return self._session.ask("status")

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes by name, also those that are down."""
        return self._session.ask("nodes")

    def sandboxes(self, node: str | None = None, status: str | None = None) -> list[SandboxInfo]:
        """Return the sandboxes by id, of one node or of one status where given."""
        if status is not None:
            choice(status, "status", get_args(SandboxStatus))
        return self._session.ask("sandboxes", node=node, status=status)

    def sandbox(self, id: str) -> Sandbox:
        """Return a handle on a sandbox; asking it anything raises `NoSandbox` when there is none."""
        if not isinstance(id, str):
            raise InvalidSpec(f"The sandbox id {id!r} is not valid: write a text such as 'shop-1'.")
        return Sandbox(self._session, id)

    def whereis(self, target: str) -> Location | None:
        """Return where a sandbox, or a named process ``"sandbox/process"``, lives; None when it does not."""
        if not isinstance(target, str):
            raise InvalidSpec(f'{target!r} names nothing: write "sandbox", or "sandbox/process".')
        return self._session.run(self._whereis(target))

    def explain_placement(self, what: Any = None, **options: Any) -> list[PlacementRow]:
        """Return the table by which a sandbox would be placed now, the best node first.

        Parameters
        ----------
        what
            An application, or a `Resources`; None for a sandbox without demands.
        **options
            Those of `create_sandbox`, such as ``placement="uniform"``.
        """
        if isinstance(what, Resources):
            options["resources"] = what
        elif what is not None and not isinstance(what, str):
            as_application(what)  # refused here as it would be in create_sandbox
        return self._session.ask("explain", spec=_spec("explained", b"", options))

    def events(
        self,
        since: int = 0,
        kind: str | None = None,
        sandbox: str | None = None,
        *,
        node: str | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return the events after the sequence number `since`, of one kind, sandbox or node, the first `limit`."""
        if not isinstance(since, int):
            raise InvalidSpec(f"since={since!r} must be the seq of an event, a whole number.")
        return self._session.ask("events", since=since, kind=kind, sandbox=sandbox, node=node, limit=limit)

    def story(self, sandbox: str) -> Story:
        """Return what happened to a sandbox, and what led to it elsewhere, by time; print it to read it."""
        return self._session.run(self._story(sandbox))

    def survey(self, timeout: float = 3.0) -> dict[str, NodeSurvey]:
        """Ask every node, all at once, what runs there; one that does not answer in time says so in its place."""
        return self._session.ask("survey", timeout=seconds(timeout))

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Return the newest samples of each node, oldest first (100 by default, one every 2 s)."""
        return self._session.ask("metrics")

    def health(self) -> ClusterScore:
        """Return scores from 0 to 100 for the cluster, its nodes and its sandboxes, with advice."""
        return self._session.ask("health")

    def bottlenecks(self) -> Bottlenecks:
        """Return which resources of nodes and sandboxes are nearly used up, or have work queueing for them."""
        return self._session.ask("bottlenecks")

    def alerts(self, state: AlertState | None = None) -> list[Alert]:
        """Return what is wrong, or was: alerts that are pending or firing, then the newest that are resolved.

        Nodes that cannot be reached, resources that run out, sandboxes that fail, and what fails again and again.
        To be told at once, subscribe to the events: ``cluster.subscribe(handler, kind="alert_firing")``.
        """
        if state is not None:
            choice(state, "state", get_args(AlertState))
        return self._session.run(self._alerts(state))

    def acknowledge_alert(self, id: str, by: str, note: str | None = None) -> Alert:
        """Say that somebody knows of an alert; it goes on firing while its cause lasts.

        Raises
        ------
        NoAlert
            It is not pending or firing; nothing was changed.
        """
        return self._session.ask("acknowledge", alert=id, by=by, note=note)

    def subscribe(self, handler: Callable[[Event], None], kind: str | None = None) -> Callable[[], None]:
        """Call `handler` with each event from now on, of one kind where given; return what ends that.

        The handler runs on the thread (or loop) that serves the connection: it must not block, and must
        not call blocking methods of the cluster; put what it gets on a queue.
        """
        if not callable(handler):
            raise InvalidSpec(f"{handler!r} is no function, so no event was subscribed to.")
        if not isinstance(kind, str | None):
            raise InvalidSpec(
                f"{kind!r} is no kind of event, so none was subscribed to. Give one name, such as "
                '"node_lost", or None for every kind.'
            )
        return self._session.link.subscribe(handler, kind)

    # -- Operations ------------------------------------------------------------------------------------

    @cached_property
    def ops(self) -> Any:
        """Every operation of the arsenal as a method: `superlearner.arsenal.Ops`."""
        # The floor above is looked up when somebody asks for it: nothing down here depends on it.
        return importlib.import_module("superlearner.arsenal").Ops(self)

    def awaited(self) -> Self:
        """Return the same manager for code that runs on its loop: its methods are to be awaited."""
        return self.of(self._session.awaited())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what `work` returns, which may use `awaited` on this manager's loop; or `work`, to be awaited."""
        return self._session.run(work)

    def note(self, event: Event) -> None:
        """Leave the event of an operation in the event log, at the time of the log."""
        return self._session.ask("note", event=event)

    # -- Sandboxes ---------------------------------------------------------------------------------------

    def create_sandbox(self, id: str, app: Any, **options: Any) -> Sandbox:
        """Start an application in a new sandbox; returns when it runs.

        Parameters
        ----------
        id
            Its name in the cluster: letters, digits, ``_`` and ``-``.
        app
            A supervisor spec, a behaviour class, or an import path ``"package.module:name"``. What is
            defined in a notebook cell, or in a module beside it, travels by value.
        **options
            ``node="auto"``, ``placement="least_loaded"``, ``resources=Resources(...)``,
            ``checkpoint=Checkpoint(...)``, ``restart="permanent"``, ``max_restarts=3``, ``max_seconds=5.0``,
            ``start_timeout=30.0``, ``shutdown=5.0``, ``labels={}``, ``node_selector={}``, ``anti_affinity={}``,
            ``group=None``, ``on_unresponsive="report"`` (or ``"restart"``), ``unresponsive_after=5.0``: see
            `superlearner.core.spec.SandboxSpec`.

        Raises
        ------
        InvalidSpec, SandboxExists, UnknownNode, NoPlacement, StartFailed
            Nothing was created.
        """
        return self._session.run(self._create_sandbox(id, app, options))

    def destroy_sandbox(self, id: str) -> None:
        """Stop a sandbox for good and remove its checkpoints; returns when nothing of it is left."""
        return self._session.ask("destroy", sandbox=id)

    def restart_sandbox(self, id: str) -> SandboxInfo:
        """Start a sandbox's OS process again from its newest checkpoint; one that has failed gets a new chance."""
        return self._session.ask("restart", sandbox=id)

    def migrate_sandbox(self, id: str, node: str = "auto") -> Migration:
        """Move a sandbox with its state; on a failure it goes on where it was, and `MoveFailed` says why."""
        return self._session.ask("move", sandbox=id, node=node)

    def call(
        self,
        target: str,
        request: Any,
        timeout: float | None = None,
        *,
        idempotent: bool = False,
        request_id: str | None = None,
    ) -> Any:
        """Call a process named ``"sandbox/process"``: `Sandbox.call`."""
        sandbox, process = split(target)
        return self.sandbox(sandbox).call(
            process, request, timeout, idempotent=idempotent, request_id=request_id
        )

    def cast(self, target: str, message: Any) -> None:
        """Cast to a process named ``"sandbox/process"``: `Sandbox.cast`."""
        sandbox, process = split(target)
        return self.sandbox(sandbox).cast(process, message)

    # -- Groups ------------------------------------------------------------------------------------------

    def create_group(
        self,
        id: str,
        strategy: Strategy = "one_for_one",
        *,
        max_restarts: int = 3,
        max_seconds: float = 60.0,
    ) -> GroupInfo:
        """Make a group: sandboxes that are supervised together, as the children of a supervisor are.

        ``create_sandbox(..., group=id)`` adds members; they start in the order in which they were created.
        When one ends, or its node is lost, the strategy says who else is stopped, in reverse order, and who
        is started again, in order, from the newest checkpoints. The end of an OS process is the group's to
        decide on, so the members' own ``max_restarts`` do not count.

        Parameters
        ----------
        id
            Its name in the cluster.
        strategy
            ``"one_for_one"``, ``"one_for_all"`` or ``"rest_for_one"``.
        max_restarts, max_seconds
            More restarts than that within these seconds, and the group gives up: all members are stopped and
            ``failed`` until `restart_group`. The loss of a node does not count.

        Raises
        ------
        InvalidSpec, GroupExists
            Nothing was created.
        """
        spec = GroupSpec(id, strategy, max_restarts, max_seconds)
        return self._session.ask("create_group", spec=spec)

    def groups(self) -> list[GroupInfo]:
        """Return the groups by id, each with its members in start order."""
        return self._session.ask("groups")

    def group(self, id: str) -> GroupInfo:
        """Return one group; raise `NoGroup` when there is none."""
        return self._session.ask("group", group=id)

    def restart_group(self, id: str) -> GroupInfo:
        """Stop all members and start them in order; a group that has failed gets a new chance.

        Returns when all run. When one cannot start, the group has failed, and `GroupFailed` says why.
        """
        return self._session.ask("restart_group", group=id)

    def destroy_group(self, id: str) -> None:
        """Destroy the members of a group in reverse order, then the group; returns when nothing is left."""
        return self._session.ask("destroy_group", group=id)

    # -- Nodes -------------------------------------------------------------------------------------------

    def add_node(self, name: str, labels: Mapping[str, str] | None = None) -> NodeInfo:
        """Start another node of a local cluster, with labels where given; returns when it has joined."""
        return self._session.ask("add_node", node=name, labels=labels)

    def remove_node(self, name: str) -> None:
        """Stop a node of a local cluster for good; its sandboxes go on elsewhere from their checkpoints."""
        return self._session.ask("remove_node", node=name)

    def drain(self, name: str) -> list[str]:
        """Move everything off a node, then stop it for good; return the ids of the sandboxes that were moved.

        Dask alone refuses to retire a worker that holds actors.

        Raises
        ------
        UnknownNode, NoQuorum
            Nothing was changed.
        DrainFailed
            A sandbox could not be moved; the node goes on, and what was moved stays moved.
        """
        return self._session.ask("drain", node=name)

    def rebalance(self, *, dry_run: bool = True) -> list[Suggestion]:
        """Return which sandboxes should move so that the nodes carry equal shares; move them unless `dry_run`.

        Raises
        ------
        MoveFailed, NoPlacement, NoQuorum
            A move failed: those before it are done, and those after it are not.
        """
        return self._session.ask("rebalance", dry_run=dry_run)

    # -- How ---------------------------------------------------------------------------------------------

    async def _create_sandbox(self, id: str, app: Any, options: dict[str, Any]) -> Sandbox:
        validate_id(id, "sandbox id")
        application = outgoing.message(to_send(app), "the application")
        await self._session.link.ask("create", spec=_spec(id, application, options))
        return Sandbox(self._session, id)

    async def _whereis(self, target: str) -> Location | None:
        sandbox, slash, process = target.partition("/")
        try:
            info = await self._session.link.ask("sandbox", sandbox=sandbox)
            if not slash:
                return Location(info.node, info.epoch, info.pid) if info.node else None
            body = payload.dumps(((process,), {}))
            pid = await self._session.link.request(
                "command", sandbox, "whereis", body, timeout=config.get("call-timeout")
            )
        except SuperlearnerError as error:
            if error.code in {"no_sandbox", "sandbox_failed", "no_process"}:
                return None
            raise
        return None if pid is None else Location(info.node, info.epoch, str(pid))

    async def _alerts(self, state: AlertState | None) -> list[Alert]:
        found = await self._session.link.ask("alerts")
        return [alert for alert in found if state in {None, alert.state}]

    async def _story(self, sandbox: str) -> Story:
        return Story(await self._session.link.ask("story", sandbox=sandbox))


class Cluster(Manager):
    """A cluster of nodes that carry sandboxes.

    ``Cluster(nodes=3)`` starts one on this machine: OS processes that talk over TLS, ended by `close`, by
    the end of the ``with`` block, or with this process. `superlearner.connect` gives the same object for a
    cluster that runs already, and `close` then only closes the connection.

    With ``asynchronous=True`` every method returns an awaitable, and the object itself is awaited or used
    in ``async with``.

    Parameters
    ----------
    nodes
        How many nodes, their names, or their names with labels, such as ``{"alpha": {"zone": "a"}}``; the
        setting ``superlearner.nodes`` (3) by default.
    asynchronous
        Whether the methods are to be awaited.
    dashboard
        Whether to serve Dask's own dashboard on loopback; the setting ``superlearner.dashboard`` by default.

    >>> with Cluster(nodes=3) as cluster:                              # doctest: +SKIP
    ...     shop = cluster.create_sandbox("shop", Counter)
    ...     shop.call("counter", "increment")
    1
    """

    def __init__(
        self,
        nodes: NodesWanted | None = None,
        *,
        asynchronous: bool = False,
        dashboard: bool | None = None,
    ) -> None:
        wanted = config.get("nodes") if nodes is None else nodes
        names, labels = node_names(wanted), node_labels(wanted)

        async def start() -> Connection:
            return await starting.start(names, detached=False, dashboard=dashboard, labels=labels)

        self._begin(Session(start, asynchronous=asynchronous, stop=stop_daemon))

    @property
    def security(self) -> Security:
        """Dask's security object, for an own ``Client(cluster.address, security=cluster.security)``."""
        return self._session.found.security

    @property
    def dashboard(self) -> str | None:
        """The URL of Dask's own dashboard, where it is served."""
        return getattr(self._session.found, "dashboard", None)


def _spec(id: str, application: bytes, options: dict[str, Any]) -> SandboxSpec:
    """Build a spec; an unknown option is refused with the nearest right spelling."""
    for option in options:
        if option not in _OPTIONS:
            near = difflib.get_close_matches(option, _OPTIONS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(_OPTIONS)}."
            raise InvalidSpec(f"A sandbox has no option {option!r}; nothing was created.{hint}")
    return SandboxSpec(id, application, **options)


def connect(
    target: str | Client | None = None,
    *,
    security: Security | None = None,
    nodes: NodesWanted | None = None,
    asynchronous: bool = False,
) -> Cluster:
    """Connect to a cluster.

    Parameters
    ----------
    target
        None: the local cluster that runs on this machine, else a new one, which then goes on when this
        process ends (``superlearner stop`` ends it). A scheduler's address, or a Dask client: that Dask
        cluster, whose scheduler and workers must have superlearner installed.
    security
        Dask's security object, for an address with TLS.
    nodes
        How many nodes, their names, or their names with labels, should a new local cluster be needed.
    asynchronous
        Whether the methods of the cluster object are to be awaited.

    Raises
    ------
    ClusterNotFound
        Nobody answers at the address.
    Unsupported
        The scheduler or a worker lacks superlearner, or has another version; nothing was changed there.
    """
    if target is None:
        wanted = config.get("nodes") if nodes is None else nodes
        names, labels = node_names(wanted), node_labels(wanted)

        async def find() -> Connection:
            return await starting.find_or_start(names, labels)

        return Cluster.of(Session(find, asynchronous=asynchronous))
    if isinstance(target, Client):
        address, keys = str(target.scheduler.address), target.security
    else:
        keys = security or Security()
        address = foreign.check_address(target, keys)

    async def join() -> Found:
        return await foreign.install(address, keys)

    return Cluster.of(Session(join, asynchronous=asynchronous))
