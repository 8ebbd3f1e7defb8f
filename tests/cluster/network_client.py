"""A client for `network_kit.Remote`: it evaluates the expressions that come, one a line, and prints what they give.

An expression knows ``cluster``, ``sl``, ``shop`` and ``wait(kind, seconds, **fields)``, which waits for an event
that came after the last ``mark()``, and returns its time.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from apps import shop
from cluster_kit import wait_for_nodes

import superlearner as sl


def tell(answer: list[Any]) -> None:
    """Send an answer, as one line."""
    sys.stdout.write(f"{json.dumps(answer, default=str)}\n")
    sys.stdout.flush()


def main(address: str) -> None:
    """Serve until the input ends."""
    seen: list[sl.Event] = []
    came = threading.Condition()

    def take(event: sl.Event) -> None:
        with came:
            seen.append(event)
            came.notify_all()

    def wait(kind: str, seconds: float, **fields: Any) -> float:
        def found() -> sl.Event | None:
            wanted = {"kind": kind, **fields}
            return next((e for e in seen if all(getattr(e, k) == v for k, v in wanted.items())), None)

        with came:
            event = came.wait_for(found, seconds)
        if event is None:
            raise TimeoutError(f"no {kind} {fields} within {seconds} s, but {[e.kind for e in seen]}")
        return event.at

    def mark() -> None:
        with came:
            seen.clear()

    with sl.connect(address) as cluster:
        cluster.subscribe(take)
        known = {"cluster": cluster, "sl": sl, "shop": shop, "wait": wait, "mark": mark}
        known["wait_for_nodes"] = lambda number: wait_for_nodes(cluster, number)
        tell([True, "ready"])
        for line in sys.stdin:
            try:
                answer = [True, eval(line, dict(known))]
            except (sl.SuperlearnerError, TimeoutError) as error:
                answer = [False, f"{type(error).__name__}: {error}"]
            tell(answer)


if __name__ == "__main__":
    main(sys.argv[1])
