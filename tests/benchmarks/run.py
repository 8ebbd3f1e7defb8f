"""The benchmarks: ``python tests/benchmarks/run.py [NAME ...] [--json] [--repeat N]``.

Each figure is measured several times in this run, together with its peer where one is installed; machines
differ and are shared, so the ratio to the peer says more than the absolute figure. Nothing is asserted here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import figures
import peers


@dataclass(frozen=True)
class Figure:
    """What is measured, and against whom."""

    unit: str
    measure: Callable[[], Iterator[float]]
    #: Peers by name; each yields figures of the same unit.
    peers: tuple[tuple[str, Callable[[], Iterator[float]]], ...] = ()
    #: Whether more is better, which turns the ratio round.
    more: bool = False


FIGURES = {
    "import": Figure("s", figures.import_time),
    "start_three_nodes": Figure("s", figures.start_three_nodes, (("dask", peers.dask_start),)),
    "idle_memory": Figure("MB PSS", figures.idle_memory, (("dask", peers.dask_idle_memory),)),
    "create_100_sandboxes": Figure("s", figures.create_100),
    "memory_per_sandbox": Figure("MB PSS", figures.memory_per_sandbox),
    "call_latency": Figure(
        "us", figures.call_latency, (("dask rpc echo", peers.dask_rpc), ("dask actor", peers.dask_actor))
    ),
    "call_latency_p99": Figure("us", figures.call_latency_p99),
    "call_latency_sync": Figure("us", figures.call_latency_sync),
    "calls_in_flight_one": Figure(
        "1/s", figures.calls_in_flight_one, (("dask actor", peers.dask_actor_in_flight),), more=True
    ),
    "calls_in_flight_ten": Figure("1/s", figures.calls_in_flight_ten, more=True),
    "in_sandbox_calls": Figure("1/s", figures.in_sandbox_calls, (("pykka", peers.pykka_ask),), more=True),
    "in_sandbox_casts": Figure("1/s", figures.in_sandbox_casts, (("pykka", peers.pykka_tell),), more=True),
    "restart_after_process_crash": Figure("ms", figures.restart_process),
    "restart_after_host_kill": Figure("ms", figures.restart_host),
    "failover_30_first": Figure("ms", lambda: figures.failover_30("first")),
    "failover_30_last": Figure("ms", lambda: figures.failover_30("last")),
    "control_event_1000": Figure("us", lambda: figures.control_event(1_000)),
    "control_event_100000": Figure("us", lambda: figures.control_event(100_000)),
}


def summary(values: list[float]) -> dict[str, Any]:
    """Return the median, least and greatest of `values`."""
    return {
        "median": round(statistics.median(values), 4),
        "minimum": round(min(values), 4),
        "maximum": round(max(values), 4),
        "runs": len(values),
    }


def measured(figure: Figure) -> dict[str, Any]:
    """Measure a figure and its peers."""
    own = summary(list(figure.measure()))
    result: dict[str, Any] = {"unit": figure.unit, **own, "peers": {}}
    for name, measure in figure.peers:
        package = name.partition(" ")[0]
        if importlib.util.find_spec("distributed" if package == "dask" else package) is None:
            continue
        peer = summary(list(measure()))
        ratio = own["median"] / peer["median"]
        result["peers"][name] = {**peer, "ratio": round(ratio, 3)}
    return result


def main() -> int:
    """Measure the named figures, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(FIGURES)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are: {', '.join(FIGURES)}")
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    results = {}
    for name in asked.names or FIGURES:
        results[name] = measured(FIGURES[name])
        if not asked.json:
            figure = results[name]
            line = f"{name:<28} {figure['median']:>12,.2f} {figure['unit']:<7}"
            line += f" ({figure['minimum']:,.2f} to {figure['maximum']:,.2f})"
            for peer, seen in figure["peers"].items():
                line += f"; {peer} {seen['median']:,.2f}, ratio {seen['ratio']}"
            print(line, flush=True)
    if asked.json:
        print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
