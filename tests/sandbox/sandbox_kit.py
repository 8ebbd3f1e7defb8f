"""A small real node for the tests: its own fork server, its own store, its peers played by a list."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.durability import Copies
from superlearner.core.spec import SandboxSpec
from superlearner.errors import NoSandbox, SuperlearnerError
from superlearner.otp import GenServer, Reply, Stop, child, supervisor
from superlearner.sandbox.forkserver import ForkServer
from superlearner.sandbox.instance import Answer, Instance, StartRequest
from superlearner.sandbox.payload import dumps, dumps_error, loads

#: Seconds that a neighbour may take for a call while two processors carry an abuse, a test and other work.
PATIENCE = 5.0


class Counter(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        match request:
            case "increment":
                return Reply(state + 1, state + 1)
            case "value":
                return Reply(state, state)
            case ("do", function):
                return Reply(function(), state)
            case ("set", value):
                return Reply(None, value)
            case "finish":
                return Stop("normal", reply="bye")

    def handle_cast(self, message, state):
        return state + message


def counter_app(**options: Any) -> Any:
    return supervisor([child(Counter, 0, id="counter", name="counter")], **options)


class Refused(SuperlearnerError):
    """What a client would turn into the error that the code names."""

    @property
    def why(self) -> list[Any]:
        return self.args[0]


class Box:
    """One instance as a client sees it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def ask(
        self, verb: str, target: Any, value: Any, *, timeout: float | None = 5.0, epoch: int | None = None
    ):
        answered = asyncio.get_running_loop().create_future()
        epoch = self.instance.epoch if epoch is None else epoch
        frame = [verb, 7, epoch, target, value if isinstance(value, bytes) else dumps(value), timeout]
        self.instance.request(frame, answered.set_result)
        return answered

    async def call(self, request: Any, target: Any = "counter", **options: Any) -> Any:
        return open_answer(await self.ask("call", target, request, **options))

    async def do(self, function: Any, **options: Any) -> Any:
        return await self.call(("do", function), **options)

    async def command(self, verb: str, *arguments: Any, **keywords: Any) -> Any:
        return open_answer(await self.ask("command", verb, (arguments, keywords)))


def open_answer(answer: list[Any]) -> Any:
    call_id, status, payload = answer
    assert call_id == 7
    if status == 0:
        return loads(payload)
    if status == 1:
        raise loads(payload)
    raise Refused(payload)


class Ways:
    """The ways of one host to the other sandboxes of the test's node, straight and without couriers."""

    def __init__(self, instances: dict[str, Instance], answer: Answer) -> None:
        self._instances, self._answer = instances, answer
        self._keys: dict[int, Instance] = {}
        #: What came from the host, as verbs.
        self.taken: list[str] = []
        self.closed = False

    def after(self, sandbox: str, then: Callable[[], None]) -> None:
        then()

    def take(self, frame: list[Any]) -> None:
        verb, number, sandbox, target, payload, timeout = frame
        self.taken.append(verb)
        if verb == "drop":
            watched = self._keys.pop(number, None)
            if watched is not None:
                watched.request(["unwatch", None, watched.epoch, number, b"", None], self._answer)
            return
        instance = self._instances.get(sandbox)
        if instance is None:
            self._answer([number, 1, dumps_error(NoSandbox(sandbox))])
            return
        if verb == "watch":
            payload = number
            self._keys[number] = instance
        instance.request([verb, number or None, instance.epoch, target, payload, timeout], self._answer)

    def close(self) -> None:
        self.closed = True


def descriptors() -> set[str]:
    """Return the open descriptors of this process."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


class Node:
    def __init__(self, name: str = "alpha") -> None:
        self.node = name
        self.fork_server = ForkServer()
        self.checkpoints = CheckpointStore()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.copies: list[tuple[str, CheckpointVersion]] = []
        self.ways: list[Ways] = []
        #: What its peers hold, and how often they were asked for it.
        self.elsewhere: list[CheckpointVersion] = []
        self.fetched = 0
        self._boxes: list[Box] = []
        self._news = asyncio.Event()
        self.lease_until: float | None = None

    def lease(self, seconds: float) -> None:
        self.lease_until = asyncio.get_running_loop().time() + seconds
        for box in self._boxes:
            box.instance.renew()

    def report(self, kind: str, **fields: Any) -> None:
        self.reports.append((kind, fields))
        self._news.set()

    async def settled(self, patience: float) -> bool:
        return True

    async def replicate(
        self, version: CheckpointVersion, peers: Sequence[tuple[str, str]], *, answers_wait: bool = False
    ) -> Copies:
        self.copies += [(node, version) for node, _ in peers]
        return Copies(tuple(node for node, _ in peers))

    async def fetch(self, sandbox: str, sources: Sequence[tuple[str, str]]) -> list[CheckpointVersion]:
        self.fetched += 1
        return sorted([*self.checkpoints.newest(sandbox), *self.elsewhere], reverse=True)

    def outlet(self, sandbox: str, answer: Answer, wait: Any) -> Ways:
        ways = Ways({box.instance.spec.id: box.instance for box in self._boxes}, answer)
        self.ways.append(ways)
        return ways

    # -- For the tests

    async def start(self, app: Any = None, **options: Any) -> Box:
        box = self.box(app, **options)
        await box.instance.start()
        return box

    def box(
        self,
        app: Any = None,
        *,
        id: str = "shop",
        epoch: int = 1,
        peers: Any = (),
        on_trial: bool = False,
        above: int = 0,
        expects: tuple[int, int] | None = None,
        **options: Any,
    ) -> Box:
        spec = SandboxSpec(id, dumps(counter_app() if app is None else app), **options)
        request = StartRequest(spec, self.node, epoch, peers, on_trial=on_trial, above=above, expects=expects)
        box = Box(Instance(request, self))
        self._boxes.append(box)
        return box

    async def heard(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait for a report, or an event within one, and return its fields."""
        async with asyncio.timeout(20):
            while len(found := self.told(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return found[count - 1]

    def told(self, kind: str) -> list[dict[str, Any]]:
        events = [
            e for k, fields in self.reports if k == "events" for e in fields["events"] if e["kind"] == kind
        ]
        return [fields for k, fields in self.reports if k == kind] + events

    async def close(self) -> None:
        for box in self._boxes:
            await box.instance.stop("end of test")
        await self.fork_server.close()


async def beside_a_neighbour(node, abuse):
    """Await the abuse; its neighbour answers again and again meanwhile, and has lost nothing after it."""
    neighbour = await node.start(id="neighbour")
    host = (await neighbour.instance.info())["pid"]
    task = asyncio.ensure_future(abuse)
    answered = 0
    while not task.done():
        answered += 1
        assert await neighbour.call("increment", timeout=PATIENCE) == answered
    assert await neighbour.call("value") == answered
    assert (await neighbour.instance.info())["pid"] == host
    return await task


def on_a_node(test):
    """Run an async test with a node of its own, and close the node after it."""

    @functools.wraps(test)
    def run() -> None:
        async def main() -> None:
            node = Node()
            try:
                await test(node)
            finally:
                await node.close()

        asyncio.run(main())

    # pytest would take the parameter of the wrapped function for a fixture.
    del run.__wrapped__
    return run
