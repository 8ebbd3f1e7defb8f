"""Placement: the freest, the hashed, the named one; and why not the others."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.loads import NodeLoad, Ranking
from superlearner.core.placement import peers_for, place
from superlearner.core.spec import Resources, SandboxSpec

names = st.lists(st.sampled_from([f"n{i}" for i in range(12)]), unique=True, min_size=1)
shares = st.floats(0, 1)


def spec(id="shop", **options):
    return SandboxSpec(id, **options)


def measured(name, memory, cpu=0.5, network=0.5, **more):
    return NodeLoad(name, memory_total=1000, memory_used=int(memory * 1000), cpu=cpu, network=network, **more)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(shares, shares, shares), min_size=1, max_size=6))
def test_least_loaded_picks_the_freest_by_its_weights(facts):
    loads = [measured(f"n{i}", *fact) for i, fact in enumerate(facts)]
    free = {
        load.node: 0.5 * (1 - load.memory_used / 1000) + 0.3 * (1 - load.cpu) + 0.2 * (1 - load.network)
        for load in loads
    }
    choice = place(spec(), Ranking(loads))
    assert free[choice.node] >= max(free.values()) - 1e-8
    totals = [round(row.total, 9) for row in choice.rows]  # what differs by less counts as equal
    assert totals == sorted(totals, reverse=True)
    assert [row.node for row in choice.rows if row.chosen] == [choice.node]
    for row in choice.rows:
        assert all(-1e-9 <= part <= 1 for part in (row.memory, row.cpu, row.network, row.total))


@settings(max_examples=60, deadline=None)
@given(nodes=names, data=st.data())
def test_removing_a_node_moves_only_its_own_sandboxes(nodes, data):
    gone = data.draw(st.sampled_from(nodes))
    left = [name for name in nodes if name != gone]
    for i in range(20):
        asked = spec(f"s{i}", placement="uniform")
        before = place(asked, Ranking(map(NodeLoad, nodes))).node
        after = place(asked, Ranking(map(NodeLoad, left))).node
        assert before in (after, gone)
        peers = peers_for(asked.id, None, nodes, 2)
        kept = [peer for peer in peers if peer != gone]
        assert list(peers_for(asked.id, None, left, 2))[: len(kept)] == kept


def loads_of_any_kind(node):
    return st.builds(
        NodeLoad,
        node=st.just(node),
        memory_total=st.sampled_from([None, 1000]),
        memory_used=st.sampled_from([None, 0, 400]),
        cpu=st.sampled_from([None, 0.0, 0.4, 1.0]),
        cpus=st.sampled_from([1.0, 2.0]),
        network=st.sampled_from([None, 0.4]),
        reserved_memory=st.sampled_from([0, 300, 900]),
        reserved_cpu=st.sampled_from([0.0, 0.5, 7.0]),
        sandboxes=st.integers(0, 2),
        suspected=st.sampled_from([False, False, True]),
        draining=st.sampled_from([False, False, True]),
        labels=st.sampled_from([{}, {"zone": "a"}]),
    )


@st.composite
def clusters(draw):
    """Draw loads, and the same loads again in a ranking that has seen others before."""
    nodes = [f"n{i}" for i in range(draw(st.integers(1, 8)))]
    ranking = Ranking(draw(loads_of_any_kind(node)) for node in nodes[: draw(st.integers(0, 8))])
    loads = {node: draw(loads_of_any_kind(node)) for node in draw(st.permutations(nodes))}
    for load in loads.values():
        ranking.put(load)
    for node in draw(st.sets(st.sampled_from(nodes), max_size=2)):
        ranking.remove(node)
        del loads[node]
    return list(loads.values()), ranking


def fits(asked, load, node, avoid, beside):
    """Say the rules again, in other words."""
    memory = asked.resources.memory_bytes
    room = load.memory_total is None or load.reserved_memory + (memory or 0) <= load.memory_total
    return (
        node in (None, load.node)
        and load.node not in {*avoid, *beside}
        and not (load.suspected or load.draining)
        and asked.node_selector.items() <= load.labels.items()
        and (room or not memory)
    )


@settings(max_examples=200, deadline=None)
@given(
    clusters(),
    st.sampled_from(["least_loaded", "uniform"]),
    st.sampled_from([None, 200]),
    st.sampled_from([{}, {"zone": "a"}]),
    st.sampled_from([None, None, "n0", "n9"]),
    st.sets(st.sampled_from(["n1", "n2"])),
    st.sets(st.sampled_from(["n2", "n3"])),
    st.integers(1, 4),
)
def test_a_choice_from_the_first_few_is_that_of_the_whole_table(
    cluster, placement, memory, selector, node, avoid, beside, among
):
    loads, ranking = cluster
    asked = spec(placement=placement, node_selector=selector, resources=Resources(memory=memory))
    options = {"node": node, "avoid": dict.fromkeys(avoid, "ill")}
    options["neighbour"] = dict.fromkeys(beside, "other").get
    table = place(asked, Ranking(loads), **options)
    quick = place(asked, ranking, among=among, **options)
    fit = {load.node: load for load in loads if fits(asked, load, node, avoid, beside)}
    rows = [row for row in table.rows if row.node in fit]
    assert quick.node == table.node == (rows[0].node if fit else None)
    assert quick.rows[: min(among, len(fit))] == table.rows[: min(among, len(fit))]
    assert sorted(row.node for row in table.rows) == sorted(load.node for load in loads)
    assert len(rows) == len(fit)
    keys = [(round(row.total, 9), -fit[row.node].sandboxes * (placement != "uniform")) for row in rows]
    assert keys == sorted(keys, reverse=True)
    if not fit and node is None:
        assert quick.refusals == table.refusals, "each node's reason is told"


def test_uniform_spreads_many_sandboxes():
    nodes = Ranking(NodeLoad(name) for name in ("alpha", "beta", "gamma"))
    counts = Counter(place(spec(f"s{i}", placement="uniform"), nodes).node for i in range(600))
    assert all(150 < counts[load.node] < 250 for load in nodes)


@pytest.mark.parametrize("seen", [True, False])
def test_a_hundred_created_at_once_spread_over_the_nodes(seen):
    loads = {name: NodeLoad(name, cpus=2.0) for name in ("alpha", "beta", "gamma")}
    if seen:
        loads = {name: measured(name, 0.3 + 0.02 * i, cpus=2.0) for i, name in enumerate(loads)}
    for i in range(100):
        asked = spec(f"s{i}")
        node = place(asked, Ranking(loads.values())).node
        loads[node] = loads[node].reserve(asked)
    assert all(25 <= load.sandboxes <= 45 for load in loads.values()), loads


def test_what_was_not_measured_counts_as_half_and_says_so():
    choice = place(spec(), Ranking([NodeLoad("alpha")]))
    (row,) = choice.rows
    assert (row.memory, row.cpu, row.network, row.total) == (0.5, 0.5, 0.5, 0.5)
    assert row.reason == "the freest; not measured, so counted as half: memory, cpu, network"


def test_a_node_whose_memory_is_reserved_is_refused_with_the_figures():
    asked = spec(resources=Resources(memory=600))
    full = NodeLoad("alpha", memory_total=1000).reserve(asked)
    choice = place(asked, Ranking([full, NodeLoad("beta")]))
    assert choice.node == "beta"
    assert choice.refusals == (("alpha", "it needs 600 bytes of memory and 400 of 1,000 are not reserved"),)
    assert place(asked, Ranking([full])).node is None


def test_a_limit_below_the_machines_memory_holds_after_a_measurement():
    asked = spec(resources=Resources(memory=600))
    load = NodeLoad("alpha", memory_limit=1000).measured(10, 50_000, None, None).reserve(asked)
    assert place(asked, Ranking([load])).node is None
    assert place(spec(), Ranking([load])).rows[0].memory == pytest.approx(0.4 - 10 / 50_000)


def test_only_the_named_node_will_do_and_what_is_avoided_will_not():
    loads = Ranking(map(NodeLoad, ("alpha", "beta", "gamma")))
    named = place(spec(), loads, node="beta")
    assert (named.node, named.rows[0].reason.split(";")[0]) == ("beta", "it was asked for")
    assert named.refusals[0] == ("alpha", "node 'beta' was asked for")
    avoided = place(spec(placement="uniform"), loads, avoid={"alpha": "ill", "beta": "ill"})
    assert (avoided.node, avoided.rows[0].reason) == ("gamma", "highest hash")
    assert place(spec(), loads, node="beta", avoid={"beta": "it runs there now"}).node is None


def test_a_reservation_is_given_back_whole():
    asked = spec(resources=Resources(memory=10, cpu=0.1))
    empty = NodeLoad("alpha", memory_total=1000)
    assert empty.reserve(asked).reserve(asked).release(asked, fresh=True).release(asked, fresh=True) == empty
    older = empty.reserve(asked).measured(20, None, 0.2, None).reserve(asked)
    assert (older.memory_total, older.fresh_memory, older.reserved_memory) == (1000, 10, 20)
    assert older.release(asked, fresh=False).fresh_memory == 10


def test_peers_are_other_nodes_as_many_as_wished_or_there_are():
    assert "alpha" not in peers_for("shop", "alpha", ["alpha", "beta", "gamma"], 2)
    assert len(peers_for("shop", "alpha", ["alpha", "beta", "gamma"], 9)) == 2
    assert peers_for("shop", "alpha", ["alpha", "beta"], 0) == ()
