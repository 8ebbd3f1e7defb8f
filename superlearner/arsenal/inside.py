"""A look into many sandboxes at once: what each answers, and which node or sandbox does not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from superlearner.arsenal.failures import failure_of, foreseen
from superlearner.arsenal.listing import PATIENCE, NodeFailure, who_answered
from superlearner.arsenal.operation import AwaitedCluster, Field, Result
from superlearner.core.snapshots import NodeSurvey, SandboxInfo
from superlearner.errors import CallTimeout, NoSandbox, StaleEpoch, UnknownNode

#: How many sandboxes of one node are asked at once.
AT_ONCE = 64
#: Those of these have no processes, or not for long: nobody is asked.
_WITHOUT = frozenset({"failed", "stopped", "lost"})


class SandboxFailure(Result):
    """One sandbox that did not answer: what is in it is missing from the list."""

    sandbox: str
    node: str | None
    code: str = Field(description="A stable name for programs.")
    message: str = Field(description="Why.")


class Surveyed(Result):
    """Who was asked, and who did not answer."""

    nodes_queried: list[str]
    nodes_successful: list[str]
    nodes_failed: list[str]
    failures: list[NodeFailure] = Field(description="Why each failed node did not answer.")
    sandbox_failures: list[SandboxFailure] = Field(
        description="The sandboxes that did not answer; the others are listed all the same."
    )


@dataclass
class Looked:
    """What was found."""

    found: list[tuple[SandboxInfo, Any]] = field(default_factory=list)
    failed: list[SandboxFailure] = field(default_factory=list)
    nodes: dict[str, NodeSurvey] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Return the fields of `Surveyed`."""
        return {**who_answered(self.nodes), "sandbox_failures": self.failed}


async def look(
    cluster: AwaitedCluster,
    ask: Callable[[Any], Awaitable[Any]],
    *,
    node: str | None = None,
    sandbox: str | None = None,
) -> Looked:
    """Ask the sandboxes of all nodes, or of one, or one sandbox alone, all at once; and every node whether it is there.

    Raises
    ------
    UnknownNode, NoSandbox
        There is no such node or sandbox.
    """
    infos = await cluster.sandboxes(node)
    if sandbox is not None:
        infos = [info for info in infos if info.id == sandbox]
        if not infos:
            await cluster.sandbox(sandbox).info()  # it is on another node, or there is none
    looked = Looked()
    # One for each node: one that does not answer must not keep those of others waiting.
    gates = defaultdict[str | None, asyncio.Semaphore](lambda: asyncio.Semaphore(AT_ONCE))
    asked = [info for info in infos if info.status not in _WITHOUT and info.node is not None]
    survey, *_ = await asyncio.gather(
        cluster.survey(PATIENCE), *(_ask_one(cluster, ask, info, gates[info.node], looked) for info in asked)
    )
    # A node that the survey does not know of, as that of local sandboxes, has answered through them.
    survey |= {info.node: NodeSurvey() for info, _ in looked.found if info.node not in survey}
    if node is not None and node not in survey:
        raise UnknownNode(node, tuple(survey))
    looked.nodes = {name: told for name, told in survey.items() if node in {None, name}}
    return looked


async def _ask_one(
    cluster: AwaitedCluster,
    ask: Callable[[Any], Awaitable[Any]],
    info: SandboxInfo,
    gate: asyncio.Semaphore,
    looked: Looked,
) -> None:
    error: Exception
    try:
        async with asyncio.timeout(PATIENCE), gate:
            found = await ask(cluster.sandbox(info.id))
    except NoSandbox:
        return  # destroyed meanwhile: it is no part of the list any more
    except (TimeoutError, StaleEpoch) as missed:
        error = missed if isinstance(missed, StaleEpoch) else CallTimeout(info.id, PATIENCE)
    except Exception as other:  # told in its place
        error = foreseen(other, "a list")
    else:
        looked.found.append((info, found))
        return
    failure = failure_of(error)
    looked.failed.append(
        SandboxFailure(sandbox=info.id, node=info.node, code=failure.code, message=failure.message)
    )
