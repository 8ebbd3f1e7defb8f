"""The small rules: who is restarted, how often, after what wait; specs, events, health, quorum."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.health import Thresholds, cluster_health, node_health
from superlearner.core.history import Event, EventLog, Story
from superlearner.core.quorum import has_quorum
from superlearner.core.restart import Backoff, Intensity, is_normal, should_restart
from superlearner.core.snapshots import ProcessInfo
from superlearner.core.spec import Checkpoint, Resources, SandboxSpec, choice, parse_bytes, validate_id
from superlearner.errors import InvalidSpec

# -- Restart ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "reason", "again"),
    [
        ("permanent", "normal", True),
        ("permanent", "crash", True),
        ("transient", "normal", False),
        ("transient", "shutdown", False),
        ("transient", ("shutdown", "scaled down"), False),
        ("transient", "killed", True),
        ("temporary", "normal", False),
        ("temporary", "crash", False),
    ],
)
def test_the_restart_type_decides_who_is_started_again(restart, reason, again):
    assert should_restart(restart, reason) is again


def test_only_the_wanted_ends_are_normal():
    assert [is_normal(r) for r in ("normal", "shutdown", ("shutdown", 1), "kill", None, ("x", 1))] == [
        True
    ] * 3 + [False] * 3


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.floats(0, 10), max_size=30),
    most=st.integers(0, 4),
    seconds=st.floats(0.1, 20),
)
def test_no_window_ever_holds_more_restarts_than_are_allowed(gaps, most, seconds):
    budget, at, allowed_at = Intensity(most, seconds), 0.0, []
    for gap in gaps:
        at += gap
        left = budget.left(at)
        budget, allowed = budget.spend(at)
        assert allowed == (left > 0)
        if allowed:
            allowed_at.append(at)
    for end in allowed_at:
        assert sum(0 <= end - start <= seconds for start in allowed_at) <= most


@settings(max_examples=60, deadline=None)
@given(
    first=st.floats(0.001, 1),
    factor=st.floats(1, 4),
    longest=st.floats(1, 60),
    attempt=st.integers(0, 10_000),
)
def test_the_wait_grows_up_to_its_longest_and_never_overflows(first, factor, longest, attempt):
    backoff = Backoff(first, factor, longest)
    assert 0 <= backoff.wait(attempt) <= backoff.wait(attempt + 1) <= longest


def test_the_first_try_is_made_at_once():
    assert Backoff().wait(1) == 0.0


# -- History and snapshots --------------------------------------------------------------------------


def test_an_event_survives_being_made_plain():
    event = Event("sandbox_moved", sandbox="shop", detail={"bytes": 7})
    assert Event.from_dict(event.as_dict()) == event
    assert Event.from_dict({"kind": "x", "unknown": 1}) == Event("x")


def test_the_log_tells_what_came_after_a_number_and_keeps_within_its_limit():
    log = EventLog(limit=3, first_seq=5)
    for kind, sandbox in (("a", "shop"), ("b", "shop"), ("a", "bank"), ("a", "shop")):
        log.append(Event(kind, sandbox=sandbox))
    assert [event.seq for event in log] == [6, 7, 8]
    assert len(log) == 3
    assert [event.seq for event in log.since(6)] == [7, 8]
    assert [event.seq for event in log.since(kind="a", sandbox="shop")] == [8]


def test_a_story_is_printed_as_a_table():
    events = [
        Event("sandbox_started", at=5.0, node="alpha", epoch=1),
        Event("process_exited", at=6.5, name="counter", pid="<a.b.1>", reason="boom"),
    ]
    first, second = str(Story(events)).splitlines()
    assert first.split() == ["+0.000", "s", "sandbox_started", "alpha:1"]
    assert second.split() == ["+1.500", "s", "process_exited", "-:-", "counter", "<a.b.1>", "reason:", "boom"]


def test_a_process_walks_its_tree_parents_first():
    leaf = ProcessInfo("leaf", None, None, "worker", "running")
    middle = ProcessInfo("middle", None, None, "supervisor", "running", children=(leaf,))
    root = ProcessInfo("root", None, None, "supervisor", "running", children=(middle, leaf))
    assert [process.id for process in root.walk()] == ["root", "middle", "leaf", "leaf"]


# -- Specs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["", "-x", "a/b", "a.b", "x" * 64, 7, None])
def test_an_id_that_would_read_as_something_else_is_refused(id):
    with pytest.raises(InvalidSpec, match="use 1 to 63 letters"):
        validate_id(id)


@pytest.mark.parametrize("text", ["", "MiB", "0", "-1", "64 XB", 0, -5, True, None, 1.5])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(InvalidSpec, match="not an amount of memory"):
        parse_bytes(text)


def test_amounts_of_memory_are_read_with_their_units():
    assert [parse_bytes(t) for t in ("1", "2kb", "1 KiB", "1.5 MiB", 77)] == [1, 2000, 1024, 1572864, 77]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Resources(cpu=-1), "cpu=-1"),
        (lambda: Resources(cpu=True), "cpu=True"),
        (lambda: Resources(cpu_time=0), "cpu_time=0"),
        (lambda: Resources(wall_clock="1"), "wall_clock="),
        (lambda: Resources(open_files=3), "open_files=3 must be a whole number, 32 or more."),
        (lambda: Resources(processes=-1), "processes=-1 .* or None for no limit"),
        (lambda: Resources(disk="much"), "disk='much' is not an amount of disk"),
        (lambda: Checkpoint(every=0), "every=0"),
        (lambda: Checkpoint(messages=0), "messages=0"),
        (lambda: Checkpoint(copies=-1), "copies=-1"),
        (lambda: Checkpoint(keep=0), "keep=0"),
        (lambda: SandboxSpec("a/b"), "sandbox id"),
        (lambda: SandboxSpec("a", node="b/c"), "node"),
        (lambda: SandboxSpec("a", placement="best"), "placement='best' is not known"),
        (lambda: SandboxSpec("a", restart="always"), "restart='always'"),
        (lambda: SandboxSpec("a", max_restarts=-1), "max_restarts"),
        (lambda: SandboxSpec("a", max_seconds=0), "max_seconds"),
        (lambda: SandboxSpec("a", start_timeout=None), "start_timeout"),
        (lambda: SandboxSpec("a", on_unresponsive="kill"), "on_unresponsive='kill' is not known"),
        (lambda: SandboxSpec("a", unresponsive_after=0.1), "unresponsive_after=0.1 .* 0.5 or more"),
        (lambda: SandboxSpec("a", unresponsive_after=float("nan")), "unresponsive_after=nan"),
        (lambda: SandboxSpec("a", unresponsive_after=True), "unresponsive_after=True"),
        (lambda: SandboxSpec("a", resources=64), "must be a Resources"),
        (lambda: SandboxSpec("a", checkpoint=2), "must be a Checkpoint"),
        (lambda: SandboxSpec("a", resources={"cpu": 0.5}), r"write resources=Resources\(cpu=0.5\)"),
        (lambda: SandboxSpec("a", checkpoint={}), r"write checkpoint=Checkpoint\(every=2.0\)"),
        (lambda: SandboxSpec("a", restart="permanant"), "did you mean 'permanent'"),
        (lambda: SandboxSpec("a", node=None), "write node='auto'"),
        (lambda: SandboxSpec("a", node="-"), "such as 'alpha'"),
        (lambda: SandboxSpec("a", labels=["fast"]), "must map texts to texts"),
        (lambda: SandboxSpec("a", labels={"disk": 1}), "must map texts to texts"),
        (lambda: Resources(memroy=1), "did you mean 'memory'"),
        (lambda: Checkpoint(evry=1), "did you mean 'every'"),
        # One NaN in the heap of an event loop stops all its timers.
        (lambda: SandboxSpec("a", start_timeout=math.nan), "start_timeout=nan"),
        (lambda: SandboxSpec("a", shutdown=math.inf), "shutdown=inf"),
        (lambda: Resources(cpu=math.inf), "cpu=inf"),
        (lambda: Resources(wall_clock=math.nan), "wall_clock=nan"),
        (lambda: Checkpoint(every=math.nan), "every=nan"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(build, says):
    with pytest.raises(InvalidSpec, match=says):
        build()


def test_a_right_spec_keeps_what_it_was_given():
    spec = SandboxSpec("shop", node="alpha", resources=Resources(memory="1 KiB", processes=0))
    assert (spec.resources.memory_bytes, Resources().memory_bytes, spec.node) == (1024, None, "alpha")
    assert (Resources(disk="16 MiB").disk_bytes, Resources().disk_bytes) == (16 * 2**20, None)
    choice("a", "letter", ("a", "b"))


# -- Health and quorum ------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(known=st.integers(0, 50), alive=st.integers(0, 50))
def test_two_parts_of_a_cluster_never_both_have_a_quorum(known, alive):
    assert not (has_quorum(min(alive, known), known) and has_quorum(known - min(alive, known), known))


@pytest.mark.parametrize(
    ("facts", "health", "says"),
    [
        ({"reachable": False, "memory": 1}, "critical", "cannot be reached"),
        ({"reachable": True}, "healthy", None),
        ({"reachable": True, "processes": 100_000, "memory": 2_000_000_000}, "healthy", None),
        ({"reachable": True, "suspected": True}, "warning", "silent for half of its lease"),
        ({"reachable": True, "processes": 100_001}, "warning", "100,001 processes"),
        ({"reachable": True, "memory": 2_000_000_001}, "warning", "2,000,000,001 bytes"),
        (
            {"reachable": True, "processes": 6, "thresholds": Thresholds(processes=5)},
            "warning",
            "more than 5",
        ),
    ],
)
def test_a_node_is_judged_against_its_thresholds(facts, health, says):
    verdict = node_health(**facts)
    assert verdict.health == health
    assert says is None or says in verdict.reasons[0]


@pytest.mark.parametrize(
    ("nodes", "failed", "health"),
    [
        ([], 0, "critical"),
        (["healthy"], 0, "healthy"),
        (["healthy"], 1, "degraded"),
        (["healthy", "warning"], 0, "degraded"),
        (["healthy", "healthy", "critical"], 0, "degraded"),
        (["healthy", "critical"], 0, "critical"),
    ],
)
def test_the_cluster_is_as_well_as_its_nodes_and_sandboxes(nodes, failed, health):
    assert cluster_health(nodes, failed) == health
