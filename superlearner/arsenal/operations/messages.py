"""What goes into processes and what is in them: messages and states, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from superlearner.arsenal.audit import Hidden
from superlearner.arsenal.operation import AwaitedCluster, Field, Result, operation
from superlearner.arsenal.process_rows import REACHED, OneProcess
from superlearner.arsenal.spelling import SPELLING, TOLD, meant, spelled
from superlearner.errors import MessageTooLarge, NotSerializable, Unsupported

#: What any user value on its way may meet.
CARRIED = (NotSerializable, MessageTooLarge)

# -- Messages ---------------------------------------------------------------------------------------


class Message(OneProcess):
    """A message to a process."""

    message: Annotated[Any, Hidden()] = Field(description=SPELLING)
    form: Literal["call", "cast", "send"] = Field(
        "call",
        description="call: handle_call gets it, and its reply is awaited; cast: handle_cast; send: handle_info.",
    )
    timeout: float = Field(5.0, ge=0.01, le=60, description="Seconds until a call counts as failed.")
    plain: bool = Field(
        False, description='Whether the message is sent as it stands, so that {"tuple": [...]} is an object.'
    )


class Sent(Result):
    """What became of a message."""

    form: str
    reply: Any = Field(description=f"Of a call. {TOLD} Null for the other forms, to which nobody replies.")
    in_words: list[str] = Field(
        description="The places in the reply that are told in words, such as $.log[0]; $ is all of it."
    )


@operation(
    "POST",
    "/distributed/sandboxes/{id}/processes/{process}/messages",
    access="operate",
    timeout=90.0,
    errors=[*REACHED, *CARRIED],
)
async def send_message(cluster: AwaitedCluster, params: Message) -> Sent:
    """Send a message to a process: a call, with its reply, a cast, or a plain message.

    A process that is not there when a cast or a plain message is sent is told (`no_process`). Whether it handles the
    message is not: only a call says so.
    """
    sandbox = cluster.sandbox(params.id)
    message = params.message if params.plain else meant(params.message)
    if params.form == "call":
        answer = spelled(await sandbox.call(params.process, message, params.timeout))
        return Sent(form=params.form, reply=answer.value, in_words=answer.in_words)
    await sandbox.process(params.process)
    await (sandbox.cast if params.form == "cast" else sandbox.send)(params.process, message)
    return Sent(form=params.form, reply=None, in_words=[])


# -- States -----------------------------------------------------------------------------------------


class State(Result):
    """The state of a process, between two messages."""

    value: Any = Field(description=TOLD)
    in_words: list[str] = Field(
        description="The places that are told in words, such as $.log[0]; none: the value can be put back as it is."
    )


@operation(
    "GET",
    "/distributed/sandboxes/{id}/processes/{process}/state",
    access="read",
    timeout=15.0,
    errors=[*REACHED, *CARRIED, Unsupported],
)
async def get_process_state(cluster: AwaitedCluster, params: OneProcess) -> State:
    """Return a copy of a process's state; also while it is suspended."""
    return _state(await cluster.sandbox(params.id).get_state(params.process))


def _state(value: Any) -> State:
    told = spelled(value)
    return State(value=told.value, in_words=told.in_words)


class NewState(OneProcess):
    """Another state for a process."""

    value: Annotated[Any, Hidden()] = Field(description=SPELLING)
    plain: bool = Field(
        False, description='Whether the value is taken as it stands, so that {"tuple": [...]} is an object.'
    )


@operation(
    "PUT",
    "/distributed/sandboxes/{id}/processes/{process}/state",
    access="operate",
    timeout=15.0,
    errors=[*REACHED, *CARRIED, Unsupported],
)
async def replace_process_state(cluster: AwaitedCluster, params: NewState) -> State:
    """Give a process another state, between two messages; what it had is gone. Answered with what it has now."""
    value = params.value if params.plain else meant(params.value)
    return _state(await cluster.sandbox(params.id).replace_state(params.process, value))
