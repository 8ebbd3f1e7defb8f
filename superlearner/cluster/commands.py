"""What the control plane and the nodes ask of a node: commands, over one channel for each pair.

A command is a method of `Commands` (`_COMMANDS`, at the end); its arguments and its answer travel as payloads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from distributed.comm import Comm

from superlearner.cluster.channel import Answer, ServedChannel
from superlearner.cluster.lanes import HERE
from superlearner.cluster.pool import ChannelPool
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.errors import SuperlearnerError
from superlearner.sandbox import payload

if TYPE_CHECKING:
    from superlearner.cluster.node import Node

NODE_OP = "superlearner_node"
#: What may be asked of an instance.
INSTANCE_METHODS = frozenset(
    {"stop", "restart", "quiesce", "resume", "set_peers", "checkpoint", "reload", "restore"}
)


class InstanceGone(LookupError):
    """The node has no such instance, or none any more."""


class NodeDoor(Protocol):
    """How the control plane has nodes carry out commands; see `Nodes`."""

    async def ask(self, address: str, command: str, *args: Any) -> Any:
        """Have a node carry out a command, and return its answer or raise its error."""

    def prepare(self, address: str) -> None:
        """Have the way to a node open before anything is asked of it."""

    def abandon(self, address: str) -> None:
        """Fail what is asked of a lost node at once."""

    async def close(self) -> None:
        """Ask no more."""


class Nodes:
    """The asking side: one channel to each node, opened when it is needed.

    Parameters
    ----------
    connection_args
        What Dask needs to connect, as its servers have it ready.
    """

    def __init__(self, connection_args: dict[str, Any]) -> None:
        self._pool = ChannelPool(NODE_OP, connection_args)

    async def ask(self, address: str, command: str, *args: Any) -> Any:
        """Have a node carry out a command, and return its answer or raise its error.

        Raises
        ------
        OSError
            The node cannot be reached, or was lost before it answered.
        InstanceGone
            It has no such instance.
        """
        channel = await self._pool.get(address)
        return self.answer(await channel.request(command, payload.dumps(args)))

    def begin(self, address: str, command: str, args: bytes, *, limit: float) -> asyncio.Future[Answer]:
        """Ask with arguments that are serialised already, for `answer`; TimeoutError after `limit` seconds."""
        channel = self._pool.ready(address)
        if channel is not None:
            return channel.begin(command, args, limit=limit)
        opening = self._pool.begin(address)  # not in the task: the node may be given up before that runs

        async def ask() -> Answer:
            async with asyncio.timeout(limit):
                channel = await self._pool.opened(address, opening)
                return await channel.request(command, args)

        return asyncio.create_task(ask())

    @staticmethod
    def answer(answer: Answer) -> Any:
        """Return what an answer brings, or raise its error."""
        status, body = answer
        value = payload.loads(body, "the answer")
        if status:
            raise value
        return value

    def prepare(self, address: str) -> None:
        """Open the channel to a node before anything is asked of it, while there are few."""
        self._pool.prepare(address)

    def abandon(self, address: str) -> None:
        """Fail what is asked of a lost node at once."""
        self._pool.abandon(address)

    async def close(self) -> None:
        """Close every channel."""
        await self._pool.close()


class Commands:
    """The asked side, on one node."""

    def __init__(self, agent: Node) -> None:
        self._agent = agent

    async def run(self, command: str, *args: Any) -> Any:
        """Carry out one command."""
        return await _COMMANDS[command](self, *args)

    async def serve(self, comm: Comm) -> None:
        """Serve one asking side until it goes away; commands begin in order and run beside each other."""
        channel = ServedChannel(comm)

        def handle(message: tuple[Any, ...]) -> None:
            command, id, body = message
            if command == "store":  # answers wait for it, and it waits for nothing: no task
                channel.answer(id, 0, payload.dumps(self._store(*payload.loads(body))))
            else:
                channel.spawn(self._answer(channel, id, command, body))

        await channel.serve(handle)

    async def _answer(self, channel: ServedChannel, id: int, command: str, body: bytes) -> None:
        try:
            value = await self.run(command, *payload.loads(body))
            answer = 0, payload.dumps(value, "the answer")
        except (SuperlearnerError, InstanceGone) as error:
            answer = 1, payload.dumps(error, "the error")  # the sentence says it all: no traceback
        except Exception as error:
            answer = 1, payload.dumps_error(error)
        channel.answer(id, *answer)

    # -- Commands ------------------------------------------------------------------------------------

    async def instance(self, sandbox: str, epoch: int, method: str, *args: Any) -> Any:
        """Run a method of an instance."""
        instance = self._agent.instances.get((sandbox, epoch))
        if instance is None or method not in INSTANCE_METHODS:
            raise InstanceGone(sandbox, epoch, method)
        return await getattr(instance, method)(*args)

    async def signal(self, number: int, sandbox: str | None = None, epoch: int = 0) -> None:
        """Send a signal to this node's worker, or to the OS process of one of its sandboxes."""
        if sandbox is None:
            os.kill(os.getpid(), number)
        elif (instance := self._agent.instances.get((sandbox, epoch))) is not None:
            await instance.signal(number)

    async def follow(self, version: int, rules: list[list[Any]]) -> str:
        """Follow the rules of broken links; return this end's name."""
        HERE.adopt(version, rules)
        return HERE.name

    async def store(self, version: dict[str, Any], keep: int) -> str | None:
        """Keep a peer's checkpoint; return why not, where it is refused."""
        return self._store(version, keep)

    def _store(self, version: dict[str, Any], keep: int) -> str | None:
        if not self._agent.checkpoints.newest(version["sandbox"]):
            self._agent.fork_server.stand_by()
        try:
            self._agent.checkpoints.put(CheckpointVersion(**version), keep)
        except SuperlearnerError as refusal:
            return str(refusal)
        return None

    async def fetch(self, sandbox: str, known: frozenset[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the checkpoints of a sandbox that this node holds, save those that the asker has."""
        held = self._agent.checkpoints.newest(sandbox)
        return [version.plain() for version in held if version.version not in known]

    async def expect(self) -> None:
        """Have a host ready: a sandbox is about to come."""
        self._agent.fork_server.expect()

    async def drop(self, sandbox: str, epoch: int) -> None:
        """Remove the checkpoints of a sandbox up to an epoch, and the host that stands by for it."""
        self._agent.checkpoints.drop(sandbox, epoch)
        await self._agent.fork_server.trim()

    async def inventory(self) -> dict[str, Any]:
        """Return what this node holds of sandboxes, whichever they are."""
        return self._agent.inventory()

    async def running(self) -> dict[str, int]:
        """Return the sandboxes that have an instance here, each with its epoch."""
        return dict(sorted(self._agent.instances))

    async def held(self, sandbox: str) -> list[tuple[int, int, int, float]]:
        """Return the good checkpoints of a sandbox that this node holds: epoch, seq, size and time, newest first."""
        found = self._agent.checkpoints.newest(sandbox)
        return [(v.epoch, v.seq, v.size, v.at) for v in found if v.good]


_COMMANDS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    method.__name__: method
    for method in (
        Commands.instance,
        Commands.signal,
        Commands.follow,
        Commands.store,
        Commands.fetch,
        Commands.expect,
        Commands.drop,
        Commands.inventory,
        Commands.running,
        Commands.held,
    )
}
