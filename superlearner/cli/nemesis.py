"""``nemesis``: real faults on a schedule while clients work; then everything is healed, awaited and checked."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from superlearner import config
from superlearner.cli.output import json_option, print_json
from superlearner.core.verdicts import median_and_worst, together
from superlearner.views import format as fmt

if TYPE_CHECKING:
    from superlearner.testing.trial import Trial

#: The exit code of a run that could not be judged.
UNKNOWN = 3


def _faults(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read names with commas between them."""
    from superlearner.testing.fault_schedule import FAULTS

    names = tuple(filter(None, (value or "").split(",")))
    for name in names:
        if name not in FAULTS:
            raise click.BadParameter(f"{name!r} is none of: {', '.join(FAULTS)}.")
    return names or FAULTS


@click.command()
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="How many seeds to play.")
@click.option("--seed", type=int, help="Play only this seed, and print its report.")
@click.option("--first", default=0, show_default=True, help="The first of the seeds.")
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(1.0, 3600.0),
    help="How long each seed breaks things.",
)
@click.option(
    "--faults", metavar="NAME,NAME,...", callback=_faults, help="Only these faults; all by default."
)
@json_option
def nemesis(
    *, seeds: int, seed: int | None, first: int, seconds: float, faults: tuple[str, ...], as_json: bool
) -> None:
    """Break a real local cluster by a seeded schedule while clients work, and check its promises.

    Each seed has a cluster of its own. Its schedule follows from the seed; how faults and calls meet does not,
    so a seed that broke a promise may keep it the next time: its history is written to a file.

    The exit code is 0 when every promise was kept, 1 when one was broken, and 3 when that is not known.
    """
    chosen = range(first, first + seeds) if seed is None else range(seed, seed + 1)
    trials: list[Trial] = []
    with click.progressbar(chosen, label="Breaking", file=sys.stderr) as row:
        for number in row:
            trials.append(trial := _play(number, seconds, faults))
            if trial.verdict is not True and not as_json:
                click.echo(f"\n{_told(trial, faults)}\n")
    if as_json:
        print_json(_summary(trials, faults))
    else:
        if seed is not None and trials[0].verdict:
            click.echo(str(trials[0]))
        click.echo(_sentence(trials))
    raise SystemExit({True: 0, False: 1, None: UNKNOWN}[_verdict(trials)])


def _play(seed: int, seconds: float, faults: tuple[str, ...]) -> Trial:
    from superlearner.testing.fault_schedule import FaultSchedule
    from superlearner.testing.nemesis import torment

    return asyncio.run(torment(FaultSchedule.generate(seed, seconds, faults)))


def _verdict(trials: list[Trial]) -> bool | None:
    return together(verdict for trial in trials for verdict in trial.verdicts)


def _command(trial: Trial, faults: tuple[str, ...]) -> str:
    from superlearner.testing.fault_schedule import FAULTS

    command = f"superlearner nemesis --seed {trial.schedule.seed} --seconds {trial.schedule.seconds:g}"
    return command if faults == FAULTS else f"{command} --faults {','.join(faults)}"


def _history(trial: Trial) -> Path:
    folder = config.state_dir() / "nemesis"
    folder.mkdir(mode=0o700, exist_ok=True)
    return trial.write(folder / f"seed-{trial.schedule.seed}.jsonl")


def _told(trial: Trial, faults: tuple[str, ...]) -> str:
    return f"{trial}\nHistory: {_history(trial)}\nRun it again: {_command(trial, faults)}"


def _figures(trials: list[Trial]) -> dict[str, Any]:
    from superlearner.core.verdicts import NOTHING_LOST, ONCE, ONE_OWNER

    broken = [verdict.promise for trial in trials for verdict in trial.verdicts if verdict.holds is False]
    typical, worst = median_and_worst(r.seconds for trial in trials for r in trial.recoveries)
    return {
        "seeds": len(trials),
        "operations": sum(len(trial.operations) for trial in trials),
        "answered": sum(trial.count("ok") for trial in trials),
        "unknown": sum(trial.count("unknown") for trial in trials),
        "faults": sum(done.refused is None for trial in trials for done in trial.done),
        "lost": broken.count(NOTHING_LOST),
        "two_owners": broken.count(ONE_OWNER),
        "doubled": broken.count(ONCE),
        "recovery_median": typical,
        "recovery_worst": worst,
    }


def _summary(trials: list[Trial], faults: tuple[str, ...]) -> dict[str, Any]:
    return {
        "verdict": _verdict(trials),
        **_figures(trials),
        "trials": [
            {
                "seed": trial.schedule.seed,
                "verdict": trial.verdict,
                "verdicts": trial.verdicts,
                "schedule": trial.schedule,
                "command": _command(trial, faults),
                "history": None if trial.verdict else _history(trial),
            }
            for trial in trials
        ],
    }


def _sentence(trials: list[Trial]) -> str:
    figures = _figures(trials)
    words = {
        True: "every promise was kept",
        False: "a promise was broken",
        None: "not everything could be judged",
    }
    typical, worst = figures["recovery_median"], figures["recovery_worst"]
    recovered = (
        "" if typical is None else f" Answers after a fault: {typical:.2f} s median, {worst:.2f} s worst."
    )
    return (
        f"{fmt.count(figures['seeds'], 'seed')}, {fmt.count(figures['faults'], 'fault')}, "
        f"{figures['operations']:,} operations (real): {words[_verdict(trials)]}. "
        f"Runs with lost writes: {figures['lost']}, with two owners: {figures['two_owners']}, "
        f"with doubled effects: {figures['doubled']}.{recovered}"
    )
