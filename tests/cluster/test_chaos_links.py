"""Faults on a real cluster: what is cut off does not answer, the rest does, and healing brings everything back."""

from __future__ import annotations

import threading
import time

import dask
import psutil
import pytest
from apps import shop
from cluster_kit import awaiting, run
from distributed import Client

import superlearner as sl


@pytest.fixture(scope="module")
def cluster():
    """Its leases are long: here nodes are to be silent for a while without being given up."""
    with dask.config.set({"superlearner.lease": 60.0}), sl.Cluster(nodes=3) as running:
        yield running


@pytest.fixture(autouse=True)
def healed(cluster):
    yield
    cluster.chaos.heal()
    assert cluster.chaos.faults() == []


@pytest.fixture(scope="module")
def counters(cluster):
    """A counter on each node, by the node's name."""
    return {
        name: cluster.create_sandbox(f"on-{name}", shop(), node=name, checkpoint=sl.Checkpoint(every=None))
        for name in ("alpha", "beta", "gamma")
    }


def took(work) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def value(sandbox, timeout=10.0):
    return sandbox.call("counter", "value", timeout=timeout)


def increment(sandbox, timeout=10.0):
    return sandbox.call("counter", "increment", timeout=timeout)


def test_a_node_behind_a_partition_does_not_answer_until_it_is_healed(cluster, counters):
    before = increment(counters["alpha"])
    with cluster.chaos.partition([["alpha"], ["beta", "gamma"]]) as partition:
        with pytest.raises(sl.CallTimeout):
            increment(counters["alpha"], timeout=0.3)
        assert increment(counters["beta"]) == increment(counters["beta"]) - 1
        assert [fault.id for fault in cluster.chaos.faults()] == [partition.id]
        assert {node.status for node in cluster.nodes()} == {"up"}  # no connection has closed
    # The call that timed out was on its way: a timeout does not say that it did not happen.
    assert increment(counters["alpha"]) == before + 2


def test_a_cut_between_scheduler_and_node_leaves_the_way_of_calls_alone(cluster, counters):
    cluster.chaos.cut("scheduler", "alpha")
    assert increment(counters["alpha"]) > 0  # a client talks to a node directly
    cluster.chaos.cut("client", "alpha")
    with pytest.raises(sl.CallTimeout):
        value(counters["alpha"], timeout=0.2)
    assert len(cluster.chaos.heal()) == 2
    assert value(counters["alpha"]) > 0


def test_whoever_is_cut_off_from_the_scheduler_can_heal_that(cluster, counters):
    asked = []
    with cluster.chaos.cut("client", "scheduler") as cut:
        asking = threading.Thread(target=lambda: asked.append(cluster.status().total_nodes))
        asking.start()
        assert [fault.id for fault in cluster.chaos.faults()] == [cut.id]
        assert increment(counters["alpha"]) > 0
        assert asked == []
    asking.join()
    assert asked == [3]


def test_a_delay_is_as_long_as_it_says(cluster, counters):
    value(counters["alpha"])
    with cluster.chaos.delay("client", "alpha", 0.15):
        assert took(lambda: value(counters["alpha"])) >= 0.3  # there and back
        assert took(lambda: value(counters["beta"])) < 0.15
    assert took(lambda: value(counters["alpha"])) < 0.15


def test_a_flapping_link_lets_calls_pass_now_and_then(cluster, counters):
    with cluster.chaos.flap("client", "alpha", cut_for=0.2, open_for=0.2):
        assert max(took(lambda: value(counters["alpha"])) for _ in range(200)) > 0.05
    assert took(lambda: value(counters["alpha"])) < 0.15


def test_a_lost_message_breaks_the_connection_and_the_next_call_opens_another(cluster, counters):
    value(counters["alpha"])
    with (
        cluster.chaos.drop("client", "alpha", 1.0, one_way=True),
        pytest.raises((sl.NoConnection, sl.CallTimeout)),
    ):
        increment(counters["alpha"], timeout=0.5)
    assert value(counters["alpha"]) > 0


def test_a_paused_node_is_silent_and_goes_on_where_it_was(cluster, counters):
    before = value(counters["beta"])
    (pid,) = [node.pid for node in cluster.nodes() if node.name == "beta"]
    with cluster.chaos.pause_node("beta") as pause:
        assert pause.detail["pid"] == pid
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
        with pytest.raises(sl.CallTimeout):
            increment(counters["beta"], timeout=0.2)
        with pytest.raises(sl.InvalidSpec, match="paused already"):
            cluster.chaos.pause_node("beta")
        assert value(counters["gamma"]) >= 0
    assert value(counters["beta"]) == before + 1
    assert pause.revert() is False


def test_a_pause_ends_by_itself(cluster, counters):
    with awaiting(cluster, "fault_reverted") as reverted:
        pause = cluster.chaos.pause_node("beta", seconds=0.2)
        assert value(counters["beta"]) >= 0
        assert reverted().detail["id"] == pause.id
    assert cluster.chaos.faults() == []


def test_a_paused_sandbox_does_not_answer_and_its_neighbour_does(cluster, counters, fresh):
    neighbour = cluster.create_sandbox(fresh, shop(), node="gamma")
    with cluster.chaos.pause_sandbox("on-gamma"):
        with pytest.raises(sl.CallTimeout):
            value(counters["gamma"], timeout=0.2)
        assert value(neighbour) == 0
    assert value(counters["gamma"]) >= 0
    neighbour.stop()


def test_rules_made_while_a_node_is_frozen_hold_when_it_wakes(cluster, counters):
    value(counters["beta"])
    pause = cluster.chaos.pause_node("beta")
    cluster.chaos.cut("client", "beta")
    pause.revert()
    with pytest.raises(sl.CallTimeout):
        value(counters["beta"], timeout=0.2)


def test_a_fault_is_recorded_before_it_acts_and_so_is_its_end(cluster, counters):
    since = cluster.events()[-1].seq
    cut = cluster.chaos.cut("alpha", "beta", one_way=True)
    assert cut.revert() is True
    assert cut.revert() is False
    cluster.chaos.heal()
    told = [(event.kind, event.cause, event.detail.get("fault")) for event in cluster.events(since)]
    told = [line for line in told if line[0] in {"fault_injected", "fault_reverted", "healed"}]
    assert told[:2] == [("fault_injected", cut.id, "cut"), ("fault_reverted", cut.id, "cut")]
    assert told[2][0] == "healed"
    assert cut.detail["links"] == [["alpha", "beta"]]


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda chaos: chaos.cut("alpha", "delta"), sl.UnknownNode, "There are: alpha, beta, gamma, client"),
        (lambda chaos: chaos.pause_node("delta"), sl.UnknownNode, "alpha, beta, gamma"),
        (lambda chaos: chaos.pause_node("alpha", seconds=-1), sl.InvalidSpec, "seconds=-1"),
        (lambda chaos: chaos.pause_sandbox("nobody"), sl.NoSandbox, "nobody"),
        (lambda chaos: chaos.partition("alpha"), sl.UnknownNode, "'a'"),
        (lambda chaos: chaos.partition([["alpha", "beta", "gamma"]]), sl.InvalidSpec, "one side"),
        (lambda chaos: chaos.delay("alpha", "beta", -1), sl.InvalidSpec, "delay=-1"),
        (lambda chaos: chaos.run([(0, "melt", [])]), sl.InvalidSpec, "no fault 'melt'"),
        (lambda chaos: chaos.run([(0, "cut", ["alpha"])]), sl.InvalidSpec, "missing a required argument"),
        (lambda chaos: chaos.run(["cut"]), sl.InvalidSpec, "no step"),
    ],
)
def test_what_cannot_be_broken_is_refused_in_a_sentence(cluster, make, error, word):
    with pytest.raises(error, match=word):
        make(cluster.chaos)
    assert cluster.chaos.faults() == []


def test_a_schedule_runs_in_time_and_heals_at_its_end(cluster, counters):
    done = cluster.chaos.run(
        [(0.2, "delay", {"a": "any", "b": "client", "seconds": 0.01}), (0.0, "cut", ["alpha", "any"])], seed=3
    )
    assert [fault for _, fault, _ in done] == ["cut", "delay"]
    assert done[1][0] >= 0.2
    assert done[0][2]["b"] in {"beta", "gamma"}
    assert cluster.chaos.faults() == []
    again = cluster.chaos.run([(0.0, "cut", ["alpha", "any"])], seed=3)
    assert again[0][2] == done[0][2]


def test_a_dask_client_of_ones_own_works_over_the_same_address(cluster):
    assert cluster.address.startswith("tls://")
    assert cluster.status().address == cluster.address
    for address in (cluster.address, f"faulty+{cluster.address}"):
        with Client(address, security=cluster.security, set_as_default=False) as client:
            assert client.submit(lambda x: x + 1, 41).result() == 42


def test_whoever_connected_by_the_plain_address_can_heal_too(cluster):
    with (
        sl.connect(cluster.address, security=cluster.security) as other,
        cluster.chaos.cut("client", "scheduler"),
    ):
        assert len(other.chaos.heal()) == 1


def test_everything_can_be_awaited(cluster, counters):
    async def work():
        address, security = cluster.address, cluster.security
        async with sl.connect(address, security=security, asynchronous=True) as other:
            async with other.chaos.cut("client", "alpha") as cut:
                assert [fault.id for fault in await other.chaos.faults()] == [cut.id]
                with pytest.raises(sl.CallTimeout):
                    await other.call("on-alpha/counter", "value", timeout=0.2)
            fault = await other.chaos.delay("alpha", "beta", 0.1)
            assert await fault.revert() is True
            assert await other.chaos.run([(0, "pause_node", ["beta", 0.1])]) != []
            assert await other.chaos.heal() == []
            assert await other.call("on-alpha/counter", "value", timeout=5.0) >= 0

    run(work())


@pytest.mark.slow
def test_a_node_that_dies_behind_a_cut_is_missed_only_when_that_is_healed(cluster, counters):
    cluster.chaos.cut("scheduler", "gamma")
    with (
        awaiting(cluster, "node_lost", node="gamma") as lost,
        awaiting(cluster, "node_joined", node="gamma") as back,
    ):
        cluster.chaos.kill_node("gamma")
        assert {node.status for node in cluster.nodes()} == {"up"}
        cluster.chaos.heal()
        lost()
        back()
    assert value(counters["gamma"]) >= 0


@pytest.mark.slow
def test_a_frozen_node_can_be_killed(cluster, counters):
    cluster.chaos.pause_node("gamma")
    with awaiting(cluster, "node_joined", node="gamma") as back:
        cluster.chaos.kill_node("gamma")
        back()
    assert cluster.chaos.faults() == []


@pytest.mark.slow
def test_a_node_behind_a_partition_is_replaced_and_fenced_and_joins_again_when_it_is_healed():
    with dask.config.set({"superlearner.lease": 1.0}), sl.Cluster(nodes=3) as parted:
        sandbox = parted.create_sandbox("shop", shop(), node="alpha")
        assert increment(sandbox) == 1
        sandbox.checkpoint()
        with awaiting(parted, "node_joined", node="alpha") as joined:
            with parted.chaos.partition([["alpha"], ["beta", "gamma"]]):
                assert sandbox.call("counter", "value", timeout=20, idempotent=True) == 1
                assert sandbox.info().node in {"beta", "gamma"}
            joined()
        kinds = [
            event.kind
            for event in parted.events()
            if event.node == "alpha" and event.kind.startswith("node_")
        ]
        assert kinds[-4:] == ["node_suspected", "node_lost", "node_fenced", "node_joined"]
        assert increment(sandbox) == 2


@pytest.mark.slow
def test_a_node_that_lost_its_connection_to_the_scheduler_is_started_again(cluster, counters):
    (before,) = [node.pid for node in cluster.nodes() if node.name == "gamma"]
    with awaiting(cluster, "node_joined", timeout=60.0, node="gamma") as joined:
        with (
            awaiting(cluster, "node_lost", node="gamma") as lost,
            cluster.chaos.drop("scheduler", "gamma", 1.0),
        ):
            lost()
        joined()
    (after,) = [node.pid for node in cluster.nodes() if node.name == "gamma"]
    assert after != before
    assert value(counters["gamma"]) >= 0


@pytest.mark.slow
def test_a_cluster_can_be_closed_while_everything_is_broken():
    with sl.Cluster(nodes=["one", "two"]) as broken:
        pids = [node.pid for node in broken.nodes()]
        broken.chaos.cut("*", "*")
        broken.chaos.pause_node("one")
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_node_cannot_be_called_as_another_end_of_links_is(cluster):
    with pytest.raises(sl.InvalidSpec, match="another part of the cluster"):
        sl.Cluster(nodes=["client"])
    with pytest.raises(sl.InvalidSpec, match="another part of the cluster"):
        cluster.add_node("scheduler")
