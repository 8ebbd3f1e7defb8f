"""The sandbox that a person holds."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from superlearner import config
from superlearner.cluster import outgoing
from superlearner.cluster.outgoing import address
from superlearner.cluster.session import Session
from superlearner.core.childspec import Strategy
from superlearner.core.history import Event
from superlearner.core.request_ids import validate_request_id
from superlearner.core.snapshots import (
    ApplicationVersion,
    Checkpoints,
    ChildCounts,
    ChildInfo,
    Migration,
    ProcessInfo,
    SandboxInfo,
)
from superlearner.core.times import seconds
from superlearner.otp.application import to_send
from superlearner.sandbox import payload
from superlearner.sandbox.answers import unpack

if TYPE_CHECKING:
    from superlearner.cluster.cluster import Manager
    from superlearner.otp.tracing import Trace

#: Seconds that a look inside a sandbox may take before it counts as unresponsive.
LOOK_TIMEOUT = 10.0


class Sandbox:
    """A handle on one sandbox, wherever it lives now; made by `create_sandbox` or `sandbox` of its manager.

    It holds nothing but the id: it stays good when the sandbox is restarted or moved. Processes are
    addressed by registered name or by pid.

    >>> sandbox = cluster.sandbox("shop")            # doctest: +SKIP
    >>> sandbox.call("counter", "increment")         # doctest: +SKIP
    1
    """

    def __init__(self, session: Session, id: str) -> None:
        self._session = session
        self.id = id

    def __repr__(self) -> str:
        return f"<Sandbox {self.id!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a Sandbox handle stays in the process that made it: send the id, {self.id!r}; in another sandbox "
            f"write call('{self.id}/counter', request)"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sandbox) and other.id == self.id and other._session is self._session

    def __hash__(self) -> int:
        return hash((id(self._session), self.id))

    @property
    def cluster(self) -> Manager:
        """The cluster, or other manager, that it lives in, over the same connection."""
        return self._session.manager.of(self._session)

    # -- Messages --------------------------------------------------------------------------------

    def call(
        self,
        target: Any,
        request: Any,
        timeout: float | None = None,
        *,
        idempotent: bool = False,
        request_id: str | None = None,
    ) -> Any:
        """Send a request to a process and return its reply.

        Parameters
        ----------
        target
            A registered name, or a pid.
        request
            What its ``handle_call`` gets.
        timeout
            Seconds until `CallTimeout`; 5 by default (the setting ``superlearner.call-timeout``). While the
            sandbox is restarting or moving the call waits for it.
        idempotent
            Whether the request may be sent again when the connection breaks before its answer.
        request_id
            A text of your own, one for each request, by which it takes effect once, however often it is sent: by
            this call when a connection, a node or an OS process is lost, or by you, with the same id. The sandbox
            remembers it with the answer, in one piece with the states of its processes: after a restart, a
            fail-over or a move it knows the ids whose effects it has, and carries out those whose effects were lost.
            A repeated request is answered from memory, or joins the one that is under way. That a process has
            crashed and lost its state, as in OTP, does not make its requests new. A call that is answered
            later, after ``NoReply``, survives when its process keeps the sender in its state. The last 1,000 ids of
            a sandbox are remembered for 10 minutes (the settings ``superlearner.request-ids.limit`` and ``.age``);
            one that is repeated later than that is carried out again.

        Raises
        ------
        NoProcess, ProcessDied, CallTimeout, NoConnection, NoSandbox, SandboxFailed
            Each says whether the request may have taken effect (``definite``).
        NotDurable
            The sandbox has ``durability="reply"``, and the effect could not be stored.
        RequestIdTaken
            The id is that of another request; nothing was done.
        NotSerializable, MessageTooLarge
            The request or the reply cannot travel, or is above the setting ``superlearner.message-limit``.
        InvalidSpec
            The target is no address, or the timeout no time; nothing was sent.
        """
        limit = config.get("call-timeout") if timeout is None else seconds(timeout)
        if request_id is None:
            work = self._request("call", address(target), request, limit, idempotent=idempotent)
        else:
            once = (None, validate_request_id(request_id), request)
            work = self._request("once", address(target), once, limit, idempotent=True)
        return self._session.run(work)

    def cast(self, target: Any, message: Any) -> None:
        """Send a message to a process's ``handle_cast``; there is no answer, and no error when it is not there."""
        return self._session.run(self._post("cast", address(target), message))

    def send(self, target: Any, message: Any) -> None:
        """Send a message to a process's ``handle_info``; there is no answer, and no error when it is not there."""
        return self._session.run(self._post("send", address(target), message))

    # -- Looking -----------------------------------------------------------------------------------

    def info(self) -> SandboxInfo:
        """Return what the registry and the last telemetry know of the sandbox."""
        return self._session.ask("sandbox", sandbox=self.id)

    def tree(self) -> ProcessInfo:
        """Return the supervision tree, from its root."""
        return self._command("tree")

    def processes(self) -> list[ProcessInfo]:
        """Return all processes, also those outside the tree."""
        return self._command("processes")

    def process(self, target: Any) -> ProcessInfo:
        """Return one process; raise `NoProcess` when it is not there."""
        return self._command("process", address(target))

    def get_state(self, target: Any) -> Any:
        """Return a copy of a process's state."""
        return self._command("get_state", address(target))

    def events(self, since: int = 0, kind: str | None = None) -> list[Event]:
        """Return what happened to the sandbox after the sequence number `since`, of one kind where given."""
        return self._session.ask("events", since=since, kind=kind, sandbox=self.id)

    def logs(self) -> str:
        """Return the last of what the sandbox has printed, to standard output and standard error."""
        return self._session.run(self._on_instance("logs"))

    def trace(self, duration: float = 2.0) -> Any:
        """Record the messages between the sandbox's processes for `duration` seconds and return them."""
        limit = seconds(duration, "duration") + LOOK_TIMEOUT
        return self._command("trace", duration=duration, timeout=limit)

    def start_trace(
        self, duration: float = 60.0, limit: int = 1000, only: Iterable[Any] | None = None
    ) -> str:
        """Begin to record messages between the sandbox's processes; return the id of the trace.

        It ends by itself after `duration` seconds (an hour at most) or with `limit` events (10,000 at most), and
        is kept until `stop_trace`, or until the sandbox's OS process ends. `only`: names or pids of processes,
        whose messages alone are recorded.
        """
        chosen = None if only is None else [address(target) for target in only]
        return self._command("start_trace", duration, limit, chosen)

    def read_trace(self, id: str, since: int = 0) -> Trace:
        """Return a trace so far, with the events after the first `since` ones; raise `NoTrace` when it is gone."""
        return self._command("read_trace", id, since)

    def stop_trace(self, id: str) -> Trace:
        """End a trace, forget it, and return it with all its events."""
        return self._command("stop_trace", id)

    # -- Changing ------------------------------------------------------------------------------------

    def replace_state(self, target: Any, value: Any) -> Any:
        """Give a process another state, between two messages."""
        return self._command("replace_state", address(target), value)

    def kill(self, target: Any, reason: Any = "kill") -> Any:
        """Send a process an exit signal; ``"kill"`` cannot be trapped."""
        return self._command("kill", address(target), reason)

    def terminate(self, target: Any, reason: Any = "kill", timeout: float = 5.0) -> Any:
        """Send an exit signal as `kill` does; return the reason with which the process has ended, once it has.

        Raises
        ------
        NoProcess
            It is not there; nothing was done.
        NotEnded
            It still lives after `timeout` seconds, as one may that traps exits.
        """
        limit = seconds(timeout) + LOOK_TIMEOUT
        return self._command("terminate", address(target), reason, timeout, timeout=limit)

    def crash(self, target: Any, reason: Any = "crash", timeout: float = 5.0) -> Any:
        """Let a process fail as if its own code had raised ``Exit(reason)``; return its reason once it has ended.

        Raises `NoProcess`, or `NotEnded` when it still lives after `timeout` seconds.
        """
        limit = seconds(timeout) + LOOK_TIMEOUT
        return self._command("crash", address(target), reason, timeout, timeout=limit)

    def suspend(self, target: Any) -> Any:
        """Let a process handle no more messages until `resume`; they wait in its mailbox."""
        return self._command("suspend", address(target))

    def resume(self, target: Any) -> Any:
        """Let a suspended process go on."""
        return self._command("resume", address(target))

    def reload(self, new_app: Any) -> Any:
        """Run a new version of the application with the states of the old one; a failure rolls back.

        Each process whose class has another ``version`` gets its state through ``code_change``. Later
        restarts, here or on another node, start with the new version.
        """
        return self._session.run(self._reload(new_app))

    def start_child(self, supervisor: Any, spec: Any) -> Any:
        """Start a child under a supervisor and return its pid, or None when it chose not to start."""
        return self._command("start_child", address(supervisor), spec, timeout=60.0)

    def terminate_child(self, supervisor: Any, id_or_pid: Any) -> None:
        """End a child; its spec stays, save under a dynamic supervisor."""
        return self._command("terminate_child", address(supervisor), _plain(id_or_pid), timeout=60.0)

    def restart_child(self, supervisor: Any, id: Any) -> Any:
        """Start a terminated child again and return its pid."""
        return self._command("restart_child", address(supervisor), id, timeout=60.0)

    def delete_child(self, supervisor: Any, id: Any) -> None:
        """Forget the spec of a terminated child."""
        return self._command("delete_child", address(supervisor), id)

    def which_children(self, supervisor: Any) -> list[ChildInfo]:
        """Return a supervisor's children, in start order."""
        return self._command("which_children", address(supervisor))

    def count_children(self, supervisor: Any) -> ChildCounts:
        """Count a supervisor's children."""
        return self._command("count_children", address(supervisor))

    def change_supervisor(
        self,
        supervisor: Any,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        """Give a running supervisor another strategy or restart budget; None leaves an option as it is.

        It counts from its next decision on. Checkpoints hold it: it is there again after a restart of the OS
        process, a move and a fail-over, as far as the newest checkpoint has it. A supervisor that its own supervisor
        restarts begins with the options of its spec, and a reload brings those of the new version.

        Raises
        ------
        InvalidSpec
            No supervisor of its kind can have that; nothing was changed.
        """
        return self._command("change_supervisor", address(supervisor), strategy, max_restarts, max_seconds)

    def pause_supervision(self, supervisor: Any) -> None:
        """Let a supervisor decide on no child that ends, until `resume_supervision`; it answers all the same.

        Nothing keeps the pause but the running supervisor: a restart, a move or a fail-over starts all its children
        and ends the pause.
        """
        return self._command("pause_supervision", address(supervisor))

    def resume_supervision(self, supervisor: Any) -> list[Any]:
        """Let it decide again, first on the children that have ended meanwhile; return their ids in start order."""
        return self._command("resume_supervision", address(supervisor))

    # -- Its life ----------------------------------------------------------------------------------------

    def checkpoint(self) -> Any:
        """Take a checkpoint now; return its epoch, seq, size in bytes, and the nodes that have a copy.

        Where the state of a process cannot be saved, ``incomplete`` says which and why: after a restart that process
        begins anew, and a move is refused.

        Raises
        ------
        CheckpointFailed
            It could not be taken, as when the sandbox does not answer; the one before it still counts.
        """
        return self._session.ask("checkpoint", sandbox=self.id)

    def checkpoints(self, timeout: float = 3.0) -> Checkpoints:
        """Return the checkpoints that the nodes hold, newest first; a node that does not answer is named."""
        return self._session.ask("checkpoints", sandbox=self.id, timeout=seconds(timeout))

    def restore(self, epoch: int, seq: int) -> Any:
        """Go back to a checkpoint: the OS process starts again with the states in it; return the new checkpoint.

        What is in the sandbox now is kept as a checkpoint, too, where it still answers: it can be gone back to.

        Raises
        ------
        CheckpointFailed
            There is no such checkpoint (nothing was done), or the application does not start from it: then it goes
            on with what it had.
        """
        return self._session.ask("restore", sandbox=self.id, epoch=epoch, seq=seq)

    def versions(self) -> list[ApplicationVersion]:
        """Return the versions of the application since the sandbox, or the control plane, was started, oldest first."""
        return self._session.ask("versions", sandbox=self.id)

    def roll_back(self, version: int | None = None) -> Any:
        """Run an earlier version of the application again, the one before this by default: `reload` with that one.

        Raises
        ------
        InvalidSpec
            There is no such version; nothing was changed.
        ReloadFailed
            The application refused it, as in ``code_change``; it goes on as it was.
        """
        return self._session.run(self._roll_back(version))

    def restart(self) -> SandboxInfo:
        """Start the sandbox's OS process again from its newest checkpoint, taken first if it still answers."""
        return self._session.ask("restart", sandbox=self.id)

    def migrate(self, node: str = "auto") -> Migration:
        """Move the sandbox to another node with its state; on a failure it goes on where it was."""
        return self._session.ask("move", sandbox=self.id, node=node)

    def stop(self) -> None:
        """Stop the sandbox for good and remove its checkpoints: `Cluster.destroy_sandbox`."""
        return self._session.ask("destroy", sandbox=self.id)

    # -- How ---------------------------------------------------------------------------------------------

    def _request(
        self, verb: str, target: Any, request: Any, timeout: float, *, idempotent: bool = False
    ) -> Coroutine[Any, Any, Any]:
        # Not a coroutine of its own around the link's: this is on the way of every call.
        body = outgoing.message(request)
        return self._session.link.request(verb, self.id, target, body, timeout=timeout, idempotent=idempotent)

    async def _post(self, verb: str, target: Any, message: Any) -> None:
        await self._session.link.post(verb, self.id, target, outgoing.message(message, "the message"))

    def _command(self, verb: str, *args: Any, timeout: float = LOOK_TIMEOUT, **kwargs: Any) -> Any:
        return self._session.run(self._request("command", verb, (args, kwargs), timeout))

    async def _reload(self, new_app: Any, timeout: float = 60.0) -> Any:
        app = to_send(new_app)
        status, answer = await self._session.link.ask(
            "reload",
            sandbox=self.id,
            body=outgoing.message(((app,), {}), "the application"),
            application=outgoing.message(app, "the application"),
            timeout=timeout,
        )
        return unpack(status, answer, self.id)

    async def _roll_back(self, version: int | None) -> Any:
        status, answer = await self._session.link.ask(
            "roll_back", sandbox=self.id, version=version, timeout=60.0
        )
        return unpack(status, answer, self.id)

    async def _on_instance(self, method: str) -> Any:
        body = payload.dumps(((), {}))
        return await self._session.link.request(
            "instance", self.id, method, body, timeout=LOOK_TIMEOUT, idempotent=True
        )


def _plain(target: Any) -> Any:
    """Return the id of a child, or a process's address, as a frame can carry it: a pid as its text."""
    return target if isinstance(target, str | int | tuple) else str(target)
