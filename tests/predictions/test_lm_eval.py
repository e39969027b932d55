"""Sample logs of lm-evaluation-harness: real ones (fixtures/lm_eval), and small ones to check by hand."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdlib.errors import InvalidInput
from kdlib.predictions.lm_eval import read_lm_eval
from tests import lm_eval_logs

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT / "tests" / "fixtures" / "lm_eval"
DATE = "2026-01-0{}T00-00-00.000000"


def sample(doc_id, target, likelihoods, options=("no", "yes"), acc=None, **doc):
    """One line as lm_eval 0.4.13 writes it."""
    arguments = {f"gen_args_{i}": {"arg_0": "Is it?", "arg_1": f" {option}"} for i, option in enumerate(options)}
    judged = acc if acc is not None else float(int(np.argmax(likelihoods)) == target)
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(target),
        "arguments": arguments,
        "filtered_resps": [[str(float(z)), "False"] for z in likelihoods],
        "filter": "none",
        "doc_hash": f"{doc_id}{doc}",
        "acc": judged,
    }


ONE = [sample(0, 1, [-3, -1], kind="x"), sample(1, 0, [-1, -2], kind="y"), sample(2, 1, [-1, -1.5], kind="y")]
TWO = [sample(0, 1, [-3, -2], kind="x"), sample(1, 0, [-4, -2], kind="y"), sample(2, 1, [-1, -1.1], kind="y")]


def log(folder, model, samples, *, task="quiz", day=1, args=None):
    home = folder / model.strip("/").replace("/", "__")
    home.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(one) + "\n" for one in samples)
    (home / f"samples_{task}_{DATE.format(day)}.jsonl").write_text(lines, "utf-8")
    about = {"model_name": model, "config": {"model_args": args if args is not None else f"pretrained={model}"}}
    (home / f"results_{DATE.format(day)}.json").write_text(json.dumps(about), "utf-8")
    return home


def refused(folder, *words, **options):
    with pytest.raises(InvalidInput) as caught:
        read_lm_eval(folder, **options)
    message = str(caught.value)
    assert "\n" not in message and [word for word in words if word not in message] == [], message


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_two_models_by_hand(tmp_path):
    log(tmp_path, "big/teacher", ONE)
    log(tmp_path, "small/student", TWO)
    p = read_lm_eval(tmp_path, group="kind")
    assert p.class_names == ("no", "yes") and p.sample_ids.tolist() == ["quiz:0", "quiz:1", "quiz:2"]
    assert p.runs["model"].tolist() == ["teacher", "student"] and p.runs["seed"].tolist() == [0, 0]
    assert p.labels.tolist() == [1, 0, 1] and p.predicted.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert p.probabilities[0][0].tolist() == pytest.approx([1 / (1 + np.e**2), 1 / (1 + np.e**-2)])
    assert p.groups["kind"].tolist() == ["x", "y", "y"] and p.groups["task"].tolist() == ["quiz"] * 3


def test_seeds_by_name_and_by_time(tmp_path):
    log(tmp_path, "runs/student-seed3", ONE)
    log(tmp_path, "runs/student_seed4", TWO)
    surer = {1: [[-9, -1], [-1, -9], [-9, -1]], 2: [[-9, -1], [-9, -1], [-9, -1]]}
    for day in (2, 1):
        three = enumerate(zip(surer[day], (1, 0, 1), "xyy", strict=True))
        log(tmp_path, "runs/teacher", [sample(i, y, z, kind=kind) for i, (z, y, kind) in three], day=day)
    p = read_lm_eval(tmp_path)
    found = {(run.model, run.seed): p.predicted[i].tolist() for i, run in enumerate(p.runs.itertuples())}
    students = {("student", 3): [1, 0, 0], ("student", 4): [1, 1, 0]}
    assert found == students | {("teacher", 0): [1, 0, 1], ("teacher", 1): [1, 1, 1]}


def test_one_model_loaded_in_two_ways_is_two_models(tmp_path):
    log(tmp_path / "dense", "org/m", ONE, args="pretrained=org/m,dtype=float32")
    log(tmp_path / "small", "org/m", TWO, args={"pretrained": "org/m", "dtype": "float32", "load_in_4bit": True})
    assert read_lm_eval(tmp_path).runs["model"].tolist() == ["m", "m load_in_4bit=True"]


def test_models_whose_paths_end_alike_keep_the_whole_path(tmp_path):
    log(tmp_path, "a/final", ONE)
    log(tmp_path, "b/final", TWO)
    assert read_lm_eval(tmp_path).runs["model"].tolist() == ["a/final", "b/final"]


def test_without_results_the_folder_is_the_model(tmp_path):
    (log(tmp_path, "teacher", ONE) / f"results_{DATE.format(1)}.json").unlink()
    assert read_lm_eval(tmp_path).runs["model"].tolist() == ["teacher"]


def test_older_logs(tmp_path):
    """Before 0.4.3: one list a file, named after the model's arguments and the task; numbers, no hashes."""
    home = tmp_path / "out"
    home.mkdir()
    old = []
    for one in ONE:
        asked = [[pair["arg_0"], pair["arg_1"]] for pair in one["arguments"].values()]
        given = [[float(z), False] for z, _ in one["filtered_resps"]]
        old.append({**one, "arguments": asked, "filtered_resps": given, "target": int(one["target"])})
        del old[-1]["doc_hash"], old[-1]["filter"]
    (home / "pretrained__org__m_the_quiz.jsonl").write_text(json.dumps(old, indent=2), "utf-8")
    about = {"results": {"quiz": {}, "the_quiz": {}}, "config": {"model_args": "pretrained=org/m"}}
    (home / "results.json").write_text(json.dumps(about), "utf-8")
    p = read_lm_eval(tmp_path)
    assert p.predicted.tolist() == [[1, 0, 0]] and p.runs["model"].tolist() == ["m"]
    assert p.sample_ids[0] == "the_quiz:0"


def test_options_of_other_texts_or_number_are_places(tmp_path):
    log(tmp_path, "m", [sample(0, 2, [-3, -2, -1], "pqr"), sample(1, 0, [0, -np.log(3)], "st")])
    p = read_lm_eval(tmp_path)
    assert p.class_names == ("A", "B", "C") and p.labels.tolist() == [2, 0]
    assert p.probabilities[0][1].tolist() == pytest.approx([0.75, 0.25, 0])


def test_a_target_may_be_the_text_of_an_option(tmp_path):
    texts = [{**one, "target": ("no", "yes")[int(one["target"])]} for one in ONE]
    log(tmp_path, "m", texts)
    assert read_lm_eval(tmp_path).labels.tolist() == [1, 0, 1]


def test_what_targets_are_holds_for_the_whole_task(tmp_path):
    """'1' is place 1 and the text of place 0; a wrong answer leaves open which is meant."""
    of_texts = [sample(0, 1, [-2, -1.5, -1], "102", acc=0.0), sample(1, 1, [-1, -2, -3], "102", acc=1.0)]
    log(tmp_path, "m", of_texts)
    assert read_lm_eval(tmp_path).labels.tolist() == [0, 0]
    of_places = [sample(0, 1, [-2, -1.5, -1], "102", acc=0.0), sample(1, 1, [-2, -1, -3], "102", acc=1.0)]
    log(tmp_path, "m", of_places)
    assert read_lm_eval(tmp_path).labels.tolist() == [1, 1]
    log(tmp_path, "m", [of_texts[1], of_places[1]])
    refused(tmp_path, "quiz:1", "acc", "task")


def test_unconditional_likelihoods_and_further_filters_are_not_answers(tmp_path):
    first = sample(0, 1, [-3, -1, -9, -9], ("no", "yes", "no", "yes"), acc=1.0)
    for i in (2, 3):
        first["arguments"][f"gen_args_{i}"]["arg_0"] = ""
    log(tmp_path, "m", [first, {**ONE[1]}, {**first, "filter": "other"}])
    p = read_lm_eval(tmp_path)
    assert p.predicted.tolist() == [[1, 0]] and p.class_names == ("no", "yes")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filtered_resps": ["seven"]}, ["multiple choice"]),
        ({"filtered_resps": [["-1.0", "True"]], "arguments": [["the last word is", " seven"]]}, ["multiple choice"]),
        ({"filtered_resps": [["nan", "True"], ["-1", "False"]]}, ["multiple choice"]),
        ({"target": "[0, 1]"}, ["'[0, 1]'", "no, yes", "one right option"]),
        ({"target": "7"}, ["'7'", "no, yes"]),
        ({"acc": 0.0}, ["acc 0.0", "opposite"]),
        ({"doc_hash": "other"}, ["quiz:0", "another question"]),
        ({"doc_id": 9}, ["the samples in", "'quiz:9'", "lacks 1 samples"]),
        ({"doc_id": 1}, ["quiz:1", "another question"]),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, words):
    log(tmp_path, "a", TWO)
    home = log(tmp_path, "b", [{**ONE[0], **change}, *ONE[1:]])
    place = [] if {"doc_hash", "doc_id"} & {*change} else ["sample 1 of", str(home)]
    refused(tmp_path, *place, *words)


def test_damaged_and_missing_logs(tmp_path):
    refused(tmp_path / "none", "none", "--log_samples")
    home = log(tmp_path, "m", ONE)
    path = home / f"samples_quiz_{DATE.format(1)}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    refused(tmp_path, "line 3 of", str(path))
    path.write_bytes(b"\xff" + whole)
    refused(tmp_path, str(path))
    path.write_text(json.dumps({"doc_id": 0, "doc": {}}))
    refused(tmp_path, "sample 1 of", str(path), "arguments")
    path.write_text("[1, 2]")
    refused(tmp_path, "sample 1 of", str(path))
    for wrong in ({"arguments": [["Is it?"], ["Is it?"]]}, {"arguments": [[], []]}, {"target": "1" * 5000}):
        path.write_text(json.dumps({**ONE[0], **wrong}))
        refused(tmp_path, "sample 1 of", str(path))
    path.write_text("[" * 100_000)
    refused(tmp_path, str(path))
    path.write_bytes(whole)
    for wrong in (1, [1], {"config": None}, {"config": {"model_args": 7}}):
        (home / f"results_{DATE.format(1)}.json").write_text(json.dumps(wrong))
        refused(tmp_path, "results", str(home))


def test_groups_that_are_not_there(tmp_path):
    log(tmp_path, "m", ONE)
    refused(tmp_path, "'kin'", "Did you mean 'kind'", group="kin")
    log(tmp_path, "m", [sample(0, 1, [-3, -1], model="x")])
    refused(tmp_path, "'model'", group=["model"])


def test_one_evaluation_logged_twice_is_no_second_seed(tmp_path):
    for day in (1, 2):
        log(tmp_path, "m", ONE, day=day)
    refused(tmp_path, "identical", "m seed 0", "m seed 1")


# --- by the harness itself --------------------------------------------------------------------------------------------


def test_real_logs():
    p = read_lm_eval(REAL / "logs")
    assert sorted(zip(p.runs["model"], p.runs["seed"], strict=True)) == [("student", 0), ("student", 1), ("teacher", 0)]
    assert p.class_names == ("A", "B", "C", "D") and len(p.labels) == 32
    right = {f"toy_{task}:{i}": q["answer"] for task, qs in lm_eval_logs.questions().items() for i, q in enumerate(qs)}
    assert dict(zip(p.sample_ids.tolist(), p.labels.tolist(), strict=True)) == right
    for run, correct in zip(p.runs.itertuples(), p.correct, strict=True):
        name = run.model if run.model == "teacher" else f"{run.model}-seed{run.seed}"
        (path,) = (REAL / "logs").glob(f"*{name}/results_*.json")
        results = json.loads(path.read_text("utf-8"))["results"]
        for task in ("toy_sums", "toy_order"):
            assert correct[p.groups["task"] == task].mean() == pytest.approx(results[task]["acc,none"], abs=1e-12)


def test_real_logs_of_written_answers_are_refused():
    refused(REAL / "spoken", "samples_toy_spoken", "multiple choice")


def test_groups_of_real_logs(tmp_path):
    for path in (REAL / "logs").glob("*/samples_toy_sums_*"):
        (tmp_path / path.parent.name).mkdir()
        shutil.copy(path, tmp_path / path.parent.name)
    p = read_lm_eval(tmp_path, group="size")
    wanted = [question["size"] for question in lm_eval_logs.questions()["sums"]]
    assert p.groups["size"][np.argsort([int(i.split(":")[1]) for i in p.sample_ids])].tolist() == wanted


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm_eval: pip install 'kdlib[lm-eval]'")
def test_the_harness_of_today_writes_what_we_read(tmp_path):
    subprocess.run([sys.executable, "-m", "tests.lm_eval_logs", str(tmp_path)], cwd=ROOT, check=True)
    made, kept = read_lm_eval(tmp_path / "logs"), read_lm_eval(REAL / "logs")
    assert made.runs["run_id"].tolist() == kept.runs["run_id"].tolist()
    assert made.sample_ids.tolist() == kept.sample_ids.tolist() and made.labels.tolist() == kept.labels.tolist()
    refused(tmp_path / "spoken", "multiple choice")
