"""The command `kdlib`: reproduce, train, audit, plan, init, status, fetch. An error is one line and exit status 2."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdlib import __version__, needs, places, store
from kdlib.errors import DataError, InvalidInput, KdlibError, UndefinedMetric
from kdlib.progress import tell
from kdlib.studies import Study, load_profile
from kdlib.training import sweep

MORE_TO_DO = 3  # exit status
POWER = """\
Power: of studies in which the change after "if" is really there, so many percent would show it (p <= 0.05), before
Holm's correction over studies and the claim's controls. These lines do not predict whether it is there."""
STATES = ("done", "released", "partial", "missing", "failed", "damaged")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. 0: all went well; 1: something failed, is damaged or not there; 2: wrong input; 3: not done.

    Only `train --budget` runs out of time: the same command goes on. `audit --fail-on`: 1 broken, 3 undecided.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us, as daemons are
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    arguments = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has the arrow of a title
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster that takes the machine back is a Ctrl-C
    try:
        status = arguments.function(arguments)
        sys.stdout.flush()
        return status
    except KdlibError as error:
        print(f"kdlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kdlib: interrupted; start the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at its exit
        return 0
    except OSError as error:  # the disk below stdout is full, the working folder is gone
        print(f"kdlib: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line, one sub-command each."""
    command = argparse.ArgumentParser("kdlib", description="What distillation changes for classes, groups and people.")
    command.add_argument("--version", action="version", version=__version__)
    commands = command.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    profiles = "quick, real-small, confirm, trifeature, ablations, worlds, paper, or a YAML file (default: quick)"
    common.add_argument("--profile", default="quick", help=profiles)
    common.add_argument("--runs-dir", default="", help="where runs are kept (default: runs/)")
    working = argparse.ArgumentParser(add_help=False)
    add = working.add_argument
    add("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add("--engine", default="local", help="local: processes on this machine; ray: Ray, see docs/cluster.md")
    add("--workers", type=int, help="runs at a time (default: one a core; on a GPU 16 small networks, or one)")
    add("--allow-code", action="store_true", help="run the file of `model: FILE.py:FUNCTION`")
    add("--retry-failed", action="store_true", help="also train runs again that failed before")

    add = _command(commands, _reproduce, "train what is missing, run the notebooks", common, working)
    add("artefacts", nargs="*", metavar="ARTEFACT", help="such as fig3 (default: all of the profile)")
    add("--no-train", action="store_true", help="show what is trained, name the command for the rest")
    add("--out-dir", default="", help="where figures go (default: figures/<profile>/)")

    add = _command(commands, _train, "train studies; start again to go on", common, working)
    add("studies", nargs="*", metavar="STUDY", help="default: all of the profile, in its order")
    add("--budget", metavar="TIME", help="stop cleanly after this time, with exit status 3: 90s, 9m, 1.5h")

    add = _command(commands, _audit, "what changes from one model to others, from their predictions alone")
    add("files", nargs="*", metavar="FILE", help="CSV or parquet: sample_id, model, seed, y_true, y_pred")
    add("--columns", default="", metavar="OURS=YOURS,...", help="other names, such as y_true=label")
    add("--classes", default="", metavar="A,B,...", help="their order; of two the second is the positive")
    add("--lm-eval", default="", metavar="FOLDER", help="sample logs of lm-evaluation-harness, not files")
    add("--sensitive", nargs="+", action="extend", default=[], metavar="COLUMN", help="groups to compare")
    add("--missing", choices=("error", "group", "drop"), default="error", help="samples without a group")
    add("--baseline", metavar="MODEL", help="what the others are compared with (default: nds)")
    add("--metric", nargs="+", action="extend", default=[], help="further metrics of fairlearn by group")
    add("--margin", type=float, default=0.03, help="change of a class that still is equivalent (0.03)")
    add("--fail-on", action="append", default=[], metavar="LIMIT", help='such as "eod>0.05": exit status 1')
    add("--undecided", choices=("fail", "pass"), default="fail", help="exit status 3 (fail), or 0 (pass)")
    add("--out", default="report.html", metavar="FILE", help="the page (default: report.html)")

    add = _command(commands, _plan, "what a study can decide, with which power, at what cost", common)
    add("study", metavar="STUDY|FILE", help="a study of --profile, or a YAML file: all of its studies")

    add = _command(commands, _status, "what is trained, missing, failed or damaged", common)
    add("--verify", action="store_true", help="read every run and compare its sha256")

    add = _command(commands, _fetch, "download or check a data set; says what you have to put where by hand")
    add("dataset", metavar="DATASET")
    add("--root", default="", help="folder with one folder a data set (default: $KDLIB_DATA, else data/)")

    add = _command(commands, _init, "write a commented profile for your own images, to be changed as you like")
    add("file", metavar="FILE", help="the profile, such as my.yaml")
    add("data", nargs="?", default="", metavar="DATA", help="folder in the data folder (default: the only)")

    add = _command(commands, _release, "for maintainers: write figures/<profile>/predictions/", common)
    add("studies", nargs="*", metavar="STUDY", help="default: every study of an artefact that is trained")
    return command


def _command(commands: Any, function: Callable[..., int], told: str, *parents: argparse.ArgumentParser) -> Callable:
    """Add the command that a function `_name` carries out, with the options of parents; returns what adds its own."""
    one = commands.add_parser(function.__name__.removeprefix("_"), parents=parents, help=told)
    one.set_defaults(function=function)
    return one.add_argument


def _fetch(arguments: argparse.Namespace) -> int:
    from kdlib.data import fetch

    ready = fetch.fetch(arguments.dataset, root=arguments.root, say=lambda line: print(line, flush=True))
    return int(not ready)


def _init(arguments: argparse.Namespace) -> int:
    from kdlib.data import own_profile

    path = own_profile.write(arguments.file, arguments.data)
    print(f"{path} is written: read it, change what you like, then {places.command('train', '--profile', str(path))}")
    return 0


def _release(arguments: argparse.Namespace) -> int:
    from kdlib.measure import fidelity, gradient_norms, individual_runs
    from kdlib.predictions import collect, released

    profile, runs_dir = load_profile(arguments.profile), places.runs_dir(arguments.runs_dir)
    folder = places.released_dir(profile.name)
    shown = {name for names in profile.artefacts.values() for name in names}  # pilots are in no artefact
    for name in arguments.studies or [name for name in profile.studies if name in shown]:
        study = profile.study(name)
        if not arguments.studies and any(store.state(runs_dir, run) != "done" for run in study.runs()):
            continue
        found = collect.collect(study, runs_dir=runs_dir)
        try:
            others = individual_runs.scalars(found)
        except (InvalidInput, UndefinedMetric) as error:
            others = {}
            print(f"{study.name} is released without individual fairness: {error}")
        noted = gradient_norms.scalars(found)
        scalars = {run: known | noted[run] | others.get(run, {}) for run, known in fidelity.scalars(found).items()}
        path = released.write(study, runs_dir=runs_dir, folder=folder, scalars=scalars)
        print(f"{path}: {len(found.runs)} runs, {path.stat().st_size / 2**20:.2f} MiB")
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from kdlib import reproduce

    outcomes = reproduce.reproduce(
        arguments.artefacts,
        profile=arguments.profile,
        out_dir=arguments.out_dir,
        train=False if arguments.no_train else None,
        say=tell,
        **_training(arguments),
    )
    out_dir = places.figures_dir(load_profile(arguments.profile).name, arguments.out_dir)
    reproduce.write_summary(outcomes, out_dir / "summary.json")
    print(f"\n{reproduce.summary(outcomes)}")
    if any("claims.csv" in outcome.outputs for outcome in outcomes):
        print(f"\n{reproduce.claims(out_dir / 'claims.csv')}")
    return int(any(outcome.failed for outcome in outcomes))


def _training(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `sweep.train` is told of where and how."""
    names = ("runs_dir", "device", "engine", "workers", "retry_failed", "allow_code")
    return {name: getattr(arguments, name) for name in names}


def _train(arguments: argparse.Namespace) -> int:
    """One study after the other, so that those first in the profile are complete first.

    Ray gets all of them at once: nodes with nothing left to do in the first go on with the next.
    """
    profile, budget = load_profile(arguments.profile), minutes(arguments.budget)
    started, complete = time.monotonic(), True
    studies = [profile.study(name) for name in arguments.studies or profile.studies]
    shown = [name for name, of in profile.artefacts.items() if {*of} & {study.name for study in studies}]
    if lacking := {name: lines[0] for name in shown if (lines := needs.lacking(name, profile))}:
        print(f"Not enough for {', '.join(lacking)}. {next(iter(lacking.values()))}", flush=True)
    for group in [studies] if arguments.engine == "ray" else [[study] for study in studies]:
        name = group[0].name if len(group) == 1 else f"{len(group)} studies"
        left = None if budget is None else budget - (time.monotonic() - started) / 60
        if left is not None and left <= 0:
            print(f"{name}: no time left, start again to go on")
            return MORE_TO_DO
        try:
            progress = sweep.train(group, budget_minutes=left, **_training(arguments))
        except DataError as error:
            print(f"{name}: {'not run' if len(group) == 1 else 'not all run'}: {error}", flush=True)
            complete = False
            continue
        print(f"{name}: {progress} ({progress.trained} trained now in {progress.seconds:.0f} s)", flush=True)
        if progress.stopped:
            return MORE_TO_DO
        complete &= progress.complete
    return int(not complete)


def _audit(arguments: argparse.Namespace) -> int:
    from kdlib.auditing import audit, beside, gate

    kept = {path.resolve() for path in beside(Path(arguments.out))}
    if own := [name for name in arguments.files if Path(name).resolve() in kept]:
        raise InvalidInput(f"{own[0]} would be replaced by a table of {arguments.out}: give --out another name.")
    if bool(arguments.files) == bool(arguments.lm_eval):
        raise InvalidInput("name either files with predictions, or a folder of sample logs with --lm-eval.")
    if arguments.lm_eval:
        from kdlib.predictions.lm_eval import read_lm_eval

        fields = [name for name in arguments.sensitive if name != "task"]  # the task always is a group
        predictions = read_lm_eval(arguments.lm_eval, group=fields)
    else:
        from kdlib.predictions.user_table import parse_columns, read_table

        classes = arguments.classes.split(",") if arguments.classes else None
        predictions = read_table(arguments.files, columns=parse_columns(arguments.columns), classes=classes)
    report = audit(
        predictions,
        sensitive=arguments.sensitive,
        missing=arguments.missing,
        baseline=arguments.baseline,
        metrics=arguments.metric,
        margin=arguments.margin,
        fail_on=arguments.fail_on,
        out=arguments.out,
    )
    limits = report.tables.get("limits")
    print(f"{report}\n{arguments.out}")
    if limits is None:
        return 0
    print("\n".join(gate.told(limits)))
    return gate.status(limits, undecided_passes=arguments.undecided == "pass")


def _plan(arguments: argparse.Namespace) -> int:
    from kdlib import planning

    of_file = arguments.study.endswith((".yaml", ".yml"))
    profile, runs_dir = load_profile(arguments.study if of_file else arguments.profile), arguments.runs_dir
    print(POWER)
    for study in profile.studies.values() if of_file else [profile.study(arguments.study)]:
        print(f"\n{study.name}: {study.title}; {planning.design(study)}")
        for row in planning.plan(study, among=[*profile.studies.values()]).itertuples():
            print(f"  claim {row.claim}: {row.told}")
        told = planning.cost(study, runs_dir=places.runs_dir(runs_dir))
        print(f"  cost: {told}", flush=True)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    profile = load_profile(arguments.profile)
    lines = [_study_status(study, arguments) for study in profile.studies.values()]
    width = max(len(study) for study in profile.studies)
    for study, (text, _) in zip(profile.studies, lines, strict=True):
        print(f"{study:{width}}  {text}")
    return int(any(bad for _, bad in lines))


def _study_status(study: Study, arguments: argparse.Namespace) -> tuple[str, bool]:
    """One line on a study, and whether anything in it is wrong."""
    from kdlib import data
    from kdlib.predictions import released

    if study.simulated:
        return "simulated: its predictions are drawn, there is nothing to train", False
    folder = places.runs_dir(arguments.runs_dir)
    states, wrong, collapsed = sweep.states_of(study.runs(), folder, verify=arguments.verify)
    if study.dataset == "own":
        try:
            data.load("own", "test", **study.data)
        except (DataError, InvalidInput) as error:
            wrong["data"] = str(error)
    there = released.ids(places.released_dir(study.profile), study)
    counts = Counter("released" if s in ("missing", "partial") and run.id in there else s for run, s in states.items())
    shown = [name for name in STATES if counts[name] or (name == "damaged" and arguments.verify)]
    lines = [f"{len(states)} runs: {', '.join(f'{counts[name]} {name}' for name in shown)}"]
    lines += [f"{run}: {reason}" for run, reason in wrong.items()]
    lines += [f"collapsed: {run} {reason}" for run, reason in collapsed.items()]
    return "\n    ".join(lines), bool(wrong)


def minutes(text: str | None) -> float | None:
    """'90s', '9m', '1.5h' or '9' (minutes) in minutes, above 0. Raises InvalidInput for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise InvalidInput(f"--budget {text!r} is no time; write 90s, 9m or 1.5h.")
    return float(match[1]) * {"s": 1 / 60, "m": 1, "": 1, "h": 60}[match[2]]
