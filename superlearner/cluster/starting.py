"""Start a local cluster from a loop, so that an interrupted start leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial

from superlearner.cluster.local import AlreadyRuns, Connection, find_connection, start_daemon, stop_daemon


async def start(
    nodes: Sequence[str],
    *,
    detached: bool,
    dashboard: bool | None = None,
    labels: Mapping[str, Mapping[str, str]] | None = None,
) -> Connection:
    """Do as `start_daemon`; when cancelled, call the start off and wait until its processes are gone.

    A thread cannot be cancelled: left alone, it would go on and bring up a cluster that nobody holds.
    """
    readable, abort = os.pipe()
    work = partial(start_daemon, nodes, detached=detached, dashboard=dashboard, labels=labels, abort=readable)
    starting = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled = False
    try:
        while not starting.done():
            try:
                await asyncio.wait([starting])
            except asyncio.CancelledError:  # also again and again: the clean-up is not to be broken off
                cancelled = True
                os.write(abort, b"!")
    finally:
        os.close(readable)
        os.close(abort)
    if not cancelled:
        return starting.result()
    if starting.exception() is None:  # it was ready in the same moment
        stop_daemon(starting.result())
    raise asyncio.CancelledError


async def find_or_start(
    nodes: Sequence[str], labels: Mapping[str, Mapping[str, str]] | None = None
) -> Connection:
    """Return the shared local cluster; start it when there is none."""
    running = find_connection()
    if running is None:
        try:
            return await start(nodes, detached=True, labels=labels)
        except AlreadyRuns:  # somebody else has started it in the same moment
            running = find_connection()
            if running is None:
                raise
    return running
