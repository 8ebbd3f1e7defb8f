"""The rehearsal that the fork server holds before it forks."""

from __future__ import annotations

import threading

import psutil

from superlearner.sandbox.rehearsal import rehearse


def test_a_rehearsal_leaves_nothing_behind():
    rehearse()  # what is made once stays: caches, and what asyncio makes at its first use
    me = psutil.Process()
    before = (me.num_fds(), threading.active_count(), me.children())
    rehearse()
    assert (me.num_fds(), threading.active_count(), me.children()) == before
