"""What a node measures of itself, from the operating system; nothing here is estimated."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from superlearner.sandbox.usage import own_memory

#: The shortest span, in seconds, over which processor use is measured: twenty ticks of 10 ms.
SHORTEST = 0.2


@dataclass(slots=True)
class ProcessMeter:
    """Memory and processor use of one OS process since the last reading."""

    process: psutil.Process
    since: float

    @classmethod
    def of(cls, pid: int) -> ProcessMeter | None:
        """Return a meter for `pid`, or None when it is gone."""
        try:
            meter = cls(psutil.Process(pid), time.monotonic())
            meter.process.cpu_percent()  # the first reading only sets the starting point
        except psutil.Error:
            return None
        return meter

    def read(self) -> tuple[int, float | None] | None:
        """Return (proportional bytes, share of one core), or None when the process is gone.

        The share is None over a span too short to measure it: the clock of processor time ticks slowly.

        What it shares, as with the fork server that it came from, counts by its share.
        """
        try:
            memory = own_memory(self.process.pid)
            if time.monotonic() - self.since < SHORTEST:
                return memory, None
            self.since = time.monotonic()
            return memory, self.process.cpu_percent() / 100
        except (OSError, psutil.Error):
            return None


class NodeMeter:
    """Measures one node: its own processes, and the hosts of its sandboxes."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._meters: dict[int, ProcessMeter] = {}
        self._network: tuple[float, int] | None = None
        self._cores = psutil.cpu_count() or 1

    def sample(self, own: Iterable[int], hosts: Mapping[str, int]) -> dict[str, Any]:
        """Measure now. `own` are the pids of the node itself; `hosts` maps the ids of sandboxes to theirs.

        Returns bytes, percent of the machine's processors, bytes per second and seconds; what is not
        known yet is None.
        """
        memory, shares, sandboxes = 0, [], {}
        ids = {pid: id for id, pid in hosts.items()}
        meters, self._meters = self._meters, {}
        for pid in dict.fromkeys((*own, *ids)):
            meter = meters.get(pid) or ProcessMeter.of(pid)
            if meter is None or (reading := meter.read()) is None:
                continue
            self._meters[pid] = meter
            memory += reading[0]
            shares.append(reading[1])
            if pid in ids:
                sandboxes[ids[pid]] = {"memory": reading[0], "cpu": reading[1]}
        measured = [share for share in shares if share is not None]
        machine = psutil.virtual_memory()
        return {
            "at": time.time(),
            "memory": memory,
            "memory_used": machine.total - machine.available,
            "memory_total": machine.total,
            "cpu": 100 * sum(measured) / self._cores if measured else None,
            "network": self._network_rate(),
            "uptime": time.monotonic() - self._started,
            "sandboxes": sandboxes,
        }

    def _network_rate(self) -> float | None:
        """Return the machine's bytes per second, in and out, since the last reading."""
        counters = psutil.net_io_counters()
        if counters is None:
            return None
        now, total = time.monotonic(), counters.bytes_sent + counters.bytes_recv
        before, self._network = self._network, (now, total)
        if before is None or now <= before[0]:
            return None
        return max(0, total - before[1]) / (now - before[0])
