"""What the paper reports, which studies are the paper's own, and its numbers beside ours where both mean the same.

`reported.csv` holds every number of the paper's tables and those read off its vector figures, one value a row, in the
paper's units (percent, classes, ratio). Stand-ins are never set beside the paper. No torch.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlib.catalogue import DATASETS, MODELS
from kdlib.errors import InvalidInput, unknown
from kdlib.studies import Study

REPORTED = Path(__file__).with_name("reported.csv")
KEYS = ["model", "temperature", "metric"]
SEEDS = 5

# Section 4 and appendix C of the paper. What it does not state (momentum, T^2, precision, size of the crop) is no
# reason to call a study a stand-in.
SGD = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.001, "epochs": 100, "warmup": 0.0, "init": "scratch",
       "schedule": {"name": "step", "milestones": [0.3, 0.6, 0.9], "gamma": 0.1}}
# Not stated in the paper; the setting that the data set's own paper gives (Mathew et al. 2021).
FINE_TUNED = {"optimizer": "adamw", "lr": 5e-5, "epochs": 20, "init": "pretrained"}
RECIPES = {"bert_base": FINE_TUNED, "distilbert": FINE_TUNED, "vit_base": None, "tinyvit": None}
BATCH_SIZES = {"svhn": 128, "cifar10": 128, "cifar100": 128, "tiny_imagenet": 512, "imagenet": 512, "celeba": 256,
               "trifeature": 64, "hatexplain": 16}
# Options of the data that the paper leaves open; its numbers bound the size of Trifeature from below.
LEFT_OPEN = ("label", "targets", "seed", "per_combination", "test_images")
LEAST = {"per_combination": 10, "test_images": 4000}


def reported(artefact: str) -> pd.DataFrame:
    """The paper's numbers for 'table06', 'fig4b', ...: one value a row, as in reported.csv.

    artefact, dataset, label, sensitive, teacher, student, alpha, model, temperature, metric, mean, std, unit
    ('percent', 'classes' or 'ratio'), source ('final', 'arxiv_v1' or 'figure': the text that the value is from).
    Numbers stay in their unit; NaN where the paper gives none. Raises InvalidInput for an artefact without numbers.
    """
    table = _all()
    names = table["artefact"].str.split("+")
    if artefact not in set(names.explode()):
        raise unknown("artefact", artefact, names.explode().unique(), place="the paper's numbers")
    return table[[artefact in parts for parts in names]].reset_index(drop=True)


@lru_cache(maxsize=1)
def _all() -> pd.DataFrame:
    return pd.read_csv(REPORTED)


def stand_in_reasons(study: Study) -> list[str]:
    """Why a study is not the paper's own, in short phrases; empty if nothing that the paper states is different."""
    if not DATASETS[study.dataset].in_paper:
        return [f"data set {study.dataset} is not in the paper", *_seeds(study)]
    return [*_pair(study), *_data(study), *_augment(study), *_training(study), *_seeds(study)]


def _seeds(study: Study) -> list[str]:
    return [f"{study.seeds} seeds instead of {SEEDS}"] if study.seeds < SEEDS else []


def _of_study(study: Study) -> pd.DataFrame:
    """The rows of reported.csv with the study's data set and label."""
    table = _all()[_all()["dataset"] == study.dataset]
    return table[table["label"] == study.data["label"]] if "label" in study.data else table


def _pair(study: Study) -> list[str]:
    rows = _of_study(study)
    if rows.empty:
        return [f"label {study.data.get('label')} of {study.dataset} is not in the paper"]
    teacher, student = study.teacher["model"], study.student["model"]
    same = rows[(rows["teacher"] == teacher) & (rows["student"] == student)]
    if same.empty:
        pairs = rows[["teacher", "student"]].drop_duplicates().itertuples(index=False)
        return [f"{_titled(teacher, student)} instead of {' or '.join(_titled(*pair) for pair in pairs)}"]
    alphas = sorted(set(same["alpha"]))
    return [] if study.alpha in alphas else [_instead("alpha", study.alpha, " or ".join(map(_shown, alphas)))]


def _titled(teacher: str, student: str) -> str:
    return f"{MODELS[teacher].title} → {MODELS[student].title}"


def _data(study: Study) -> list[str]:
    usual = DATASETS[study.dataset].options
    reasons = [_instead(key, value, usual[key]) for key, value in study.data.items()
               if key not in LEFT_OPEN and value != usual[key]]
    return reasons + [f"{key.replace('_', ' ')} {study.data[key]}, the paper's numbers need {least} or more"
                      for key, least in LEAST.items() if study.data.get(key, least) < least]


def _augment(study: Study) -> list[str]:
    wanted = () if study.dataset == "hatexplain" else ("crop", "flip")
    return [f"no random {name}" for name in wanted if not study.augment.get(name)]


def _training(study: Study) -> list[str]:
    """Differences from the paper's recipe; those that teacher and student share are said once."""
    parts = {role: _recipe_reasons(study.dataset, getattr(study, role)) for role in ("teacher", "student")}
    shared = [reason for reason in parts["teacher"] if reason in parts["student"]]
    own = [f"{role}: {reason}" for role, reasons in parts.items() for reason in reasons if reason not in shared]
    return shared + own


def _recipe_reasons(dataset: str, part: dict[str, Any]) -> list[str]:
    recipe = RECIPES.get(part["model"], SGD)
    if recipe is None:
        return [f"the recipe of {MODELS[part['model']].title}'s own paper is not checked"]
    wanted = {**recipe, "batch_size": BATCH_SIZES[dataset]}
    return [_difference(key, part[key], value) for key, value in wanted.items() if part[key] != value]


def _difference(key: str, ours: Any, paper: Any) -> str:
    if key == "epochs":
        return f"{ours} epochs instead of {paper}"
    if key == "schedule":
        return f"schedule {_schedule(ours)} instead of {_schedule(paper)}"
    return _instead(key, ours, paper)


def _instead(key: str, ours: Any, paper: Any) -> str:
    return f"{key.replace('_', ' ')} {_shown(ours)} instead of {_shown(paper)}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _schedule(schedule: dict[str, Any]) -> str:
    if schedule["name"] != "step":
        return schedule["name"]
    return f"/{1 / schedule['gamma']:g} at {', '.join(f'{m:g}' for m in schedule['milestones'])}"


def beside(ours: pd.DataFrame, study: Study, artefact: str, *, sensitive: str | None = None) -> pd.DataFrame:
    """`ours` with the paper's numbers for the same study, where the study is the paper's own.

    ours       one value a row: model, temperature (NaN for teacher and nds), metric (as in reported.csv), mean, and
               low and high, its interval; shares in fractions, counts as they are
    sensitive  the sensitive feature that the values are about; None takes rows of the paper without one
    Adds paper_mean and paper_sd (in our unit: the paper's percent become fractions), difference (ours - paper) and
    paper_inside (whether the paper's value lies in our interval; <NA> where the paper or our interval has no number).
    A stand-in comes back as it is, without these columns: its numbers cannot be set beside the paper's.
    Raises InvalidInput for missing columns or an artefact without numbers.
    """
    missing = [column for column in (*KEYS, "mean", "low", "high") if column not in ours]
    if missing:
        raise InvalidInput(f"the table lacks {', '.join(missing)}; it has {', '.join(ours.columns)}.")
    table = reported(artefact)
    if stand_in_reasons(study):
        return ours.copy()
    joined = ours.merge(_matching(table, study, sensitive), on=KEYS, how="left", validate="many_to_one")
    joined["difference"] = joined["mean"] - joined["paper_mean"]
    inside = joined["paper_mean"].between(joined["low"], joined["high"]).astype("boolean")
    joined["paper_inside"] = inside.mask(joined[["paper_mean", "low", "high"]].isna().any(axis=1))
    return joined


def _matching(table: pd.DataFrame, study: Study, sensitive: str | None) -> pd.DataFrame:
    """The paper's rows of a study in our units: model, temperature, metric, paper_mean, paper_sd."""
    same = (table["dataset"] == study.dataset) & (table["teacher"] == study.teacher["model"])
    same &= (table["student"] == study.student["model"]) & (table["alpha"] == study.alpha)
    same &= (table["label"] == study.data["label"]) if "label" in study.data else True
    same &= table["sensitive"].isna() | (table["sensitive"] == sensitive)
    rows = table[same]
    scale = np.where(rows["unit"] == "percent", 0.01, 1.0)
    return rows[KEYS].assign(paper_mean=rows["mean"] * scale, paper_sd=rows["std"] * scale)
