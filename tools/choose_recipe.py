"""Choose a study's recipes without its test data: teacher and NDS, trained on a part of the training data.

    python tools/choose_recipe.py STUDY --profile real-small --seeds 2 \\
        --teacher '{epochs: 40}' '{epochs: 20, batch_size: 64}' --student '{}' '{epochs: 15}'

A candidate says what it changes of the study's teacher or student; {} is the recipe as it stands. Each is trained on a
random 80 % of the training images by the loop that trains studies, and judged on the other 20 %. No student has a
teacher here, and no test image is read: so neither the effect of distillation nor the temperature can have a say.
A seed draws both the 80 % and the weights. Seeds begin at 900, which no study has.

Each training adds a row to recipes/STUDY.csv beside the profile. cpu_seconds are of one core.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kdlib import data, store
from kdlib.catalogue import DATASETS
from kdlib.errors import KdlibError, unknown
from kdlib.studies import Run, Study, load_profile
from kdlib.training import loop
from kdlib.training.inference import forward_all
from kdlib.training.process import prepare_process, through
from kdlib.training.views import make_views

FIRST_SEED = 900
SETTINGS = (
    *("model", "augment", "epochs", "batch_size", "optimizer"),
    *("lr", "momentum", "weight_decay", "schedule", "warmup"),
)


def candidates(study: Study, role: str, changes: dict[str, Any], seeds: int) -> list[Run]:
    """The teachers, or the students without one, of the study with these changes. Raises InvalidInput for a new key."""
    part = "teacher" if role == "teacher" else "student"
    settings = getattr(study, part)
    for key in changes:
        if key not in settings:
            raise unknown("key", key, settings, place=f"a candidate for the {part}")
    changed = replace(study, first_seed=FIRST_SEED, seeds=seeds, fresh_teachers=0, **{part: settings | changes})
    return [run for run in changed.runs() if run.role == role and run.loss_scale == 1]


def cut(split: data.Split, seed: int) -> tuple[data.Split, data.Split]:
    """A random 80 % of the samples, and the other 20 %."""
    order = np.random.default_rng(seed).permutation(len(split.y))
    fifth = len(order) // 5
    return _rows(split, np.sort(order[fifth:])), _rows(split, np.sort(order[:fifth]))


def _rows(split: data.Split, at: np.ndarray) -> data.Split:
    return data.Split(split.ids[at], split.x[at], split.y[at], {}, split.class_names, vocabulary=split.vocabulary)


def judged(run: Run, code: Iterable[str]) -> dict[str, Any]:
    """A row of the table: the run's settings, its accuracy on what it was not trained on, and what it took.

    code: the files with networks of the profile's own.
    """
    train, held_out = cut(data.load(run.dataset, "train", **run.data), run.seed)
    views = make_views(train, augment=run.augment, pad=DATASETS[run.dataset].pad)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for source in code:
            store.save_code(Path(folder), source)
        where = {"runs_dir": Path(folder), "stop": lambda: False}
        steps = loop._fit(run, views, len(train.class_names), judge=None, seen={"train": train.data_sha256}, **where)
        state = through(steps)
    seconds = time.process_time() - started
    answers = forward_all(state.model, make_views(held_out, like=views), 0, precision=run.precision).argmax(dim=1)
    return {
        "role": run.role,
        "seed": run.seed,
        **{name: getattr(run, name) for name in SETTINGS},
        "train_images": len(train.y),
        "validation_images": len(held_out.y),
        "validation_accuracy": round(float(np.mean(answers.numpy() == held_out.y)), 4),
        "cpu_seconds": round(seconds),
    }


def add_row(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--teacher", nargs="*", default=[], type=yaml.safe_load, metavar="CHANGES")
    parser.add_argument("--student", nargs="*", default=[], type=yaml.safe_load, metavar="CHANGES")
    arguments = parser.parse_args(argv)
    prepare_process()
    try:
        profile = load_profile(arguments.profile)
        study = profile.study(arguments.study)
        for run in _all(study, arguments):
            row = judged(run, study.code.values())
            add_row(profile.path.parent / "recipes" / f"{study.name}.csv", row)
            print(*row.values(), flush=True)
    except KdlibError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _all(study: Study, arguments: argparse.Namespace) -> Iterator[Run]:
    for role, changes in (("teacher", arguments.teacher), ("nds", arguments.student)):
        for change in changes:
            yield from candidates(study, role, change, arguments.seeds)


if __name__ == "__main__":
    sys.exit(main())
