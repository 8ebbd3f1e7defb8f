"""``start``, ``stop``, ``status``, ``ls`` and ``history``: the local cluster from a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from superlearner.cli.output import json_option, print_json
from superlearner.core.history import Event
from superlearner.errors import ClusterNotFound
from superlearner.views import format as fmt

if TYPE_CHECKING:
    from superlearner.cluster.local import Connection

nodes_option = click.option(
    "--nodes", type=click.IntRange(min=1), default=3, show_default=True, help="How many nodes to start."
)


def found() -> Connection:
    """Return the running local cluster, or raise `ClusterNotFound`."""
    from superlearner.cluster.local import find_connection

    connection = find_connection()
    if connection is None:
        raise ClusterNotFound("No local cluster is running.")
    return connection


def described(connection: Connection) -> dict[str, Any]:
    """Return what a program wants to know of a running cluster."""
    return {
        "address": connection.plain_address,
        "pid": connection.pid,
        "path": connection.path,
        "dashboard": connection.dashboard,
        "nodes": list(connection.nodes),
    }


@click.command()
@nodes_option
@json_option
def start(nodes: int, *, as_json: bool) -> None:
    """Start the local cluster in the background and wait until it is ready.

    One that runs already is left as it is.
    """
    from superlearner.cluster.local import find_connection, start_daemon
    from superlearner.cluster.names import node_names

    running = find_connection()
    connection = running or start_daemon(node_names(nodes), detached=True)
    if as_json:
        print_json(described(connection) | {"started": running is None})
        return
    told = "The cluster is ready" if running is None else "A cluster runs already"
    click.echo(
        f"{told}: nodes {', '.join(connection.nodes)}; process {connection.pid}; {connection.plain_address}"
    )


@click.command()
@json_option
def stop(*, as_json: bool) -> None:
    """Stop the local cluster, with all its nodes and sandboxes, and wait until it is gone."""
    from superlearner.cluster.local import stop_daemon

    connection = found()
    stop_daemon(connection)
    if as_json:
        print_json(described(connection) | {"stopped": True})
        return
    click.echo(f"The cluster (process {connection.pid}) is stopped.")


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show the cluster and its nodes."""
    import superlearner as sl

    found()
    with sl.connect() as cluster:
        state, nodes, faults = cluster.status(), cluster.nodes(), cluster.chaos.faults()
    if as_json:
        print_json({"cluster": state, "nodes": nodes})
        return
    from superlearner.views.nodes import nodes as cards

    click.echo(cards(nodes, real=True, now=time.time(), status=state, faults=faults).text())


@click.command()
@json_option
def ls(*, as_json: bool) -> None:
    """List the sandboxes."""
    import superlearner as sl

    found()
    with sl.connect() as cluster:
        infos = cluster.sandboxes()
    if as_json:
        print_json(infos)
        return
    from superlearner.views.sandboxes import sandboxes

    click.echo(sandboxes(infos, real=True, now=time.time()).text())


@click.command()
@click.option("--sandbox", help="Only what happened to this sandbox.")
@click.option("--kind", help="Only events of this kind, such as process_exited.")
@click.option("--since", default=0, show_default=True, help="Only events after this number.")
@json_option
def history(sandbox: str | None, kind: str | None, since: int, *, as_json: bool) -> None:
    """Print the event log of the local cluster, oldest first; also when the cluster has ended."""
    from superlearner.cluster.journal import read_journal
    from superlearner.cluster.local import journal_path

    told = read_journal(journal_path(), sandbox=sandbox, since=since)
    events = [event for event in told if kind is None or event.kind == kind]
    if as_json:
        print_json([event.as_dict() for event in events])
        return
    click.echo(event_table(events) if events else "No such event yet.")


def event_table(events: list[Event]) -> str:
    """Lay out events, one a line.

    >>> print(event_table([Event("process_exited", seq=7, sandbox="shop", name="counter", reason="killed")]))
    #  time  what            node  sandbox  epoch  process  why
    7  –     process_exited  –     shop     –      counter  killed
    """
    header = ("#", "time", "what", "node", "sandbox", "epoch", "process", "why")
    return fmt.table(header, [tuple(map(_cell, _row(event))) for event in events])


def _row(event: Event) -> tuple[Any, ...]:
    time_of_day = fmt.clock(event.at) if event.at else None
    who = event.name or event.pid
    return (event.seq, time_of_day, event.kind, event.node, event.sandbox, event.epoch, who, event.reason)


def _cell(value: Any) -> str:
    return fmt.UNKNOWN if value is None else " ".join(str(value).split())
