"""``demo --chaos``: a move under calls, a frozen node, a partition, a killed scheduler; then what clients were told.

The ledgers of two sandboxes are written to before, while and after each of these happens. Each answer that a client
got is recorded with its time and the OS process that gave it; at the end the ledgers have to agree with that. Every
figure is taken by this client's monotonic clock, from just before the fault until the first answer that shows its end.

The module is a little over the usual length because the story has ten steps.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import dask.config
import psutil

from superlearner.cli.cluster import event_table
from superlearner.cli.demo_record import disordered, doubled, lost, two_owners
from superlearner.cli.demo_tale import PATIENCE, Tale
from superlearner.cli.demo_watch import Watch, watching
from superlearner.cli.demo_writer import CALLERS, CALLS, Writer, callers
from superlearner.core.control_leases import surely_over
from superlearner.core.quorum import has_quorum
from superlearner.errors import NoQuorum, SuperlearnerError
from superlearner.views import format as fmt
from superlearner.views.story import story

if TYPE_CHECKING:
    from superlearner import Cluster, Fault

#: The lease, in seconds: a third shorter than the default, so that nobody waits for long.
LEASE = 2.0
SHOP, TILL = "shop", "till"


def perform(tale: Tale, nodes: int) -> None:
    """Go through all steps on a cluster of its own, which is gone at the end."""
    import superlearner as sl

    began = tale.begin(f"starting {nodes} nodes")
    with dask.config.set({"superlearner.lease": LEASE, "superlearner.partition": "quorum"}):
        with sl.Cluster(nodes=nodes) as cluster, watching(cluster, tale.tell) as watch:
            names = [node.name for node in cluster.nodes() if node.status == "up"]
            got = f"{', '.join(names)}; a lease is {LEASE:g} s, the policy is quorum"
            tale.verify(
                "the nodes are ready", began, f"{nodes} nodes up", got, ok=len(names) == nodes, figure="start"
            )
            try:
                act(tale, cluster, watch, names)
            finally:
                with suppress(SuperlearnerError):  # a cluster that was broken off may not answer
                    tale.events = list(cluster.events())
                    tale.story = story(cluster.story(SHOP), title=SHOP, real=True)
            family = psutil.Process().children(recursive=True)
            closing = time.monotonic()
        tale.nothing_left(family, closing)
    tale.figures["total"] = round(time.monotonic() - began, 4)


def act(tale: Tale, cluster: Cluster, watch: Watch, names: list[str]) -> None:
    """Make two ledgers, break everything in turn, and compare."""
    from superlearner.cli.demo_app import ledger

    shop = Writer(cluster.create_sandbox(SHOP, ledger(), node=names[0]))
    till = Writer(cluster.create_sandbox(TILL, ledger(), node=names[1]))
    move(tale, cluster, shop)
    freeze(tale, cluster, watch, shop)
    partition(tale, cluster, watch, shop, till)
    kill_scheduler(tale, cluster, shop, till)
    compare(tale, {SHOP: shop, TILL: till})


# -- A move under calls --------------------------------------------------------------------------------------


def move(tale: Tale, cluster: Cluster, shop: Writer) -> None:
    """Move the sandbox while several callers write without a rest."""
    began = tale.begin(f"{CALLERS} callers write to {SHOP} without a rest, and it moves")
    with callers(shop) as wait_for:
        wait_for(CALLERS * CALLS)
        asked = time.monotonic()
        moved = cluster.migrate_sandbox(SHOP)
        done = time.monotonic()
        wait_for(len(shop.record.answers) + CALLERS * CALLS)
    entries, _ = shop.read()
    answers = shop.record.answers
    longest = max(a.ended - a.began for a in answers if a.ended > asked and a.began < done)
    faults = {
        "failed": len(shop.record.failed),
        "lost": len(lost(shop.record.acknowledged, entries)),
        "doubled": len(doubled(entries)),
        "callers out of order": len(disordered(entries)),
    }
    got = (
        f"{moved.source} -> {moved.target}, {len(answers)} calls, {_told(faults)}; {fmt.size(moved.bytes)} of state, "
        f"the longest call took {fmt.seconds(longest)}"
    )
    ok = not any(faults.values()) and moved.source != moved.target and len(entries) == len(answers)
    tale.counts["calls_during_the_move_and_around_it"] = len(answers)
    expected = "every call answered once, in order"
    tale.verify("a sandbox moves under a stream of calls", began, expected, got, ok=ok, figure="move_step")
    tale.figures["move_pause"] = round(longest, 4)


# -- A frozen node -------------------------------------------------------------------------------------------


def freeze(tale: Tale, cluster: Cluster, watch: Watch, shop: Writer) -> None:
    """Freeze the sandbox's node: it is suspected, replaced when its lease is over, and fenced when it wakes."""
    stored, before, mark = shop.store(), shop.sandbox.info(), watch.mark()
    home, old = str(before.node), _process(before.pid)
    began = tale.begin(f"freezing {home}, which runs {SHOP}: it holds its lease for up to {LEASE:g} s")
    fault = cluster.chaos.pause_node(home)
    suspected = watch.wait(mark, "node_suspected", home)
    entries, answered = shop.first_other(old.pid)
    after = shop.sandbox.info()
    kept = not lost(shop.record.stored, entries)
    # The node asks for its lease four times within its length, so it may have been heard of a quarter before.
    early = answered - began < surely_over(LEASE) - LEASE / 4 - 0.1
    got = (
        f"suspected after {suspected.detail['silent']:.1f} s of silence; {after.node} answers with all {stored} "
        f"entries, epoch {after.epoch}; before: {home}, epoch {before.epoch}"
    )
    ok = kept and after.node != home and after.epoch > before.epoch and not early
    expected = f"every stored entry on another node, not before the lease of {LEASE:g} s is over"
    tale.verify(
        "a frozen node is replaced", began, expected, got, ok=ok, figure="frozen_replaced", ended=answered
    )
    wake(tale, watch, fault, old, home, before.epoch)


def wake(tale: Tale, watch: Watch, fault: Fault, old: psutil.Process, home: str, epoch: int) -> None:
    """Wake the node: what it still ran of the sandbox has ended, and it joins anew."""
    mark, began = watch.mark(), tale.begin(f"waking {home}")
    fault.revert()
    watch.wait(mark, "node_fenced", home)
    watch.wait(mark, "node_joined", home)
    gone = _ended(old)
    got = (
        f"{home} stopped everything by itself and joined anew; "
        f"OS process {old.pid} of epoch {epoch} has {_ends(gone)}"
    )
    tale.verify(
        "it is fenced when it wakes", began, "the old instance is gone", got, ok=gone, figure="fenced"
    )


# -- A partition ---------------------------------------------------------------------------------------------


def partition(tale: Tale, cluster: Cluster, watch: Watch, shop: Writer, till: Writer) -> None:
    """Cut the sandbox's node off; then one more, so that no majority is left; then heal."""
    minority = str(shop.sandbox.info().node)
    if till.sandbox.info().node == minority:
        cluster.migrate_sandbox(TILL)
    shop.store()
    till.store()
    before = shop.sandbox.info()
    old = _process(before.pid)
    others = [node.name for node in cluster.nodes() if node.name != minority]
    began = tale.begin(f"cutting {minority}, which runs {SHOP}, off from all others")
    cluster.chaos.partition([[minority], ["scheduler", *others]])
    goes_on = till.write()
    entries, answered = shop.first_other(old.pid)
    after = shop.sandbox.info()
    gone = _ended(old)
    took = fmt.seconds(goes_on.ended - goes_on.began)
    got = (
        f"{', '.join(others)} go on ({TILL} answers in {took}); {minority} has stopped {SHOP} by itself "
        f"(OS process {old.pid} has {_ends(gone)}), and {after.node} has all its entries"
    )
    ok = not lost(shop.record.stored, entries) and after.node in others and gone
    expected = "the majority goes on, the minority stops, nothing stored is lost"
    tale.verify(
        "a minority is cut off", began, expected, got, ok=ok, figure="minority_replaced", ended=answered
    )
    keep = str(till.sandbox.info().node)
    lose_majority(tale, cluster, watch, till, [name for name in others if name != keep])
    heal(tale, cluster, watch, minority)


def lose_majority(tale: Tale, cluster: Cluster, watch: Watch, till: Writer, spare: list[str]) -> None:
    """Cut off more nodes, until half are gone: nothing is decided then, and what holds its lease goes on."""
    from superlearner.cli.demo_app import ledger

    status = cluster.status()
    too_many = next(
        n for n in range(len(spare) + 1) if not has_quorum(status.reachable_nodes - n, status.total_nodes)
    )
    mark, began = watch.mark(), tale.begin(f"cutting {', '.join(spare[:too_many])} off as well")
    for name in spare[:too_many]:
        cluster.chaos.cut(name, "*")
    for name in spare[:too_many]:
        watch.wait(mark, ("node_suspected", "node_lost"), name)
    refused = ""
    try:
        cluster.create_sandbox("extra", ledger())
    except NoQuorum as error:
        refused = error.what()
    till.write()
    quorum = cluster.status().quorum
    made = [info.id for info in cluster.sandboxes() if info.id == "extra"]
    got = f"{refused or 'nothing was refused'} {TILL}, which holds its lease, answers"
    ok = bool(refused) and not made and not quorum
    expected = "NoQuorum for a new sandbox"
    tale.verify("without a majority nothing is decided", began, expected, got, ok=ok, figure="no_quorum_told")


def heal(tale: Tale, cluster: Cluster, watch: Watch, minority: str) -> None:
    """Heal everything: all nodes are back, and with them the quorum."""
    mark, began = watch.mark(), tale.begin("healing")
    ended = cluster.chaos.heal()
    watch.wait(mark, "node_joined", minority)
    while True:
        mark, status = watch.mark(), cluster.status()
        if status.reachable_nodes == status.total_nodes:
            break
        watch.wait(mark, ("node_joined", "node_recovered"))
    ok = status.quorum and not cluster.chaos.faults()
    got = f"{len(ended)} faults ended, {status.reachable_nodes} of {status.total_nodes} nodes reachable"
    tale.verify("it is healed", began, "all nodes back, no fault in force", got, ok=ok, figure="healed")


# -- A killed scheduler --------------------------------------------------------------------------------------


def kill_scheduler(tale: Tale, cluster: Cluster, shop: Writer, till: Writer) -> None:
    """Kill the scheduler, and with it every node: a new one brings everything back from disk."""
    for writer in (shop, till):
        writer.store()
    before = {writer: (writer.sandbox.info().epoch, writer.read()[1]) for writer in (shop, till)}
    began = tale.begin("killing the scheduler: all nodes die with it")
    cluster.chaos.kill_scheduler()
    missing = 0
    answered = began
    for writer, (_, os_pid) in before.items():
        entries, answered = writer.first_other(os_pid)
        missing += len(lost(writer.record.stored, entries))
    epochs = {writer.sandbox.id: (old, writer.sandbox.info().epoch) for writer, (old, _) in before.items()}
    raised = all(new > old for old, new in epochs.values())
    told = ", ".join(f"{id} epoch {old} -> {new}" for id, (old, new) in epochs.items())
    got = f"{told}; {missing} stored entries lost"
    expected = "both ledgers back with every stored entry, in higher epochs"
    tale.verify(
        "a killed scheduler is replaced, with everything",
        began,
        expected,
        got,
        ok=raised and not missing,
        figure="scheduler_back",
        ended=answered,
    )


# -- What clients were told ------------------------------------------------------------------------------------


def compare(tale: Tale, writers: dict[str, Writer]) -> None:
    """Compare what the ledgers hold with what their clients were told."""
    began = time.monotonic()
    for writer in writers.values():
        writer.write()  # it still answers
    found = {"acknowledged": 0, "stored": 0, "lost": 0, "doubled": 0, "out_of_order": 0, "two_owners": 0}
    for writer in writers.values():
        entries, _ = writer.read()
        found["acknowledged"] += len(writer.record.answers)
        found["stored"] += len(writer.record.stored)
        found["lost"] += len(lost(writer.record.stored, entries))
        found["doubled"] += len(doubled(entries))
        found["out_of_order"] += len(disordered(entries))
        found["two_owners"] += len(two_owners(writer.record.answers))
    tale.counts |= found
    wrong = {name: found[name] for name in ("lost", "doubled", "out_of_order", "two_owners")}
    got = f"{found['acknowledged']} writes acknowledged, {found['stored']} of them as stored; {_told(wrong)}"
    expected = "nothing that was stored is lost, nothing is there twice, and nobody else answered meanwhile"
    tale.verify(
        "what clients were told holds", began, expected, got, ok=not any(wrong.values()), figure="compare"
    )


# -- Helpers ---------------------------------------------------------------------------------------------------


def _process(pid: int | None) -> psutil.Process:
    assert pid is not None
    return psutil.Process(pid)


def _ended(process: psutil.Process) -> bool:
    """Wait for the end of a process that nobody here has started; tell whether it came."""
    with suppress(psutil.TimeoutExpired):
        process.wait(timeout=PATIENCE)
        return True
    return False


def _ends(gone: bool) -> str:
    return "ended" if gone else "not ended"


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())


def show(tale: Tale) -> None:
    """Print the story and the figures."""
    click.echo(f"\n{tale.story or event_table(tale.events)}")
    click.echo("\nMeasured by the client:")
    for name, meaning in FIGURES.items():
        click.echo(f"  {meaning:<58}{fmt.seconds(tale.figures.get(name)):>8}")


#: What each figure means.
FIGURES = {
    "move_pause": "the longest call during the move",
    "frozen_replaced": f"node frozen -> answered elsewhere (lease {LEASE:g} s)",
    "fenced": "node woken -> fenced and joined anew",
    "minority_replaced": f"node cut off -> answered elsewhere (lease {LEASE:g} s)",
    "no_quorum_told": "majority cut off -> NoQuorum told",
    "healed": "healed -> all nodes back",
    "scheduler_back": "scheduler killed -> both sandboxes answer with state",
    "total": "everything, from nothing to nothing left",
}
