"""Ten thousand malformed requests leave the server answering, within bounds of memory and descriptors."""

from __future__ import annotations

import asyncio
import collections
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from arsenal_kit import fetch, serving
from malformed import STATUS, Attempt, Malformed

from superlearner.arsenal.http.tokens import read

SEED = 20
NUMBER = 10_000
#: Connections at the same time.
AT_ONCE = 32
#: Seconds that the server may take over one of them.
PATIENCE = 30.0
#: Those that begin and then send nothing, all the while.
SILENT = 40
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def tried(port: int, attempt: Attempt) -> list[int]:
    """Send it; return the statuses that come back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(attempt.sent)
        if attempt.ending == "broken off":
            await writer.drain()
            return []
        async with asyncio.timeout(PATIENCE):
            told = await reader.read(-1)
    except ConnectionError:  # closed while there was still something unread
        return []
    finally:
        writer.transport.abort()
    return [int(status) for status in ANSWER.findall(told)]


def is_right(attempt: Attempt, statuses: list[int]) -> bool:
    """Tell whether that is what the server may say."""
    match attempt.ending:
        case "answered":
            return len(statuses) == 2 and 400 <= statuses[0] < 500 and statuses[1] == 200
        case "refused":
            return len(statuses) <= 1 and all(400 <= status < 500 for status in statuses)
        case "broken off":
            return statuses == []


def test_ten_thousand_malformed_requests_leave_it_answering(cluster):
    with serving() as (process, where):
        url = where["url"].removesuffix("/api/v1")
        address, token = (
            urlsplit(url),
            {one.access: one.secret for one in read(Path(where["token_file"]))}["admin"],
        )
        server = psutil.Process(process.pid)
        malformed = Malformed(SEED, address.netloc, token)
        asyncio.run(all_tried(address.port, malformed, 500))  # what is made once is there from now on
        before = server.memory_info().rss, settled(server, 0)
        asyncio.run(all_tried(address.port, malformed, NUMBER))
        assert fetch(url + STATUS, token=token).status == 200
        assert fetch(url + STATUS, token="forged").status in {401, 429}
        assert server.memory_info().rss - before[0] < 64 * 2**20
        assert settled(server, before[1]) <= before[1]


def settled(server: psutil.Process, wanted: int) -> int:
    """Return how many descriptors are left; who closes one tells nobody, so this looks again."""
    deadline = time.monotonic() + 5
    while server.num_fds() > wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return server.num_fds()


async def all_tried(port: int, malformed: Malformed, number: int) -> None:
    """Try so many, and see that each is answered as it may be, beside those that are silent."""
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(SILENT)]
    for count, (_, writer) in enumerate(silent):
        whole = malformed.good() if count % 2 else malformed.post(b"{}" * 50)
        writer.write(whole[:-10])
    wrong: list[tuple[Attempt, list[int]]] = []
    seen = collections.Counter[str]()
    attempts = malformed.attempts(number)

    async def work() -> None:
        for attempt in attempts:
            statuses = await tried(port, attempt)
            seen[attempt.kind] += 1
            if not is_right(attempt, statuses):
                wrong.append((attempt, statuses))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    if number == NUMBER:  # those whose bodies do not come are let go of by the server itself
        async with asyncio.timeout(PATIENCE):
            assert set(await asyncio.gather(*(reader.read() for reader, _ in silent[::2]))) == {b""}
    for _, writer in silent:
        writer.transport.abort()
    assert not wrong, [(one.kind, one.sent[:300], statuses) for one, statuses in wrong[:10]]
    assert sum(seen.values()) == number
    assert min(seen.values()) >= number // len(seen)
