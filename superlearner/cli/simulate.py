"""``simulate``: the control plane against seeded faults in virtual time; what breaks is shrunk and can be replayed."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from superlearner.cli.output import json_option, print_json
from superlearner.views import format as fmt

if TYPE_CHECKING:
    from superlearner.testing import Report, Schedule


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read numbers with commas between them."""
    try:
        return None if value is None else tuple(map(int, filter(None, value.split(","))))
    except ValueError:
        raise click.BadParameter(f"{value!r} must be numbers with commas between, such as 0,3,7.") from None


@click.command()
@click.option(
    "--seeds", default=100, show_default=True, type=click.IntRange(1), help="How many seeds to play."
)
@click.option("--seed", type=int, help="Play only this seed, and print its schedule.")
@click.option("--first", default=0, show_default=True, help="The first of the seeds.")
@click.option(
    "--steps", metavar="N,N,...", callback=_numbers, help="With --seed: only these steps of its schedule."
)
@click.option("--nodes", type=click.IntRange(1), help="How many nodes.  [default: 3 to 5, by the seed]")
@click.option(
    "--sandboxes", type=click.IntRange(1), help="How many sandboxes.  [default: 1 to 3, by the seed]"
)
@click.option("--trace", is_flag=True, help="With --seed: print what the control plane was told and said.")
@json_option
def simulate(
    *,
    seeds: int,
    seed: int | None,
    first: int,
    steps: tuple[int, ...] | None,
    nodes: int | None,
    sandboxes: int | None,
    trace: bool,
    as_json: bool,
) -> None:
    """Play the control plane in virtual time against seeded faults, and check its promises after every step.

    Nothing real is started. The exit code is 1 if a promise was broken; the seed is printed with the shortest
    schedule that still breaks it, and the command that replays it.
    """
    if seed is None and (steps is not None or trace):
        raise click.UsageError("--steps and --trace go with --seed.")
    size = Size(nodes, sandboxes)
    if seed is None:
        _play_many(range(first, first + seeds), size, as_json=as_json)
    else:
        _play_one(seed, size, steps, trace=trace, as_json=as_json)


class Size(NamedTuple):
    """How large the cluster is; None: as the seed says."""

    nodes: int | None
    sandboxes: int | None

    def __str__(self) -> str:
        return "".join(f" --{name} {number}" for name, number in self._asdict().items() if number is not None)


def _play_one(seed: int, size: Size, steps: tuple[int, ...] | None, *, trace: bool, as_json: bool) -> None:
    from superlearner.testing import Schedule
    from superlearner.testing import simulate as play

    schedule = Schedule.generate(seed, *size)
    if steps is not None:
        if not set(steps) <= set(range(len(schedule.steps))):
            raise click.UsageError(
                f"The steps of seed {seed} are numbered 0 to {len(schedule.steps) - 1}: --steps names others."
            )
        schedule = schedule.only(steps)
    report = play(schedule, trace=trace)
    if as_json:
        print_json(_as_json(report, size))
    else:
        for line in report.trace:
            click.echo(line)
        click.echo(str(report))
    raise SystemExit(0 if report.ok else 1)


def _play_many(seeds: range, size: Size, *, as_json: bool) -> None:
    from superlearner.testing import Schedule
    from superlearner.testing import simulate as play

    reports: list[Report] = []
    events: Counter[str] = Counter()
    steps = 0
    with click.progressbar(seeds, label="Playing", file=sys.stderr) as row:
        for seed in row:
            report = play(Schedule.generate(seed, *size))
            steps += report.steps
            events.update(report.events)
            if not report.ok:
                reports.append(report)
    failed = [_shrunk(report) for report in reports[:3]]
    if as_json:
        numbers = {"seeds": len(seeds), "steps": steps, "broken": [r.schedule.seed for r in reports]}
        print_json(
            {
                "ok": not reports,
                **numbers,
                "events": events,
                "shrunk": [_as_json(report, size) for report in failed],
            }
        )
    else:
        for report in failed:
            click.echo(f"{report}\nReplay: {_command(report.schedule, size)}\n")
        verdict = (
            "every promise was kept" if not reports else f"{fmt.count(len(reports), 'seed')} broke a promise"
        )
        click.echo(f"{fmt.count(len(seeds), 'seed')}, {steps:,} steps (simulated): {verdict}.")
        common = ", ".join(f"{count:,} {kind}" for kind, count in events.most_common(8))
        click.echo(f"Among what happened: {common}.")
    raise SystemExit(0 if not reports else 1)


def _shrunk(report: Report) -> Report:
    from superlearner.testing import shrink
    from superlearner.testing import simulate as play
    from superlearner.testing.schedule import MOST_SHOWN

    if len(report.schedule.steps) > MOST_SHOWN:
        return report  # each try would take long, and thousands would be needed
    click.echo(f"Seed {report.schedule.seed} broke a promise; looking for a shorter schedule ...", err=True)
    return play(shrink(report.schedule))


def _command(schedule: Schedule, size: Size) -> str:
    """Return the command that replays a part of a seed's schedule."""
    whole = type(schedule).generate(schedule.seed, *size).steps
    command = f"superlearner simulate --seed {schedule.seed}{size}"
    if schedule.steps == whole:
        return f"{command} --trace"
    return f"{command} --steps {','.join(str(whole.index(step)) for step in schedule.steps)} --trace"


def _as_json(report: Report, size: Size) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "seed": report.schedule.seed,
        "broken": report.broken,
        "what": report.what,
        "steps": report.steps,
        "schedule": report.schedule,
        "command": _command(report.schedule, size),
        "events": report.events,
        "outcomes": report.outcomes,
        "trace": report.trace,
    }
