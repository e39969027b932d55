"""Language models: the sample logs of lm-evaluation-harness (`lm_eval --log_samples`) become predictions.

A question is a sample, its answer options are the classes, a model is an arm. Read are samples_<task>_<date>.jsonl with
results_<date>.json beside them, as the harness writes them since 0.4.3, and <model>_<task>.jsonl with results.json, as
before. Multiple choice alone: text that a model wrote has no classes. Neither the harness nor torch is needed.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, unknown
from kdlib.predictions import Predictions, softmax
from kdlib.predictions.user_table import read_table

SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT.+)")
SEED = re.compile(r"(.+?)[-_. ]?seed[-_=]?(\d+)", re.IGNORECASE)


def read_lm_eval(folder: Path | str, *, group: str | Sequence[str] | None = None) -> Predictions:
    """The predictions in all sample logs of lm-evaluation-harness below a folder.

    group   fields of the questions (`doc`) that are groups, such as "category" of BBQ; the task, in MMLU the subject,
            always is one: groups["task"]

    Classes: the options' texts, if they are the same in all questions (no, yes; the A to D of MMLU); else their places
    A, B, C, ...: what is compared then is whether a model prefers a place. Where some questions have fewer options,
    those that they lack have probability 0. Probabilities are the softmax over a question's options of their
    log-likelihoods, unnormalized: what the harness judges by `acc`, not `acc_norm`.

    Models: named after the last part of the path that the harness was given, if that tells them apart; one model loaded
    in several ways after the difference as well ("pythia-70m load_in_4bit=True"). "student-seed3" is seed 3 of
    "student"; else the times at which one model was evaluated number its seeds, from 0.

    Sample ids are "<task>:<doc_id>". Raises InvalidInput, which names file and line, for logs that are missing or
    damaged, for tasks other than multiple choice with one right option, for models that were asked other questions, and
    where the log-likelihoods contradict the logged acc.
    """
    folder = Path(folder).expanduser()
    if not (logs := _logs(folder)):
        raise InvalidInput(f"{folder} has no samples_*.jsonl. Run lm_eval with --output_path and --log_samples.")
    fields = [group] if isinstance(group, str) else [*(group or ())]
    answers = [answer for log in logs for answer in _answers(log, fields)]
    _refuse_other_questions(answers)
    sets = {answer.options for answer in answers}
    n_classes = max(map(len, sets))
    rows = []
    for answer, label in zip(answers, _decided(answers), strict=True):
        padded = np.pad(answer.probabilities, (0, n_classes - len(answer.options)))
        sample = {"sample_id": answer.sample_id, "y_true": label, "task": answer.log.task}
        sample |= {"model": answer.log.model, "seed": answer.log.seed, "y_pred": int(padded.argmax())}
        if clash := {*sample} & {*answer.groups}:
            raise InvalidInput(f"group {min(clash)!r} has the name of a column of its own. Choose another field.")
        rows.append({**sample, **answer.groups, **{f"prob_{i}": p for i, p in enumerate(padded)}})
    table = pd.DataFrame(rows)
    table.attrs["name"] = f"the samples in {folder}"
    return replace(read_table(table), class_names=_class_names(sets, n_classes))


def _class_names(sets: set[tuple[str, ...]], n_classes: int) -> tuple[str, ...]:
    first = next(iter(sets))
    if len(sets) == 1 and len({*first}) == n_classes:
        return first
    return tuple(string.ascii_uppercase[:n_classes]) if n_classes <= 26 else tuple(map(str, range(1, n_classes + 1)))


# --- files and models -------------------------------------------------------------------------------------------------


class _Log(NamedTuple):
    """The samples of one task by one run of one model."""

    path: Path
    task: str
    model: str
    seed: int


def _logs(folder: Path) -> list[_Log]:
    found = []  # (task, model, how it was loaded, when, path)
    for path in sorted(folder.rglob("*.jsonl")):
        new = SAMPLES.fullmatch(path.stem)
        about = _results(path.with_name(f"results_{new[2]}.json" if new else "results.json"))
        task = new[1] if new else max((t for t in about.get("results", ()) if path.stem.endswith(f"_{t}")), default="")
        if task:
            found.append((task, *_model(about, path), new[2] if new else "", path))
    loaded = defaultdict(list)
    for _, name, how, *_ in found:
        loaded[name].append(how)
    short = {name: name.rstrip("/").rsplit("/", 1)[-1] for name in loaded}
    named = short if len({*short.values()}) == len(short) else {name: name for name in loaded}
    logs, times = [], Counter()
    for task, name, how, _, path in sorted(found, key=lambda one: (one[3], one[4])):
        model = " ".join([named[name], *sorted(how - frozenset.intersection(*loaded[name]))])
        seeded = SEED.fullmatch(model)
        logs.append(_Log(path, task, *((seeded[1], int(seeded[2])) if seeded else (model, times[task, model]))))
        times[task, model] += 1
    return logs


def _results(path: Path) -> dict[str, Any]:
    about = next(_json(path), {}) if path.is_file() else {}
    if not isinstance(about, dict) or not all(isinstance(about.get(k, {}), dict) for k in ("config", "results")):
        raise InvalidInput(f"{path} holds no results of lm-evaluation-harness. Copy it again, or evaluate anew.")
    return about


def _model(about: Mapping[str, Any], path: Path) -> tuple[str, frozenset[str]]:
    """The model's name, and the arguments that it was loaded with."""
    args = about.get("config", {}).get("model_args") or {}
    if isinstance(args, str):
        args = dict(pair.partition("=")[::2] for pair in args.split(",") if pair)
    if not isinstance(args, dict):
        raise InvalidInput(f"the results beside {path} have the model_args {args!r}, which are none.")
    name = about.get("model_name") or args.get("pretrained") or args.get("model") or path.parent.name
    return str(name), frozenset(f"{key}={value}" for key, value in args.items() if value != name)


def _json(path: Path) -> Iterator[Any]:
    """The values in a file: one in all, a list of them (older logs), or one a line."""
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json" or text.startswith("["):
            value = json.loads(text)
            yield from value if isinstance(value, list) else [value]
            return
        lines = text.split("\n")
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is no log of lm-evaluation-harness: {error}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(
                    f"line {number} of {path} is no JSON: {error}. Was the evaluation cut off?"
                ) from error


# --- answers ----------------------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    """What a model answered to one question: options in order, their probabilities, and `_labels`."""

    log: _Log
    sample_id: str
    doc_hash: str | None
    options: tuple[str, ...]
    probabilities: np.ndarray
    labels: tuple[int | None, int | None]
    groups: dict[str, Any]


def _answers(log: _Log, fields: Sequence[str]) -> Iterator[_Answer]:
    first_filter = None
    for number, record in enumerate(_json(log.path), 1):
        place = f"sample {number} of {log.path}"
        try:
            first_filter = first_filter or record.get("filter", "none")
            if record.get("filter", "none") != first_filter:
                continue  # the same answers once more, by another filter
            sample_id, doc = f"{log.task}:{record['doc_id']}", record["doc"]
            options, likelihoods = _options(record, place)
            labels = _labels(record, options, int(likelihoods.argmax()), place)
        except InvalidInput:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise InvalidInput(f"{place} is no sample of lm-evaluation-harness: {error!r}.") from error
        for field in fields:
            if field not in doc:
                raise unknown("field", field, doc, place=f"doc of {place}")
        groups = {field: doc[field] for field in fields}
        yield _Answer(log, sample_id, record.get("doc_hash"), options, softmax(likelihoods), labels, groups)


def _options(record: Mapping[str, Any], place: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The options' texts and log-likelihoods. Raises InvalidInput for what is no multiple choice."""
    asked, given = record["arguments"], record["filtered_resps"]
    if isinstance(asked, dict):  # {"gen_args_0": {"arg_0": the question, "arg_1": the option}, ...}
        asked = [[*one.values()] for one in asked.values()]
    try:
        likelihoods = np.array([float(likelihood) for likelihood, _ in given])
    except (TypeError, ValueError):
        likelihoods = np.array([])
    if any(context for context, *_ in asked):  # without those that acc_mutual_info asks without a question
        likelihoods = likelihoods[[bool(one[0]) for one in asked[: len(likelihoods)]]]
        asked = [one for one in asked if one[0]]
    if len(likelihoods) < 2 or len(asked) != len(likelihoods) or not np.isfinite(likelihoods).all():
        raise InvalidInput(
            f"{place} has no log-likelihoods of two or more options: it is no multiple choice, so it has no classes. "
            "Leave out the logs of that task."
        )
    return tuple(str(option).strip() for _, option, *_ in asked), likelihoods


def _labels(
    record: Mapping[str, Any], options: tuple[str, ...], predicted: int, place: str
) -> tuple[int | None, int | None]:
    """The place of the right option if the target is that, and if it is the option's text; None where acc denies it."""
    target = str(record["target"]).strip()
    as_place = int(target) if target.isdecimal() and int(target) < len(options) else None
    as_text = options.index(target) if options.count(target) == 1 else None
    if as_place is as_text is None:
        raise InvalidInput(
            f"{place} has the target {target[:80]!r}, which is not one of its options {', '.join(options)[:200]}: "
            "questions with one right option alone can be read."
        )
    fits = [None if label is None or _denied(record, label == predicted) else label for label in (as_place, as_text)]
    if fits == [None, None]:
        raise InvalidInput(f"{place} has acc {record['acc']}, but its log-likelihoods and target say the opposite.")
    return fits[0], fits[1]


def _denied(record: Mapping[str, Any], right: bool) -> bool:
    return "acc" in record and bool(record["acc"]) != right


def _decided(answers: Sequence[_Answer]) -> list[int]:
    """The label of each answer: all targets of a task are places or all are texts, places where both are possible."""
    ways = {answer.log.task: [0, 1] for answer in answers}
    for answer in answers:
        task = answer.log.task
        ways[task] = [way for way in ways[task] if answer.labels[way] is not None]
        if not ways[task]:
            raise InvalidInput(
                f"{answer.sample_id} in {answer.log.path}: its target cannot be read as those before, as "
                "the place or the text of the right option, without contradicting acc. Evaluate that task anew."
            )
    return [answer.labels[ways[answer.log.task][0]] for answer in answers]


def _refuse_other_questions(answers: Sequence[_Answer]) -> None:
    first: dict[str, _Answer] = {}
    for answer in answers:
        other = first.setdefault(answer.sample_id, answer)
        if (other.doc_hash, other.options) != (answer.doc_hash, answer.options):
            raise InvalidInput(
                f"{answer.sample_id} is another question in {answer.log.path} than in {other.log.path}: evaluate all "
                "models on the same version of the task."
            )
