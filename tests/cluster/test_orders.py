"""What the control plane does about an order to an instance when a connection breaks, without a cluster."""

from __future__ import annotations

import asyncio

import pytest
from cluster_kit import run

from superlearner.cluster import effects, pump
from superlearner.cluster.commands import InstanceGone
from superlearner.cluster.node import Node
from superlearner.core import control as c
from superlearner.core.spec import SandboxSpec
from superlearner.sandbox.instance import StartRequest

WHO = ("shop", "alpha", "tcp://a", 3)


class Door:
    """Answers what is asked with the next of its answers."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def ask(self, address, command, sandbox, epoch, method, *args):
        self.asked.append(method)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Plane(pump.Pump):
    def __init__(self, *answers):
        self.nodes = Door(*answers)
        self.told = []
        self._orders = {}

    def now(self):
        return 0.0

    def handle(self, event):
        self.told.append(event)

    def release(self, sandbox, epoch):
        pass


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(effects, "AGAIN", 0.0)


def test_a_connection_that_breaks_does_not_mean_that_an_instance_has_stopped():
    async def work():
        pump = Plane(ConnectionError("broken"), TimeoutError(), {"reason": "shutdown", "turned_away": 4})
        await pump._stop(c.StopInstance(*WHO, cause="c1"))
        assert pump.nodes.asked == ["stop"] * 3
        assert pump.told == [c.InstanceStopped("shop", 3, 4, cause="c1", at=0.0)]

    run(work())


def test_an_instance_that_is_not_there_is_stopped():
    async def work():
        pump = Plane(InstanceGone("shop"))
        await pump._stop(c.StopInstance(*WHO, cause="c1"))
        assert [type(event) for event in pump.told] == [c.InstanceStopped]

    run(work())


def test_a_restart_whose_connection_broke_is_asked_for_again():
    async def work():
        pump = Plane(ConnectionError("broken"), {"pid": 7, "restored": [3, 1]})
        await pump._restart(c.RestartInstance(*WHO, "asked for", "c1"))
        assert pump.told == [c.InstanceRestarted("shop", 3, 7, "asked for", (3, 1), cause="c1", at=0.0)]

    run(work())


def test_a_rest_whose_connection_broke_is_given_up_and_not_asked_for_again():
    async def work():
        pump = Plane(ConnectionError("broken"))
        await pump._quiesce(c.QuiesceInstance(*WHO, "c1"))
        assert pump.nodes.asked == ["quiesce"]
        assert [type(event) for event in pump.told] == [c.QuiesceFailed]

    run(work())


def test_an_order_that_a_later_one_has_overtaken_is_not_repeated():
    async def work():
        later = c.QuiesceInstance(*WHO, "c2")

        def overtaken():
            pump._orders[later.topic] = later
            return ConnectionError("broken")

        pump = Plane(overtaken)
        await pump._tell(c.ResumeInstance(*WHO), "resume")
        assert pump.nodes.asked == ["resume"], "it would wake what is to be at rest"

    run(work())


def test_an_order_to_start_that_an_earlier_life_of_the_node_was_given_is_left_alone():
    async def work():
        started = []

        class Fresh(Node):
            async def _start(self, instance, cause):
                started.append((instance, cause))

        node = Fresh()
        node.prepare()
        node.incarnation = 2
        for incarnation in (1, 2):
            request = StartRequest(
                SandboxSpec("shop"), "alpha", 1, cause=str(incarnation), incarnation=incarnation
            )
            node.begin(f"of life {incarnation}", request)
        await asyncio.gather(*node._tasks)
        assert started == [("of life 2", "2")]

    run(work())
