"""A rehearsal of a host's life, in the fork server before it forks.

CPython specialises code in place, in the first runs of each function, and caches what it looked up. What the fork
server has run already every host finds done, in pages that it shares; else each would do it again and have copies of
its own. It takes some ten milliseconds, once for each node, and saves about a sixth of what a start costs.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from superlearner.errors import StartFailed
from superlearner.otp import GenServer, Reply, child, supervisor
from superlearner.sandbox.frames import FrameStream
from superlearner.sandbox.host import Host
from superlearner.sandbox.payload import dumps

#: Specialisation begins after eight runs in CPython 3.11; see PEP 659.
_TIMES = 10
_NAME = "rehearsal"


class _Echo(GenServer):
    def init(self) -> Any:
        return 0

    def handle_call(self, request: Any, sender: Any, state: Any) -> Any:
        return Reply(request, state)


def rehearse(times: int = _TIMES) -> None:
    """Start an application, call it, take a checkpoint and stop it; then again, from that checkpoint."""
    application = dumps(supervisor([child(_Echo, id=_NAME, name=_NAME)]))
    checkpoint = None
    for _ in range(times):
        checkpoint = asyncio.run(_once(application, checkpoint))


async def _once(application: bytes, checkpoint: bytes | None) -> bytes:
    ours, theirs = socket.socketpair()
    frames: asyncio.Queue[list[Any]] = asyncio.Queue()
    stream = await FrameStream.open(ours, frames.put_nowait, lambda _: None)
    life = asyncio.create_task(Host(0, lambda _title, _limits: None).run(theirs))

    async def told(first: Any) -> list[Any]:
        while (frame := await frames.get())[0] != first:
            if frame[0] == "failed":
                raise StartFailed(frame[1], "the rehearsal of a host")
        return frame

    config = {
        "sandbox": _NAME,
        "node": _NAME,
        "epoch": 1,
        "application": application,
        "restore": checkpoint,
        "first_serial": 1,
        "every": 1.0,
        "messages": None,
        "durable": False,
        "request_ids": [1, 1.0],
        "lease": asyncio.get_running_loop().time() + 60,
        "limit": 2**20,
        "dirty": False,
    }
    stream.write(["start", _NAME, {}, config])
    await told("ready")
    stream.write(["call", 1, _NAME, dumps("a request"), 5.0])
    await told(1)
    stream.write(["save", 1, 0])
    saved = await told("saved")
    stream.write(["stop", "shutdown", 5.0])
    await life
    stream.close()
    return bytes(saved[2])
