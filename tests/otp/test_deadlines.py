"""The timeout that most calls have, kept by one timer."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from conformance_kit import Doer, answer, running
from otp_kit import asynchronous

from superlearner.errors import CallTimeout
from superlearner.otp import NoReply, _kernel, child
from superlearner.otp._deadlines import Deadlines

SHORT = 0.03


@asynchronous
async def test_each_future_fails_in_its_own_time_unless_it_is_done():
    loop = asyncio.get_running_loop()
    deadlines, failed = Deadlines(loop, SHORT), []
    futures = {name: loop.create_future() for name in ("first", "done", "cancelled", "second")}
    for name, future in futures.items():
        deadlines.add(future, name)
        future.add_done_callback(lambda _, name=name: failed.append((name, loop.time())))
        await asyncio.sleep(0.005)
    futures["done"].set_result(1)
    futures["cancelled"].cancel()
    began = loop.time()
    for name in ("first", "second"):
        with pytest.raises(CallTimeout, match=name):
            await futures[name]
    assert futures["done"].result() == 1
    assert [name for name, _ in failed] == ["done", "cancelled", "first", "second"]
    assert loop.time() - began < 1.0
    assert failed[-1][1] - failed[-2][1] >= 0.01
    assert deadlines._timer is None
    assert not deadlines._waiting


@asynchronous
async def test_what_is_done_is_let_go_also_behind_a_call_that_takes_long():
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, 60.0)
    slow = [loop.create_future() for _ in range(3)]
    for future in slow:
        deadlines.add(future, "slow")
    for _ in range(5_000):
        future = loop.create_future()
        deadlines.add(future, "quick")
        future.set_result(None)
    assert len(deadlines._waiting) <= 1_001
    assert [entry.future for entry in deadlines._waiting][:3] == slow
    deadlines.close()
    assert deadlines._timer is None


@asynchronous
async def test_a_call_has_it_and_nothing_of_it_is_left_after_the_end(monkeypatch):
    monkeypatch.setattr(_kernel, "Deadlines", partial(Deadlines, seconds=SHORT))
    async with running(child(Doer, id="it", name="it")) as rt:
        assert await rt.call("it", answer(1)) == 1
        with pytest.raises(CallTimeout):
            await rt.call("it", lambda _, state: NoReply(state))
        kept = asyncio.ensure_future(rt.call("it", lambda _, state: NoReply(state)))
        await asyncio.sleep(0)
    await asyncio.gather(kept, return_exceptions=True)
    assert rt.kernel._deadlines._timer is None
    assert not rt.kernel._deadlines._waiting
