"""What a node measures of itself, from the operating system; nothing here is estimated."""

from __future__ import annotations

import time
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
    """Measures one node: the worker, its fork server and the hosts of its sandboxes."""

    def __init__(self, own_pids: list[int]) -> None:
        self._started = time.monotonic()
        self._own = [meter for pid in own_pids if (meter := ProcessMeter.of(pid))]
        self._hosts: dict[str, tuple[int, ProcessMeter]] = {}
        self._network: tuple[float, int] | None = None
        self._cores = psutil.cpu_count() or 1

    def sample(self, hosts: dict[str, int]) -> dict[str, Any]:
        """Measure now. `hosts` maps the ids of sandboxes to their OS processes.

        Returns bytes, percent of the machine's processors, bytes per second and seconds; what is not
        known yet is None.
        """
        memory, shares = 0, []
        for meter in self._own:
            if reading := meter.read():
                memory += reading[0]
                shares.append(reading[1])
        sandboxes = {}
        self._hosts = {id: known for id, known in self._hosts.items() if hosts.get(id) == known[0]}
        for id, pid in hosts.items():
            if id not in self._hosts:
                if (fresh := ProcessMeter.of(pid)) is None:
                    continue
                self._hosts[id] = (pid, fresh)
            if reading := self._hosts[id][1].read():
                memory += reading[0]
                shares.append(reading[1])
                sandboxes[id] = {"memory": reading[0], "cpu": reading[1]}
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
