"""A time that is none is refused where it is written; let in, one NaN would stop every timer of the loop."""

from __future__ import annotations

import math

import pytest

from superlearner.errors import CallTimeout, InvalidSpec, NoProcess, ProcessDied
from superlearner.otp import GenServer, NoReply, Reply, Runtime, child, receive, self_, send_after, spawn

BAD = [math.nan, -1, "5", True]


class Timed(GenServer):
    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        match request:
            case ("wait", timeout):
                return Reply("waits", state, timeout=timeout)
            case ("later", seconds):
                return Reply(refusal(lambda: send_after(self_(), "late", seconds)), state)
            case "never":
                return NoReply(state)
        return Reply(request, state)


def refusal(work):
    try:
        work()
    except InvalidSpec as error:
        return str(error)
    return None


@pytest.fixture
def rt():
    with Runtime(child(Timed, name="timed")) as running:
        yield running


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_the_timeout_of_a_call(rt, bad):
    for ask in (lambda: rt.call("timed", "x", timeout=bad), lambda: rt.get_state("timed", timeout=bad)):
        with pytest.raises(InvalidSpec, match="must be a number of seconds, 0 or more; nothing was done"):
            ask()
    with pytest.raises(CallTimeout):  # the timers still run
        rt.call("timed", "never", timeout=0.01)


@pytest.mark.parametrize("long", [math.inf, 1e12, None], ids=repr)
def test_a_call_may_wait_as_long_as_one_likes(rt, long):
    assert rt.call("timed", "x", timeout=long) == "x"


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_the_seconds_of_a_timer(rt, bad):
    assert "seconds=" in rt.call("timed", ("later", bad))


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_the_timeout_that_a_handler_returns(rt, bad):
    with pytest.raises(ProcessDied, match="return timeout=, in seconds and not negative"):
        rt.call("timed", ("wait", bad))


def test_the_timeout_of_a_receive(rt):
    async def taking():
        await receive(timeout=math.nan)

    class Spawner(Timed):
        def handle_call(self, request, sender, state):
            return Reply(spawn(taking, monitor=True), state)

        def handle_info(self, message, state):
            return message.reason

    pid = rt.start_child("root", child(Spawner, name="spawner"))
    rt.call(pid, "go")
    assert "timeout=nan" in str(rt.get_state(pid))


def test_a_name_that_is_nearly_right(rt):
    with pytest.raises(NoProcess, match="Did you mean 'timed'"):
        rt.call("tiemd", 1)
