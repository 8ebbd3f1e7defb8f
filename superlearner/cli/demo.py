"""``demo``: three nodes, a sandbox, three kills; every step is verified, every figure is measured.

Each recovery is timed by the client, from the kill to the first correct answer. The answer itself carries the
proof of who gave it: the value, the pid of the process and the pid of the OS process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import psutil

from superlearner.cli.cluster import event_table
from superlearner.cli.demo_tale import PATIENCE, Tale
from superlearner.cli.output import json_option
from superlearner.cli.signals import stops_cleanly
from superlearner.errors import SuperlearnerError
from superlearner.views import format as fmt
from superlearner.views.story import story

if TYPE_CHECKING:
    from superlearner import Cluster, Sandbox

SANDBOX = "shop"


def first_answer(sandbox: Sandbox, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask the counter for its report until it is a wanted one; return that, or the last one when patience ends.

    Asking is safe to repeat: a report changes nothing.
    """
    deadline = time.monotonic() + PATIENCE
    last: dict[str, Any] = {}
    while (left := deadline - time.monotonic()) > 0:
        try:
            last = sandbox.call("counter", "report", timeout=left)
        except SuperlearnerError as error:
            last = {"error": str(error)}
        if "error" not in last and wanted(last):
            return last
        # The answer of the one that dies right now comes without delay: leave it a moment to be gone.
        threading.Event().wait(0.002)
    return last


def perform(tale: Tale, nodes: int) -> None:
    """Go through all steps on a cluster of its own, which is gone at the end."""
    import superlearner as sl

    began = time.monotonic()
    with sl.Cluster(nodes=nodes) as cluster:
        names = [node.name for node in cluster.nodes() if node.status == "up"]
        tale.verify(
            "the nodes are ready",
            began,
            f"{nodes} nodes up",
            ", ".join(names),
            ok=len(names) == nodes,
            figure="start",
        )
        try:
            sandbox = create(tale, cluster)
            kill_process(tale, sandbox)
            count_and_checkpoint(tale, sandbox)
            kill_os_process(tale, sandbox)
            kill_node(tale, cluster, sandbox)
        finally:
            tale.events = list(cluster.events(sandbox=SANDBOX))
            tale.story = story(cluster.story(SANDBOX), title=SANDBOX, real=True)
        family = psutil.Process().children(recursive=True)
        closing = time.monotonic()
    tale.nothing_left(family, closing)


def create(tale: Tale, cluster: Cluster) -> Sandbox:
    """Create the sandbox and call both of its processes."""
    from superlearner.cli.demo_app import application

    began = time.monotonic()
    sandbox = cluster.create_sandbox(SANDBOX, application())
    greeting = sandbox.call("greeter", "world")
    value = [sandbox.call("counter", "increment") for _ in range(3)][-1]
    got = f"{greeting!r}, the counter stands at {value} on node {sandbox.info().node}"
    tale.verify(
        "the sandbox answers",
        began,
        "'hello world', 3",
        got,
        ok=(greeting, value) == ("hello world", 3),
        figure="create",
    )
    return sandbox


def kill_process(tale: Tale, sandbox: Sandbox) -> None:
    """Kill the counter alone: its supervisor starts a fresh one, as in OTP."""
    before = sandbox.call("counter", "report")
    began = time.monotonic()
    sandbox.kill("counter")
    after = first_answer(sandbox, lambda report: report["pid"] != before["pid"])
    ok = (
        after.get("value") == 0
        and after.get("pid") not in {None, before["pid"]}
        and after.get("os_pid") == before["os_pid"]
    )
    expected = f"the value 0 from a new process in OS process {before['os_pid']}"
    tale.verify(
        "a killed process is restarted by its supervisor",
        began,
        expected,
        f"{told(after)}; before: {told(before)}",
        ok=ok,
        figure="process_restart",
    )


def count_and_checkpoint(tale: Tale, sandbox: Sandbox) -> None:
    """Count up, and copy the state to the other nodes."""
    began = time.monotonic()
    value = [sandbox.call("counter", "increment") for _ in range(5)][-1]
    sandbox.checkpoint()
    kept = sandbox.info().checkpoint
    holders = kept.nodes if kept else ()
    got = f"the counter stands at {value}, copies on {', '.join(holders) or 'no node'}"
    ok = value == 5 and len(set(holders)) >= 2
    tale.verify(
        "a checkpoint is taken", began, "5, copies on 2 nodes or more", got, ok=ok, figure="checkpoint"
    )


def kill_os_process(tale: Tale, sandbox: Sandbox) -> None:
    """Kill the sandbox's OS process: its instance restarts it from the checkpoint."""
    before = sandbox.call("counter", "report")
    began = time.monotonic()
    os.kill(before["os_pid"], signal.SIGKILL)
    after = first_answer(sandbox, lambda report: report["os_pid"] != before["os_pid"])
    ok = after.get("value") == 5 and after.get("os_pid") not in {None, before["os_pid"]}
    tale.verify(
        "a killed OS process comes back with its state",
        began,
        "the value 5 from a new OS process",
        f"{told(after)}; before: {told(before)}",
        ok=ok,
        figure="os_process_restart",
    )


def kill_node(tale: Tale, cluster: Cluster, sandbox: Sandbox) -> None:
    """Kill the node that the sandbox runs on: another one takes over, with the state."""
    before, report = sandbox.info(), sandbox.call("counter", "report")
    pid = next(node.pid for node in cluster.nodes() if node.name == before.node)
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    after = first_answer(sandbox, lambda fresh: fresh["os_pid"] != report["os_pid"])
    answered = time.monotonic()
    now = sandbox.info()
    ok = after.get("value") == 5 and now.node != before.node and now.epoch > before.epoch
    got = f"{told(after)} on node {now.node}, epoch {now.epoch}; before: node {before.node}, epoch {before.epoch}"
    # The look at the registry comes after the answer and is no part of the recovery.
    tale.verify(
        "another node takes over from a killed one",
        began,
        "the value 5 on another node in a higher epoch",
        got,
        ok=ok,
        figure="node_failover",
        ended=answered,
    )


def told(report: dict[str, Any]) -> str:
    """Say who answered what.

    >>> told({"value": 5, "pid": "<alpha.shop.7>", "os_pid": 42})
    'value 5 from <alpha.shop.7> in OS process 42'
    """
    if "error" in report or not report:
        return f"no answer ({report.get('error', 'nothing')})"
    return f"value {report['value']} from {report['pid']} in OS process {report['os_pid']}"


@click.command()
@click.option(
    "--nodes", type=click.IntRange(min=3), default=3, show_default=True, help="How many nodes to start."
)
@click.option(
    "--chaos",
    is_flag=True,
    help="Move, freeze, cut off, and kill the scheduler instead, on three nodes; then check what clients were told.",
)
@json_option
def demo(nodes: int, *, chaos: bool, as_json: bool) -> None:
    """Start three nodes and a sandbox, kill a process, the OS process and the node: the state is back.

    Nothing that it starts outlives it. The exit code is 0 only if every step was verified.
    """
    from superlearner.cli import demo_chaos

    tale = Tale(tell=(lambda line: click.echo(line, err=True)) if as_json else click.echo)
    failure: SuperlearnerError | None = None
    with stops_cleanly():
        try:
            if chaos:
                demo_chaos.perform(tale, nodes)
            else:
                perform(tale, nodes)
        except SuperlearnerError as error:
            failure = error
    if as_json:
        tale.show_json(failure)
    elif chaos:
        demo_chaos.show(tale)
    else:
        show(tale)
    if failure is not None:
        raise failure


def show(tale: Tale) -> None:
    """Print the story and the figures."""
    click.echo(f"\n{tale.story or event_table(tale.events)}")
    click.echo("\nMeasured by the client, from the kill to the first correct answer:")
    for name in ("process_restart", "os_process_restart", "node_failover"):
        click.echo(f"  {name.replace('_', ' '):<20}{fmt.seconds(tale.figures.get(name))}")
