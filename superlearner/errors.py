"""Every error that superlearner raises, in one tree.

Each error says three things: what happened (its message), whether the asked-for thing took effect
(``definite``), and what to do (``advice``). ``definite=True`` means that it certainly did *not*
happen, so asking again is safe; ``definite=False`` means that it may have happened.

>>> error = NoProcess("shop/counter")
>>> error.code, error.definite
('no_process', True)
>>> print(error)
There is no process 'shop/counter'. Look at the names in tree() or processes().
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Return ``"Did you mean ...?"`` with the nearest of the `known` words, or nothing when none is near.

    >>> did_you_mean("contuer", ["counter", "other"])
    "Did you mean 'counter'?"
    """
    found = get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"Did you mean {found[0]!r}?" if found else ""


def in_words(reason: Any) -> str:
    """Return an exit reason as a person would say it, without its last full stop.

    >>> in_words(("shutdown", ("failed_to_start_child", "counter", "no money")))
    "its child 'counter' did not start: no money"
    """
    match reason:
        case ("shutdown", ("failed_to_start_child", child, why)):
            return f"its child {child!r} did not start: {in_words(why)}"
        case StartFailed() | CheckpointFailed():
            return str(reason.what()).removesuffix(".")
    inner = getattr(reason, "reason", reason) if isinstance(reason, Exception) else reason  # of an Exit
    text = inner.what() if isinstance(inner, SuperlearnerError) else str(reason)
    return text.removesuffix(".")


class SuperlearnerError(Exception):
    """The root of the tree.

    Subclasses take their fields as positional arguments, in order, so that an error survives
    pickling on its way from a sandbox to the caller.
    """

    #: A stable, machine-readable name.
    code: str = "error"
    #: True: it certainly did not happen. False: it may have happened.
    definite: bool = True
    #: What to do instead; the end of the message.
    advice: str = ""

    def what(self) -> str:
        """Say what happened, as one sentence without its advice."""
        return str(self.args[0]) if self.args else type(self).__name__

    def __str__(self) -> str:
        return f"{self.what()} {self.advice}".rstrip()


class InvalidSpec(SuperlearnerError, ValueError):
    """A specification was refused at construction; nothing was started."""

    code = "invalid_spec"


class InvalidTransition(SuperlearnerError):
    """A state machine was given an event that it cannot meet: a bug of superlearner itself."""

    code = "invalid_transition"
    advice = "This is a bug of superlearner: please report it with the story above."


# -- Processes --------------------------------------------------------------------------------------


class NoProcess(SuperlearnerError):
    """Nobody lives at that name or pid.

    Parameters
    ----------
    target
        The name or pid that was asked for.
    known
        The names that there are, to find the one that was meant.
    """

    code = "no_process"
    advice = "Look at the names in tree() or processes()."

    def __init__(self, target: Any = "it", known: Iterable[str] = ()) -> None:
        super().__init__(target)
        self.target = target
        #: ``"Did you mean ...?"``, or nothing.
        self.hint = did_you_mean(target, known)

    def __str__(self) -> str:
        return f"{self.what()} {self.hint or self.advice}"

    def what(self) -> str:
        return f"There is no process {str(self.target)!r}."


class ProcessNotFound(NoProcess):
    """No process with that pid lives on that node.

    Parameters
    ----------
    pid
        The pid that was asked for.
    node
        The node.
    known
        The pids that there are, to find the one that was meant.
    """

    code = "process_not_found"
    advice = "It may have ended, and its successor has another pid: list the processes again."

    def __init__(self, pid: Any = "it", node: Any = None, known: Iterable[str] = ()) -> None:
        super().__init__(pid, known)
        self.args = (pid, node)
        self.pid = pid
        self.node = node

    def what(self) -> str:
        return f"No process {str(self.pid)!r} lives on node {self.node!r}; nothing was done."


class CallTimeout(SuperlearnerError, TimeoutError):
    """No answer came in time. The request may still be handled; a late reply is dropped.

    Parameters
    ----------
    target
        Who was called.
    timeout
        How many seconds were waited.
    """

    code = "call_timeout"
    definite = False
    advice = "It may still take effect. Give a longer timeout=, or look at the mailbox in processes()."

    def __init__(self, target: Any = "it", timeout: float | None = None) -> None:
        super().__init__(target, timeout)
        self.target = target
        self.timeout = timeout

    def what(self) -> str:
        return f"{str(self.target)!r} did not answer within {self.timeout} s."


class NoTrace(SuperlearnerError):
    """There is no such trace.

    Parameters
    ----------
    id
        The id that was asked for.
    known
        The ids that there are.
    """

    code = "no_trace"
    advice = "It was stopped, has made room for newer ones, or has ended with the OS process of its sandbox."

    def __init__(self, id: Any = None, known: tuple[str, ...] = ()) -> None:
        super().__init__(id, known)
        self.id = id
        self.known = known

    def what(self) -> str:
        there = ", ".join(self.known) or "none"
        return f"There is no trace {self.id!r} (there are: {there})."


class TooManyTraces(SuperlearnerError):
    """As many traces as there may be are being taken; no other was begun.

    Parameters
    ----------
    limit
        How many there may be.
    """

    code = "too_many_traces"
    advice = "Stop one, or wait until one has ended."

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(limit)
        self.limit = limit

    def what(self) -> str:
        return f"{self.limit} traces are being taken here already; no other was begun."


class NotEnded(CallTimeout):
    """A process was told to end and still lives.

    Parameters
    ----------
    target
        Which process.
    timeout
        How many seconds were waited.
    reason
        What it was told to end with.
    """

    code = "not_ended"
    advice = (
        "It may still end. One that traps exits decides itself, and 'normal' ends nobody else: "
        "the reason 'kill' ends it surely."
    )

    def __init__(self, target: Any = "it", timeout: float | None = None, reason: Any = None) -> None:
        super().__init__(target, timeout)
        self.args = (target, timeout, reason)
        self.reason = reason

    def what(self) -> str:
        return f"{str(self.target)!r} still lives {self.timeout} s after it was told to end ({in_words(self.reason)})."


class ProcessDied(SuperlearnerError):
    """The callee ended before it answered; its own exception is the ``__cause__`` where it could travel.

    Parameters
    ----------
    reason
        The exit reason of the callee.
    target
        Who was called.
    """

    code = "process_died"
    definite = False
    advice = "The request may have taken effect in part; its supervisor decides what is started again."

    def __init__(self, reason: Any = None, target: Any = None) -> None:
        super().__init__(reason, target)
        self.reason = reason
        self.target = target

    def what(self) -> str:
        who = "The process" if self.target is None else f"{str(self.target)!r}"
        return f"{who} died before it answered: {in_words(self.reason)}."


class CallsItself(ProcessDied):
    """A process called itself: it could never answer."""

    code = "calls_itself"
    definite = True
    advice = "Call a function of your own, or cast() to yourself."

    def what(self) -> str:
        return f"{str(self.target)!r} called itself and would wait for ever."


class NotInProcess(SuperlearnerError):
    """A verb was used where it cannot work: outside of a process, or waiting in a plain handler.

    Parameters
    ----------
    what_is
        Which verb, and where it was used.
    """

    code = "not_in_process"
    advice = "Inside a process write `async def` handlers to wait; outside use the runtime's methods, e.g. rt.call()."


class BadReturn(SuperlearnerError, TypeError):
    """A handler returned what no handler may return; its process has ended.

    Parameters
    ----------
    handler
        Such as ``"Counter.handle_cast"``.
    value
        The repr of what it returned.
    allowed
        What it may return.
    """

    code = "bad_return_value"

    def __init__(
        self, handler: str = "a handler", value: str = "None", allowed: str = "the new state"
    ) -> None:
        super().__init__(handler, value, allowed)
        self.handler = handler
        self.value = value
        self.allowed = allowed

    def what(self) -> str:
        return f"{self.handler} returned {self.value}: return {self.allowed}."


class NameTaken(SuperlearnerError):
    """The name belongs to a living process already.

    Parameters
    ----------
    pid
        The owner.
    name
        The name.
    """

    code = "name_taken"
    advice = "Choose another name, or end its owner first."

    def __init__(self, pid: Any = None, name: Any = None) -> None:
        super().__init__(pid, name)
        self.pid = pid
        self.name = name

    def what(self) -> str:
        return f"The name {self.name!r} belongs to {self.pid}."


class StartFailed(SuperlearnerError):
    """A process or a sandbox could not start.

    Parameters
    ----------
    reason
        The exit reason of the start.
    what_failed
        Which child or sandbox it was.
    """

    code = "start_failed"
    advice = "Mend what the reason names, then start it again."

    def __init__(self, reason: Any = None, what_failed: Any = None) -> None:
        super().__init__(reason, what_failed)
        self.reason = reason
        self.what_failed = what_failed

    def what(self) -> str:
        who = "The start" if self.what_failed is None else f"The start of {str(self.what_failed)!r}"
        return f"{who} failed: {in_words(self.reason)}."


# -- Supervisor verbs -------------------------------------------------------------------------------


class AlreadyStarted(SuperlearnerError):
    """A child with that id, or a process with that name, runs already.

    Parameters
    ----------
    pid
        Its pid.
    """

    code = "already_started"
    advice = "Use it, or terminate it first."

    def __init__(self, pid: Any = None) -> None:
        super().__init__(pid)
        self.pid = pid

    def what(self) -> str:
        return f"It runs already as {self.pid}."


class AlreadyPresent(SuperlearnerError):
    """The supervisor knows a child of that id, which does not run now.

    Parameters
    ----------
    id
        The child's id.
    """

    code = "already_present"
    advice = "Use restart_child(), or delete_child() before you start another."

    def __init__(self, id: Any = None) -> None:
        super().__init__(id)
        self.id = id

    def what(self) -> str:
        return f"The supervisor has a child {self.id!r} already; it is not running."


class ChildRunning(SuperlearnerError):
    """What was asked needs a child at rest.

    Parameters
    ----------
    id
        The child's id.
    """

    code = "child_running"
    advice = "Call terminate_child() first."

    def __init__(self, id: Any = None) -> None:
        super().__init__(id)
        self.id = id

    def what(self) -> str:
        return f"The child {self.id!r} is running."


class ChildNotFound(SuperlearnerError):
    """The supervisor has no such child.

    Parameters
    ----------
    id
        The id or pid that was asked for.
    """

    code = "child_not_found"
    advice = "which_children() lists those it has."

    def __init__(self, id: Any = None) -> None:
        super().__init__(id)
        self.id = id

    def what(self) -> str:
        return f"The supervisor has no child {str(self.id)!r}."


class MaxChildren(SuperlearnerError):
    """A dynamic supervisor is full.

    Parameters
    ----------
    limit
        Its ``max_children``.
    """

    code = "max_children"
    advice = "End a child, or give the supervisor a larger max_children."

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(limit)
        self.limit = limit

    def what(self) -> str:
        return f"The supervisor has reached its {self.limit} children."


# -- Sandboxes and the cluster ----------------------------------------------------------------------


class NoSandbox(NoProcess):
    """The cluster knows no sandbox of that id."""

    code = "no_sandbox"
    advice = "sandboxes() lists those there are."

    def what(self) -> str:
        return f"There is no sandbox {str(self.target)!r}."


class SandboxExists(SuperlearnerError):
    """The id is in use; nothing was created.

    Parameters
    ----------
    id
        The sandbox's id.
    node
        Where it runs.
    """

    code = "sandbox_exists"
    advice = "Choose another id, or destroy_sandbox() the old one first."

    def __init__(self, id: Any = None, node: Any = None) -> None:
        super().__init__(id, node)
        self.id = id
        self.node = node

    def what(self) -> str:
        where = f" on node {self.node!r}" if self.node else ""
        return f"A sandbox {self.id!r} exists already{where}; nothing was created."


class SandboxFailed(SuperlearnerError):
    """The sandbox has been given up: it failed more often than its restart intensity allows.

    Parameters
    ----------
    id
        The sandbox's id.
    reason
        Its last exit reason.
    """

    code = "sandbox_failed"
    advice = "cluster.story(id) tells how; restart() tries again."

    def __init__(self, id: Any = None, reason: Any = None) -> None:
        super().__init__(id, reason)
        self.id = id
        self.reason = reason

    def what(self) -> str:
        return f"The sandbox {self.id!r} has failed and was given up: {in_words(self.reason)}."


class SandboxDown(SuperlearnerError):
    """The sandbox has no OS process at the moment; nothing was done to it.

    Parameters
    ----------
    id
        The sandbox's id.
    status
        What it is instead of running.
    """

    code = "sandbox_down"
    advice = "Nothing was done to it. info().status tells when it runs."

    def __init__(self, id: Any = None, status: str = "starting") -> None:
        super().__init__(id, status)
        self.id = id
        self.status = status

    def what(self) -> str:
        return f"The sandbox {self.id!r} has no OS process now: it is {self.status}."


class NoGroup(SuperlearnerError):
    """The cluster has no such group of sandboxes.

    Parameters
    ----------
    group
        The id that was asked for.
    """

    code = "no_group"
    advice = "groups() lists those there are; create_group() makes one."

    def __init__(self, group: Any = None) -> None:
        super().__init__(group)
        self.group = group

    def what(self) -> str:
        return f"There is no group {self.group!r}; nothing was changed."


class NoFault(SuperlearnerError):
    """No such fault acts now.

    Parameters
    ----------
    fault
        The id that was asked for.
    """

    code = "no_fault"
    advice = "chaos.faults() lists those that act."

    def __init__(self, fault: Any = None) -> None:
        super().__init__(fault)
        self.fault = fault

    def what(self) -> str:
        return f"No fault {self.fault!r} acts now, so nothing was changed: it has ended, or never was."


class NoAlert(SuperlearnerError):
    """No such alert is active.

    Parameters
    ----------
    alert
        The id that was asked for.
    active
        The ids of those that are.
    """

    code = "no_alert"
    advice = "alerts() lists them."

    def __init__(self, alert: Any = None, active: tuple[str, ...] = ()) -> None:
        super().__init__(alert, active)
        self.alert = alert
        self.active = active

    def what(self) -> str:
        return f"No alert {self.alert!r} is active, so nothing was changed: it was resolved, or never was."


class GroupExists(SuperlearnerError):
    """The group's id is in use; nothing was created.

    Parameters
    ----------
    group
        The id.
    """

    code = "group_exists"
    advice = "Choose another id, or destroy_group() the old one first."

    def __init__(self, group: Any = None) -> None:
        super().__init__(group)
        self.group = group

    def what(self) -> str:
        return f"A group {self.group!r} exists already; nothing was created."


class GroupFailed(SuperlearnerError):
    """The group has given up, and all its members are down.

    Parameters
    ----------
    group
        The group's id.
    reason
        Why it gave up.
    """

    code = "group_failed"
    advice = "cluster.restart_group(id) starts all its members again."

    def __init__(self, group: Any = None, reason: Any = None) -> None:
        super().__init__(group, reason)
        self.group = group
        self.reason = reason

    def what(self) -> str:
        return f"The group {self.group!r} has failed and its members are down: {self.reason!s}."


class UnknownNode(SuperlearnerError):
    """The cluster has no such node.

    Parameters
    ----------
    node
        The name that was asked for.
    nodes
        The names there are.
    """

    code = "unknown_node"
    advice = "cluster.nodes() lists the nodes."

    def __init__(self, node: Any = None, nodes: tuple[str, ...] = ()) -> None:
        super().__init__(node, nodes)
        self.node = node
        self.nodes = nodes

    def what(self) -> str:
        known = f" There are: {', '.join(self.nodes)}." if self.nodes else ""
        return f"There is no node {self.node!r}; nothing was changed.{known}"

    def __str__(self) -> str:
        return f"{self.what()} {did_you_mean(self.node, self.nodes) or self.advice}"


class NodeDown(UnknownNode):
    """The cluster knows the node, which cannot be reached now."""

    code = "node_down"
    advice = "Name another node, or wait until cluster.nodes() shows that it is up."

    def what(self) -> str:
        others = f" There are: {', '.join(self.nodes)}." if self.nodes else ""
        return f"Node {self.node!r} is down; nothing was changed.{others}"

    def __str__(self) -> str:
        return f"{self.what()} {self.advice}"


def no_such_node(node: Any, up: Iterable[str], *, known: bool) -> UnknownNode:
    """Return the error for a node that is not up: it is down, or nobody has heard of it."""
    return (NodeDown if known else UnknownNode)(node, tuple(sorted(up)))


class NodeNotAvailable(SuperlearnerError):
    """The node is known, and cannot be asked now.

    Parameters
    ----------
    node
        Its name.
    reason
        Why.
    """

    code = "node_not_available"
    advice = "Nothing was done. cluster.nodes() tells when it is up; its sandboxes go on elsewhere if it stays away."

    def __init__(self, node: Any = None, reason: Any = None) -> None:
        super().__init__(node, reason)
        self.node = node
        self.reason = reason

    def what(self) -> str:
        return f"The node {self.node!r} is not available: {in_words(self.reason)}."


class NoPlacement(SuperlearnerError):
    """No node may take the sandbox.

    Parameters
    ----------
    id
        The sandbox's id.
    reasons
        Each node with the reason why it was refused.
    """

    code = "no_placement"
    advice = "explain_placement() shows the whole table."

    def __init__(self, id: Any = None, reasons: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(id, reasons)
        self.id = id
        self.reasons = reasons

    def what(self) -> str:
        because = "; ".join(f"{node}: {reason}" for node, reason in self.reasons) or "the cluster has no node"
        return f"No node can take the sandbox {self.id!r} ({because})."


class StaleEpoch(SuperlearnerError):
    """An instance that is no longer the owner was asked; it refused, nothing happened.

    Parameters
    ----------
    sandbox
        The sandbox's id.
    epoch
        The epoch that was asked for.
    current
        The epoch that is known to be newest, where it is known.
    """

    code = "stale_epoch"
    advice = "Ask again: the registry knows the new owner."

    def __init__(self, sandbox: Any = None, epoch: int | None = None, current: int | None = None) -> None:
        super().__init__(sandbox, epoch, current)
        self.sandbox = sandbox
        self.epoch = epoch
        self.current = current

    def what(self) -> str:
        newer = f" (now {self.current})" if self.current is not None else ""
        return f"Epoch {self.epoch} of sandbox {self.sandbox!r} is over{newer}."


class NoConnection(SuperlearnerError):
    """The connection to the sandbox's node was lost before an answer came.

    Parameters
    ----------
    target
        Who was called.
    reason
        What is known of the loss.
    """

    code = "no_connection"
    definite = False
    advice = (
        "It may have taken effect. Ask for the state. What is idempotent, or has a request_id, is sent again."
    )

    def __init__(self, target: Any = None, reason: Any = None) -> None:
        super().__init__(target, reason)
        self.target = target
        self.reason = reason

    def what(self) -> str:
        why = f": {self.reason!s}" if self.reason else ""
        return f"The connection to {str(self.target)!r} was lost before it answered{why}."


class NoQuorum(SuperlearnerError):
    """Too few of the known nodes are reachable to decide safely; nothing was changed.

    Parameters
    ----------
    alive, known
        How many nodes answer, and how many there are.
    """

    code = "no_quorum"
    advice = "It works again when more than half of the nodes are back."

    def __init__(self, alive: int = 0, known: int = 0) -> None:
        super().__init__(alive, known)
        self.alive = alive
        self.known = known

    def what(self) -> str:
        return f"Only {self.alive} of {self.known} nodes can be reached: no quorum."


class MoveFailed(SuperlearnerError):
    """A planned move came to nothing; the old instance goes on serving, unless it was lost on the way.

    Parameters
    ----------
    id
        The sandbox's id.
    reason
        Why.
    stays
        Whether the old instance goes on.
    """

    code = "move_failed"
    advice = "The sandbox still runs where it was; cluster.story(id) tells each phase."

    def __init__(self, id: Any = None, reason: Any = None, stays: bool = True) -> None:
        super().__init__(id, reason, stays)
        self.id = id
        self.reason = reason
        self.stays = stays
        if not stays:
            self.advice = "info() shows what has become of it; cluster.story(id) tells each phase."

    def what(self) -> str:
        rolled_back = " and was rolled back" if self.stays else ""
        return f"The move of sandbox {self.id!r} failed{rolled_back}: {in_words(self.reason)}."


class DrainFailed(SuperlearnerError):
    """A node could not be emptied; what was moved stays moved, and the node takes sandboxes again, if it lives.

    Parameters
    ----------
    node
        The node's name.
    reason
        Why.
    lives
        Whether the node is there still.
    """

    code = "drain_failed"
    advice = "It goes on serving; cluster.story(id) tells why a sandbox could not be moved."

    def __init__(self, node: Any = None, reason: Any = None, lives: bool = True) -> None:
        super().__init__(node, reason, lives)
        self.node = node
        self.reason = reason
        self.lives = lives
        if not lives:
            self.advice = "Its sandboxes go on elsewhere, from their newest checkpoints."

    def what(self) -> str:
        return f"Node {self.node!r} could not be drained: {in_words(self.reason)}."


class CheckpointFailed(SuperlearnerError):
    """A checkpoint could not be taken or stored; the one before it still counts.

    Parameters
    ----------
    id
        The sandbox's id.
    reason
        Why.
    """

    code = "checkpoint_failed"
    advice = "The last good checkpoint is kept."

    def __init__(self, id: Any = None, reason: Any = None) -> None:
        super().__init__(id, reason)
        self.id = id
        self.reason = reason

    def what(self) -> str:
        return f"The checkpoint of sandbox {self.id!r} failed: {in_words(self.reason)}."


class NotDurable(SuperlearnerError):
    """A sandbox with ``durability="reply"`` has answered, and the effect of that could not be stored.

    Parameters
    ----------
    target
        Who was called.
    reason
        Why it could not be stored.
    """

    code = "not_durable"
    definite = False
    advice = (
        "It was carried out, and is lost if its sandbox's node is lost before the next checkpoint. Ask for the state, "
        "or repeat the call with the same request_id."
    )

    def __init__(self, target: Any = None, reason: Any = None) -> None:
        super().__init__(target, reason)
        self.target = target
        self.reason = reason

    def what(self) -> str:
        return f"The answer of {str(self.target)!r} is not durable: {self.reason!s}."


class RequestIdTaken(SuperlearnerError):
    """A request id was used again, for another request; nothing was done.

    Parameters
    ----------
    request_id
        The id.
    target
        Who was called.
    """

    code = "request_id_taken"
    advice = "Give each request an id of its own, such as str(uuid.uuid4()), and repeat it only with the same request."

    def __init__(self, request_id: Any = None, target: Any = None) -> None:
        super().__init__(request_id, target)
        self.request_id = request_id
        self.target = target

    def what(self) -> str:
        return f"The request id {self.request_id!r} is that of another request to this sandbox; nothing was done."


class ReloadFailed(SuperlearnerError):
    """New code was refused; the old code, states and specs are back.

    Parameters
    ----------
    id
        The child that refused it.
    reason
        Why.
    """

    code = "reload_failed"
    advice = "The application runs on as before."

    def __init__(self, id: Any = None, reason: Any = None) -> None:
        super().__init__(id, reason)
        self.id = id
        self.reason = reason

    def what(self) -> str:
        return f"The reload failed at {str(self.id)!r} and was rolled back: {in_words(self.reason)}."


class NotSerializable(SuperlearnerError, TypeError):
    """A message, a reply or an application cannot leave its OS process.

    Parameters
    ----------
    what_is
        What it was, such as ``"the request"``.
    reason
        What the serializer said.
    """

    code = "not_serializable"
    advice = "Send plain values: numbers, texts, tuples, lists, dicts, dataclasses."

    def __init__(self, what_is: Any = "the value", reason: Any = None) -> None:
        super().__init__(what_is, reason)
        self.what_is = what_is
        self.reason = reason
        # A reply that cannot leave was made by a handler that has done its work.
        self.definite = what_is not in _ANSWERS
        if what_is == "the application":
            self.advice = "Make locks, sockets and open files in init(), which runs in the sandbox."
        elif what_is == "the state":
            self.advice = (
                "It stays as it is in the sandbox; keep locks, sockets and open files out of states."
            )

    def what(self) -> str:
        return f"Could not serialise {self.what_is}: {in_words(self.reason)}{self._happened()}."

    def _happened(self) -> str:
        if not self.definite:
            return "; the request was handled, and the new state is kept"
        return "; nothing was done" if self.what_is in _ASKED else ""


#: What comes back, and what is sent, by the names that `NotSerializable` gets.
_ANSWERS = ("the reply", "the answer")
_ASKED = ("the request", "the message", "the application")


class MessageTooLarge(NotSerializable):
    """A message, a reply or an application is larger than the setting ``superlearner.message-limit``.

    Parameters
    ----------
    what_is
        What it was, such as ``"the request"``.
    size, limit
        Its bytes, and how many there may be.
    """

    code = "message_too_large"
    advice = "Put large data into a file and send its path, or send it in parts."

    def __init__(self, what_is: Any = "the value", size: int = 0, limit: int = 0) -> None:
        super().__init__(what_is)
        self.args = (what_is, size, limit)
        self.size = size
        self.limit = limit
        self.advice = type(self).advice

    def what(self) -> str:
        return (
            f"{str(self.what_is).capitalize()} of {self.size / 2**20:,.1f} MiB is above the limit of "
            f"{self.limit / 2**20:,.1f} MiB (the setting superlearner.message-limit){self._happened()}."
        )


class ClusterNotFound(SuperlearnerError):
    """No running cluster answers there."""

    code = "cluster_not_found"
    advice = "Start one with `superlearner start`, or with superlearner.Cluster()."


class ClusterSilent(ClusterNotFound):
    """A local cluster runs, but does not answer: it is frozen, or the machine is overloaded."""

    code = "cluster_silent"
    advice = "Try again, or end it with `superlearner stop`."


class ClusterClosed(SuperlearnerError):
    """The cluster, or this connection to it, has been closed."""

    code = "cluster_closed"
    advice = "Connect again with superlearner.connect()."


class Unsupported(SuperlearnerError):
    """The cluster at hand cannot do that."""

    code = "unsupported"
