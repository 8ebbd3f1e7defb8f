"""Hypothesis strategies for schedules; Hypothesis comes with the ``test`` extra.

>>> from hypothesis import given
>>> from superlearner.testing import simulate
>>> @given(schedules())
... def test_my_promise(schedule):
...     assert simulate(schedule).ok
"""

from __future__ import annotations

from hypothesis import strategies as st

from superlearner.testing.schedule import CLIENTS, NODES, SANDBOXES, Schedule, Step

#: Shorter and longer than the lease and the patience of nodes with each other.
_SECONDS = st.sampled_from((0.2, 1.0, 2.5, 3.2, 5.5, 8.0))
_DELAY = st.sampled_from((0.1, 0.4, 0.9))


def schedules(most_nodes: int = 4, most_steps: int = 12) -> st.SearchStrategy[Schedule]:
    """Draw schedules: one sandbox is created first, then anything happens."""
    nodes = NODES[:most_nodes]
    create = Step(0.5, "create", (CLIENTS[0], SANDBOXES[0], nodes[0], "permanent", 2))
    more = st.lists(_steps(nodes), max_size=most_steps)
    steps = more.map(lambda drawn: (create, *sorted(drawn, key=lambda step: step.at)))
    seeds = st.integers(0, 2**16)
    return st.builds(Schedule, seeds, st.just(nodes), watched=st.booleans(), steps=steps)


def _steps(nodes: tuple[str, ...]) -> st.SearchStrategy[Step]:
    node, client = st.sampled_from(nodes), st.sampled_from(CLIENTS)
    sandbox = st.just(SANDBOXES[0])
    anybody = st.sampled_from((*nodes, *CLIENTS, "scheduler"))
    arguments = {
        "call": st.tuples(client, sandbox, st.integers(0, 10**6), st.booleans(), st.just(True)),
        "move": st.tuples(client, sandbox, st.sampled_from(("auto", *nodes))),
        "restart": st.tuples(client, sandbox),
        "crash": st.tuples(node, _SECONDS),
        "pause": st.tuples(node, _SECONDS),
        "isolate": st.tuples(node, _SECONDS),
        "fade": st.tuples(node, _DELAY, _SECONDS),
        "cut": st.tuples(anybody, anybody, _SECONDS),
        "part": st.tuples(st.sets(node, min_size=1).map(lambda some: tuple(sorted(some))), _SECONDS),
        "break_": st.tuples(st.just("scheduler"), node, st.just("commands")),
        "kill": st.tuples(sandbox),
        "slow": st.tuples(node, _DELAY, _SECONDS),
    }
    at = st.floats(0.8, 12.0).map(lambda when: round(when, 3))
    return st.one_of(*(st.builds(Step, at, st.just(verb), args) for verb, args in arguments.items()))
