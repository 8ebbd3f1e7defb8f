"""Many sandboxes at once: each is tried, and each that fails is told beside those that did not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from superlearner.arsenal.audit import Hidden
from superlearner.arsenal.failures import Failure, failure_of, foreseen
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.sandboxes import NewSandbox, create
from superlearner.arsenal.plain import as_json
from superlearner.arsenal.rows import SandboxRow

T = TypeVar("T")
#: The most of one batch.
MOST = 200
#: How many of a batch are under way at once.
AT_ONCE = 32


class ItemFailure(Result):
    """One of a batch that failed; the others did not."""

    id: str
    error: Failure


async def each(
    items: Sequence[T], id_of: Callable[[T], str], work: Callable[[T], Awaitable[Any]], name: str
) -> tuple[list[Any], list[ItemFailure]]:
    """Do the work for every item, some at once; return the results and the failures, each in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> Any:
        async with gate:
            try:
                return await work(item)
            except Exception as error:
                return ItemFailure(id=id_of(item), error=failure_of(foreseen(error, name)))

    done = await asyncio.gather(*map(one, items))
    failed = [result for result in done if isinstance(result, ItemFailure)]
    return [result for result in done if not isinstance(result, ItemFailure)], failed


class NewSandboxes(Params):
    """Sandboxes to be made."""

    sandboxes: list[NewSandbox] = Field(min_length=1, max_length=MOST)


class CreatedSandboxes(Result):
    """Those that were made, and those that were not."""

    created: list[SandboxRow]
    failed: list[ItemFailure]


@operation("POST", "/distributed/batches/sandboxes", access="operate", timeout=300.0)
async def create_sandboxes(cluster: AwaitedCluster, params: NewSandboxes) -> CreatedSandboxes:
    """Make many sandboxes; answered when each runs, or has failed to."""

    async def make(wanted: NewSandbox) -> SandboxRow:
        return await create(cluster, wanted)

    created, failed = await each(params.sandboxes, lambda wanted: wanted.id, make, "create_sandboxes")
    return CreatedSandboxes(created=created, failed=failed)


Ids = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=63)]], Field(min_length=1, max_length=MOST)
]


class SomeSandboxes(Params):
    """Sandboxes by id."""

    ids: Ids


class DestroyedSandboxes(Result):
    """Those that are gone, and those that are not."""

    destroyed: list[str]
    failed: list[ItemFailure]


@operation(
    "POST",
    "/distributed/batches/destructions",
    access="operate",
    timeout=300.0,
    dangerous=True,
)
async def destroy_sandboxes(cluster: AwaitedCluster, params: SomeSandboxes) -> DestroyedSandboxes:
    """Stop many sandboxes for good and remove their checkpoints."""

    async def destroy(id: str) -> str:
        await cluster.destroy_sandbox(id)
        return id

    destroyed, failed = await each(list(dict.fromkeys(params.ids)), str, destroy, "destroy_sandboxes")
    return DestroyedSandboxes(destroyed=destroyed, failed=failed)


class OneCall(Params):
    """One request to a process."""

    target: str = Field(
        min_length=3,
        max_length=200,
        pattern=r"^[^/]+/.+$",
        description='"sandbox/process": by registered name, or by pid.',
    )
    request: Annotated[Any, Hidden()] = Field(description="What its handle_call gets.")


class Calls(Params):
    """Requests to processes."""

    calls: Annotated[list[OneCall], Field(min_length=1, max_length=MOST)]
    timeout: float = Field(5.0, ge=0.01, le=60, description="Seconds until a call counts as failed.")


class CallAnswer(Result):
    """What one process has answered."""

    target: str
    reply: Any = Field(description="Its reply, as JSON.")


class CallAnswers(Result):
    """The answers in the order of the calls, and the calls that failed."""

    answered: list[CallAnswer]
    failed: list[ItemFailure]


@operation("POST", "/distributed/batches/calls", access="operate", timeout=300.0)
async def call_sandboxes(cluster: AwaitedCluster, params: Calls) -> CallAnswers:
    """Call processes in many sandboxes, all at once, and return their replies."""

    async def call(wanted: OneCall) -> CallAnswer:
        reply = await cluster.call(wanted.target, wanted.request, timeout=params.timeout)
        return CallAnswer(target=wanted.target, reply=as_json(reply))

    answered, failed = await each(params.calls, lambda wanted: wanted.target, call, "call_sandboxes")
    return CallAnswers(answered=answered, failed=failed)
