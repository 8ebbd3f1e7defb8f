"""The benchmarks: ``python tests/benchmarks/run.py [NAME ...] [--json] [--repeat N] [--list]``.

Each figure is measured several times in this run, together with the peers that are installed; machines differ
and are shared, so the ratio to a peer says more than the absolute figure. Nothing is asserted here. Our own
figures and each peer's are measured in processes of their own (`alone`), so that none disturbs the other.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import alone


@dataclass(frozen=True)
class Source:
    """A function that yields values: numbers, or dictionaries of them by the name of a part."""

    module: str
    function: str
    arguments: tuple[Any, ...] = ()
    #: The part that counts, where several are measured at once.
    part: str | None = None


@dataclass(frozen=True)
class Figure:
    """What is measured, and against whom."""

    unit: str
    source: Source
    #: Peers by name, the first word of which is the package; each yields figures of the same unit.
    peers: Mapping[str, Source] = field(default_factory=dict)
    #: How often, unless ``--repeat`` says otherwise.
    runs: int = 5
    #: Another figure of ours that this one is put in relation to.
    against: str | None = None
    #: What has to be known to read it fairly.
    note: str = ""


def _own(function: str, *arguments: Any, part: str | None = None) -> Source:
    return Source("figures", function, arguments, part)


def _latencies(part: str) -> dict[str, Source]:
    return {
        "dask rpc echo, two processes": Source("peers_dask", "rpc_echo", part=part),
        "dask actor": Source("peers_dask", "actor", part=part),
        "ray": Source("peers_ray", "call", part=part),
        "xoscar": Source("peers_xoscar", "call", part=part),
    }


def _in_flight(actors: int) -> dict[str, Source]:
    return {
        "dask actor": Source("peers_dask", "in_flight", (actors,)),
        "ray": Source("peers_ray", "in_flight", (actors,)),
        "xoscar": Source("peers_xoscar", "in_flight", (actors,)),
    }


def _neighbour(part: str) -> dict[str, Figure]:
    """Return the latency of calls to a sandbox alone, beside a busy process, and beside a busy sandbox."""
    end = "" if part == "median" else f"_{part}"

    def source(beside: str) -> Source:
        return Source("hostile", "neighbour_latency", (beside,), part)

    return {
        f"neighbour_alone{end}": Figure("us", source("nothing"), note="One node, nothing else on it."),
        f"neighbour_beside_busy_process{end}": Figure(
            "us",
            source("process"),
            note="A plain endless loop beside the cluster: what sharing the processors costs by itself.",
        ),
        f"neighbour_beside_busy_sandbox{end}": Figure(
            "us",
            source("sandbox"),
            against=f"neighbour_beside_busy_process{end}",
            note="An endless loop in another sandbox of the same node.",
        ),
    }


_LATENCY = "One call after the other; Ray's and xoscar's are not encrypted."
_IN_FLIGHT = (
    "Ours keep the order of each caller, Dask's do not; Dask and Ray send bursts of 1,000 from one caller."
)
_LISTS = "Over HTTP, all 300 on one page; every node is asked each time."
_DURABLE = (
    'What a call with durability="reply" takes, in plain calls of the same run, turn about: three nodes, two copies, '
    "a state directory, a small state."
)


def _control_event(sandboxes: int, nodes: int = 10) -> Figure:
    return Figure(
        "us",
        Source("control_figures", "control_event", (sandboxes, nodes)),
        against=None if (sandboxes, nodes) == (1_000, 10) else "control_event_1000",
        note=f"A mix of creating, starting, checkpoints, samples and moves in the pure machine, on {nodes:,} nodes.",
    )


FIGURES = {
    "import": Figure("s", _own("import_time")),
    "start_three_nodes": Figure(
        "s",
        _own("start_three_nodes"),
        {"dask": Source("peers_dask", "start"), "ray": Source("peers_ray", "start")},
        note="Ray starts one node: it runs one for each machine.",
    ),
    "idle_memory": Figure(
        "MB PSS",
        _own("idle_memory", part="cluster"),
        {"ray": Source("peers_ray", "idle_memory", part="cluster")},
        runs=3,
        note="Three nodes and what serves them, without the client; Ray has one node, with one actor.",
    ),
    "idle_memory_with_client": Figure(
        "MB PSS",
        _own("idle_memory", part="with client"),
        {name: Source(f"peers_{name}", "idle_memory", part="with client") for name in ("dask", "ray")},
        runs=3,
        note="Dask's scheduler lives in its client: only both together compare.",
    ),
    "create_100_sandboxes": Figure(
        "s", _own("create", 100), runs=3, note="Each an OS process, and answering."
    ),
    "create_20_sandboxes": Figure(
        "s",
        _own("create", 20),
        {"ray": Source("peers_ray", "create")},
        runs=3,
        note="As create_100_sandboxes; 20 because Ray needs half a minute for 100.",
    ),
    "memory_per_sandbox": Figure(
        "MB PSS",
        _own("memory_per_sandbox"),
        {"ray": Source("peers_ray", "memory_per_actor")},
        note="Of 20; Ray of 5.",
    ),
    "call_latency": Figure("us", _own("call_latency", part="median"), _latencies("median"), note=_LATENCY),
    "call_latency_p99": Figure("us", _own("call_latency", part="p99"), _latencies("p99"), note=_LATENCY),
    "call_latency_sync": Figure("us", _own("call_latency_sync")),
    "durable_call": Figure(
        "plain calls", _own("durable_call", 1, part="durable"), runs=3, note=_DURABLE + " One call at a time."
    ),
    "durable_call_in_flight": Figure(
        "plain calls", _own("durable_call", 200, part="durable"), runs=3, note=_DURABLE + " 200 in flight."
    ),
    "durable_call_with_id": Figure(
        "plain calls",
        _own("durable_call", 1, part="with id"),
        runs=3,
        note=_DURABLE + " With request ids, too.",
    ),
    **_neighbour("median"),
    **_neighbour("p99"),
    "calls_in_flight_one": Figure("1/s", _own("calls_in_flight", 1), _in_flight(1), note=_IN_FLIGHT),
    "calls_in_flight_ten": Figure("1/s", _own("calls_in_flight", 10), _in_flight(10), note=_IN_FLIGHT),
    "sandbox_call_between_nodes": Figure("us", Source("between", "sandbox_call_between_nodes")),
    "sandbox_call_same_node": Figure("us", Source("between", "sandbox_call_same_node")),
    "sandbox_casts_between_nodes": Figure("1/s", Source("between", "sandbox_casts_between_nodes")),
    "in_sandbox_calls": Figure("1/s", _own("in_sandbox_calls"), {"pykka": Source("peers_pykka", "ask")}),
    "in_sandbox_casts": Figure("1/s", _own("in_sandbox_casts"), {"pykka": Source("peers_pykka", "tell")}),
    "restart_after_process_crash": Figure("ms", _own("restart_process")),
    "restart_after_host_kill": Figure(
        "ms", _own("restart_host"), note="From SIGKILL to the answer with its state."
    ),
    "failover_30_first": Figure(
        "ms", _own("failover_30", part="first"), note="From SIGKILL to a node with 30, after 2 s of rest."
    ),
    "failover_30_last": Figure(
        "ms", _own("failover_30", part="last"), note="As failover_30_first; read with failover_30_lost."
    ),
    "failover_30_lost": Figure(
        "sandboxes",
        _own("failover_30", part="lost"),
        note="With a wrong state, or no answer in 20 s; to be 0.",
    ),
    "failover_30_at_once_last": Figure(
        "ms",
        _own("failover_30", 0.0, part="last"),
        note="As failover_30_last, in the moment in which the 30 are there: others still prepare for it.",
    ),
    "scheduler_killed_30_last": Figure(
        "ms",
        _own("scheduler_killed_30", part="last"),
        note="From SIGKILL to the scheduler; read with ..._lost.",
    ),
    "scheduler_killed_30_lost": Figure(
        "sandboxes", _own("scheduler_killed_30", part="lost"), note="As failover_30_lost; to be 0."
    ),
    "migration_pause": Figure(
        "ms", _own("migration_pause"), runs=6, note="With 1 MB of state, as three callers see it."
    ),
    "control_event_1000": _control_event(1_000),
    "control_event_10000": _control_event(10_000),
    "control_event_100000": _control_event(100_000),
    "control_event_1000_on_1000_nodes": _control_event(1_000, 1_000),
    "control_event_100000_on_1000_nodes": _control_event(100_000, 1_000),
    "status_300": Figure("ms", _own("looks_300", part="status"), runs=20),
    "sandboxes_300": Figure("ms", _own("looks_300", part="sandboxes"), runs=20),
    "get_sandboxes_300": Figure("ms", Source("serving", "lists_300", part="median"), note=_LISTS),
    "get_sandboxes_300_p99": Figure("ms", Source("serving", "lists_300", part="p99"), note=_LISTS),
    "requests_per_second": Figure(
        "1/s",
        Source("serving", "requests_per_second"),
        note="GET of one sandbox by 8 clients that keep their connections, on the machine of server and cluster.",
    ),
}


class Measurements:
    """What was measured in this run; figures that are parts of one measurement share it."""

    def __init__(self, repeat: int | None) -> None:
        self._repeat = repeat
        self._seen: dict[tuple[str, str, tuple[Any, ...]], list[Any]] = {}

    def figure(self, name: str) -> dict[str, Any]:
        """Return our own figure and those of its peers."""
        figure = FIGURES[name]
        own = self._summary(figure.source, figure.runs)
        result: dict[str, Any] = {"unit": figure.unit, **own, "peers": {}, "missing": [], "failed": {}}
        for peer, source in figure.peers.items():
            if importlib.util.find_spec(peer.split()[0]) is None:
                result["missing"].append(peer)
                continue
            try:
                seen = self._summary(source, min(figure.runs, 3))
            except alone.MeasurementFailed as error:
                result["failed"][peer] = str(error)
                continue
            result["peers"][peer] = {**seen, "ratio": _ratio(own, seen)}
        if figure.against:
            other = FIGURES[figure.against]
            result["against"] = {figure.against: _ratio(own, self._summary(other.source, other.runs))}
        return result | ({"note": figure.note} if figure.note else {})

    def _summary(self, source: Source, runs: int) -> dict[str, Any]:
        key = (source.module, source.function, source.arguments)
        if key not in self._seen:
            self._seen[key] = alone.measure(*key, self._repeat or runs)
        values = [value if source.part is None else value[source.part] for value in self._seen[key]]
        return {
            "median": round(statistics.median(values), 4),
            "minimum": round(min(values), 4),
            "maximum": round(max(values), 4),
            "runs": len(values),
        }


def _ratio(own: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    return round(own["median"] / other["median"], 3) if other["median"] else None


def _line(name: str, figure: Mapping[str, Any]) -> str:
    """Return a figure as a line of text, its peers below."""
    text = f"{name:<28} {figure['median']:>12,.2f} {figure['unit']:<9}"
    text += f" ({figure['minimum']:,.2f} to {figure['maximum']:,.2f}, {figure['runs']} runs)"
    for peer, seen in figure["peers"].items():
        text += f"\n    {peer:<28} {seen['median']:>12,.2f}, ratio {seen['ratio']}"
    for peer in figure["missing"]:
        text += f"\n    {peer:<28} is not installed"
    for peer, why in figure["failed"].items():
        text += f"\n    {peer:<28} failed: {why}"
    for other, ratio in figure.get("against", {}).items():
        text += f"\n    ratio to {other}: {ratio}"
    return text


def main() -> int:
    """Measure the named figures, or all; say 1 when one of ours could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all, unless given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeat", type=int, metavar="N", help="measure each figure N times")
    parser.add_argument("--list", action="store_true", help="print the names of all figures")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(FIGURES))
        return 0
    if unknown := set(asked.names) - set(FIGURES):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are: {', '.join(FIGURES)}")
    if asked.repeat is not None and asked.repeat < 1:
        parser.error("--repeat is a number of times, at least 1")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # what a measurement started ends with it, as on Ctrl-C
    measurements = Measurements(asked.repeat)
    results: dict[str, Any] = {}
    failed = 0
    try:
        for name in asked.names or FIGURES:
            try:
                results[name] = measurements.figure(name)
            except alone.MeasurementFailed as error:
                failed = 1
                results[name] = {"unit": FIGURES[name].unit, "error": str(error)}
                print(f"{name} failed: {error}", file=sys.stderr, flush=True)
                continue
            if not asked.json:
                print(_line(name, results[name]), flush=True)
    finally:  # what was measured before an interruption is told too
        if asked.json:
            print(json.dumps(results, indent=2))
    return failed


if __name__ == "__main__":
    sys.exit(main())
