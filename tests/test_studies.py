"""Profiles are read strictly, and a run's id covers all that could change its result."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from kdlib.catalogue import ARTEFACTS, DATASETS, MODELS
from kdlib.data import load
from kdlib.errors import InvalidInput, ProfileError
from kdlib.measure.stats import adjust
from kdlib.studies import Run, load_profile

from .conftest import TINY


def read(tmp_path, text):
    path = tmp_path / "changed.yaml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def test_a_study_is_teachers_then_students_by_seed(tiny):
    runs = tiny.study("tiny").runs()
    assert [(r.role, r.seed, r.temperature) for r in runs] == [
        ("teacher", 0, None),
        ("teacher", 1, None),
        ("nds", 0, None),
        ("nds", 1, None),
        ("ds", 0, 1.0),
        ("ds", 0, 4.0),
        ("ds", 1, 1.0),
        ("ds", 1, 4.0),
    ]
    assert all(r.teacher is runs[r.seed] for r in runs if r.role == "ds")
    assert all(r.alpha == 0.8 and r.t_squared for r in runs if r.role == "ds")
    assert all(r.alpha is None and r.temperature is None for r in runs if r.role != "ds")


def test_defaults_of_the_data_set_are_part_of_the_run(tiny):
    assert tiny.study("tiny").runs()[0].data == {"train_images": 100, "seed": 0}


def test_an_id_survives_the_way_through_json(tiny):
    run = tiny.study("tiny").runs()[-1]
    again = Run.from_dict(run.to_dict())
    assert again == run and again.id == run.id and len(run.id) == 64


def test_every_change_of_a_run_or_of_its_teacher_changes_the_id(tiny):
    run = tiny.study("tiny").runs()[-1]
    changes = [
        {"seed": 9},
        {"lr": 0.5},
        {"data": {"train_images": 99, "seed": 0}},
        {"temperature": 2.0},
        {"t_squared": False},
        {"precision": "bf16"},
        {"augment": {}},
        {"loss_scale": 0.2},
        {"teacher": replace(run.teacher, seed=7)},
    ]
    assert len({run.id, *(replace(run, **change).id for change in changes)}) == len(changes) + 1


def test_ids_of_released_runs_never_change():
    """If this fails, every run on somebody's disk loses its address: raise SCHEMA on purpose, or find the accident."""
    run = Run(
        dataset="digits",
        data={"train_images": 300, "seed": 0},
        model="lenet5",
        role="nds",
        seed=0,
        teacher=None,
        temperature=None,
        alpha=None,
        t_squared=None,
        loss_scale=1.0,
        epochs=60,
        batch_size=32,
        optimizer="sgd",
        lr=0.02,
        momentum=0.9,
        weight_decay=0.001,
        schedule={"name": "step", "milestones": [0.3, 0.6, 0.9], "gamma": 0.1},
        warmup=0.0,
        augment={"crop": 1},
        init="scratch",
        precision="fp32",
    )
    assert run.id == load_profile("quick").study("digits").runs()[5].id
    assert run.id[:16] == "3e95d8de54e466a3"


def test_random_streams_differ_between_runs_and_epochs_and_repeat(tiny):
    one, two = tiny.study("tiny").runs()[:2]
    draws = [run.rng(1, epoch).integers(2**60) for run in (one, two) for epoch in (0, 1)]
    assert len(set(draws)) == 4
    assert one.rng(1, 0).integers(2**60) == draws[0]


def test_two_studies_that_share_teachers_share_their_runs():
    paper = load_profile("paper")
    main, ablation = (paper.study(name).runs() for name in ("cifar100-resnet", "cifar100-resnet-alpha06"))
    shared = {run.id for run in main} & {run.id for run in ablation}
    assert len(shared) == 10  # five teachers, five NDS


def test_fresh_teachers_have_no_students():
    runs = load_profile("paper").study("cifar100-resnet").runs()
    assert sum(run.role == "teacher" for run in runs) == 10
    assert {run.teacher.seed for run in runs if run.teacher} == {0, 1, 2, 3, 4}


def test_seeds_begin_where_the_study_says_and_fresh_teachers_follow(tmp_path):
    given = TINY.replace("seeds: 2", "seeds: 2\n    first_seed: 10\n    fresh_teachers: 1\n    control_loss_scale: 0.2")
    runs = read(tmp_path, given).study("tiny").runs()
    assert [run.seed for run in runs if run.role == "teacher"] == [10, 11, 12]
    assert [(run.seed, run.loss_scale) for run in runs if run.role == "nds"] == [(10, 1), (11, 1), (10, 0.2), (11, 0.2)]
    taught = [(run.seed, run.teacher.seed) for run in runs if run.role == "ds"]
    assert taught == [(10, 10), (10, 10), (11, 11), (11, 11)]


def test_where_seeds_begin_is_no_part_of_a_run(tiny, tmp_path):
    """Seeds 0 and 1, or 1 alone: run 1 is the same run."""
    later = read(tmp_path, TINY.replace("seeds: 2", "seeds: 1\n    first_seed: 1")).study("tiny")
    assert later.runs() == [run for run in tiny.study("tiny").runs() if run.seed == 1]


def test_the_paper_profile_holds_the_whole_design():
    paper = load_profile("paper")
    assert set(paper.artefacts) == set(ARTEFACTS) - {"beyond_bias_dial"}  # its data set is made by kdlib
    others = {"celeba64", "utkface"}  # stand-ins for CelebA's images, and the only faces with several races
    wanted = {name for name, known in DATASETS.items() if known.in_paper} | others
    assert {study.dataset for study in paper.studies.values()} == wanted
    used = {part["model"] for study in paper.studies.values() for part in (study.teacher, study.student)}
    assert used == set(MODELS) - {"resnet8", "resnet32", "bert_1x64", "drawn"}


def test_the_paper_profile_is_trained_in_the_order_that_spends_a_gpu_best():
    """Pilots, in no artefact, with one seed; then the studies whose data are at hand; then the rest."""
    paper = load_profile("paper")
    pilots = [name for name in paper.studies if name.startswith("pilot-")]
    assert list(paper.studies)[: len(pilots) + 10] == [
        *pilots,
        "cifar100-resnet",
        "trifeature-shape",
        "celeba64-smiling",
        "cifar10-resnet",
        "trifeature-texture",
        "celeba64-eyeglasses",
        "hatexplain-scratch",
        "utkface",
        "cifar100-resnet-alpha06",
        "cifar100-resnet-without-t2",
    ]
    assert pilots and all(paper.study(name).seeds == 1 for name in pilots)
    shown = {name for names in paper.artefacts.values() for name in names}
    assert set(paper.studies) - shown == set(pilots)


@pytest.mark.parametrize(
    ("pilot", "sweep"),
    [
        ("pilot-cifar100", "cifar100-resnet"),
        ("pilot-cifar100-without-t2", "cifar100-resnet-without-t2"),
        ("pilot-trifeature-10k", "trifeature-shape"),
        ("pilot-celeba64", "celeba64-smiling"),
    ],
)
def test_a_pilot_with_the_recipe_of_a_sweep_is_part_of_it(pilot, sweep):
    paper = load_profile("paper")
    assert {run.id for run in paper.study(pilot).runs()} < {run.id for run in paper.study(sweep).runs()}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds: 2", "seed: 2", ["'seed'", "studies.tiny", "Did you mean 'seeds'"]),
        ("seeds: 2", "seeds: 2.5", ["studies.tiny.seeds", "2.5"]),
        ("seeds: 2", "seeds: true", ["studies.tiny.seeds", "True"]),
        ("seeds: 2", "seeds: '2'", ["studies.tiny.seeds", "'2'"]),
        ("seeds: 2", "seeds: 0", ["studies.tiny.seeds", "not 0"]),
        ("seeds: 2", "seeds: 2\n    fresh_teachers: -1", ["studies.tiny.fresh_teachers", "not -1"]),
        ("seeds: 2", "seeds: 2\n    first_seed: -1", ["studies.tiny.first_seed", "not -1"]),
        ("seeds: 2", "seeds: 2\n    first_seed: 1000001", ["studies.tiny.first_seed", "not 1000001"]),
        ("seeds: 2", "seeds: 2\n    first_seed: 1.5", ["studies.tiny.first_seed", "not 1.5"]),
        ("    seeds: 2\n", "", ["studies.tiny needs", "'seeds'"]),
        ("profile: tiny", "profile: tiny\ntrain: 1", ["train", "not 1"]),
        ("profile: tiny", "profile: tiny\ntrian: false", ["'trian'", "Did you mean 'train'"]),
        ("profile: tiny", "", ["needs the key 'profile'"]),
        ("dataset: digits", "dataset: digit", ["studies.tiny.dataset", "'digit'", "Did you mean 'digits'"]),
        ("dataset: digits", "dataset: [digits]", ["studies.tiny.dataset", "['digits']"]),
        (
            "digits\n    data: {train_images: 100}",
            "hatexplain",
            ["studies.tiny.teacher", "resnet8 reads images", "hatexplain"],
        ),
        ("train_images: 100", "train_image: 100", ["studies.tiny.data", "'train_image'"]),
        ("train_images: 100", "train_images: many", ["studies.tiny.data.train_images", "'many'"]),
        ("data: {train_images: 100}", "data: 100", ["studies.tiny.data", "mapping with train_images", "not 100"]),
        ("crop: 1", "crop: 1, flop: true", ["studies.tiny.augment", "'flop'", "Did you mean 'flip'"]),
        ("crop: 1", "crop: 1, flip: 1", ["studies.tiny.augment.flip", "not 1"]),
        ("model: resnet8", "model: resnet9", ["studies.tiny.teacher.model", "'resnet9'", "Valid:", "resnet8"]),
        ("model: resnet8", "modle: resnet8", ["studies.tiny.teacher", "'modle'", "Did you mean 'model'"]),
        ("{model: lenet5, epochs: 3}", "lenet5", ["studies.tiny.student", "mapping with", "not 'lenet5'"]),
        ("recipe: sgd", "recipe: adam", ["studies.tiny.recipe", "'adam'", "Valid: sgd"]),
        ("optimizer: sgd", "optimizer: sgdd", ["recipes.sgd.optimizer", "'sgdd'", "Did you mean 'sgd'"]),
        ("lr: 0.02", "lr: fast", ["recipes.sgd.lr", "'fast'"]),
        ("lr: 0.02, ", "", ["recipes.sgd needs", "'lr'"]),
        ("weight_decay: 0.001", "weight_decay: 1e-3", ["'1e-3'", "YAML reads 1e-3 as text"]),
        ("lr: 0.02", "lr: -0.02", ["recipes.sgd.lr", "not -0.02"]),
        ("lr: 0.02", "lr: .nan", ["recipes.sgd.lr", "not nan"]),
        ("batch_size: 32", "batch_size: 0", ["recipes.sgd.batch_size", "not 0"]),
        ("epochs: 3", "epochs: 0", ["studies.tiny.teacher.epochs", "not 0"]),
        ("milestones: [0.5]", "milestones: [30]", ["recipes.sgd.milestones.0", "not 30"]),
        ("milestones: [0.5]", "milestones: [0.5], schedule: cosine", ["[0.5]", "'cosine'", "keep one"]),
        ("milestones: [0.5]", "schedule: cosin", ["recipes.sgd.schedule", "'cosin'", "Did you mean 'cosine'"]),
        ("temperatures: [1, 4]", "temperatures: [0, 4]", ["studies.tiny.temperatures.0", "not 0"]),
        ("temperatures: [1, 4]", "temperatures: [1, 1]", ["studies.tiny.temperatures", "[1.0, 1.0]"]),
        ("temperatures: [1, 4]", "temperatures: [1, .inf]", ["studies.tiny.temperatures.1", "not inf"]),
        ("temperatures: [1, 4]", "temperatures: 4", ["studies.tiny.temperatures", "not 4"]),
        ("seeds: 2", "seeds: 2\n    alpha: 1.5", ["studies.tiny.alpha", "not 1.5"]),
        ("table06: [tiny]", "table06: [tinny]", ["artefacts.table06", "'tinny'", "Did you mean 'tiny'"]),
        ("table06: [tiny]", "table66: [tiny]", ["artefacts", "'table66'", "Did you mean 'table06'"]),
        ("table06: [tiny]", "table06: tiny", ["artefacts.table06", "not 'tiny'"]),
        ("table06: [tiny]", "table06: [5]", ["artefacts.table06.0", "not 5"]),
        ("crop: 1", "crop: 1, crop: 2", ["'crop' stands twice", "line 9"]),
        ("profile: tiny", "profile: [tiny", ["not valid YAML"]),
    ],
)
def test_a_wrong_profile_is_refused_with_value_place_and_remedy(tmp_path, old, new, words):
    assert old in TINY
    with pytest.raises(ProfileError) as refused:
        read(tmp_path, TINY.replace(old, new, 1))
    said = str(refused.value)
    assert [word for word in ("changed.yaml", *words) if word not in said] == [], said


def test_all_errors_of_a_file_are_listed_at_once(tmp_path):
    mistakes = {
        "lr: 0.02": "lr: fast",
        "dataset: digits": "dataset: digits\n    sedes: 3",
        "train_images: 100": "train_images: many",
        "recipe: sgd": "recipe: adam",
        "model: resnet8, epochs: 3": "model: resnet9, epochs: -1",
        "model: lenet5": "model: lenet5, warm_up: 1",
        "temperatures: [1, 4]": "temperatures: [-1, 4]",
        "table06: [tiny]": "table66: [tiny]\n  fig3: [tinny]",
    }
    text = TINY
    for old, new in mistakes.items():
        text = text.replace(old, new)
    with pytest.raises(ProfileError) as refused:
        read(tmp_path, text)
    lines = str(refused.value).splitlines()
    wrong = ("'fast'", "'sedes'", "'many'", "'adam'", "'resnet9'", "-1.", "'warm_up'", "-1", "'table66'", "'tinny'")
    assert len(lines) == len(wrong) and all("changed.yaml: " in line for line in lines)
    assert all(any(value in line for line in lines) for value in wrong)


def test_a_value_outside_its_choices_is_refused(tmp_path):
    text = TINY.replace("digits", "trifeature").replace("train_images: 100", "label: shpe")
    with pytest.raises(ProfileError, match="studies.tiny.data.label.*'shpe'.*Did you mean 'shape'"):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["", "- 1", "7"])
def test_a_profile_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ProfileError, match="must be a mapping with profile"):
        read(tmp_path, text)


def test_a_profile_says_whether_it_is_trained_unasked(tiny):
    assert tiny.train and load_profile("quick").train
    assert not load_profile("paper").train and not load_profile("real-small").train


def test_unknown_names_list_the_valid_ones(tiny):
    with pytest.raises(ProfileError, match="unknown profile 'quik'.*Did you mean 'quick'"):
        load_profile("quik")
    with pytest.raises(ProfileError, match="None"):
        load_profile(None)
    with pytest.raises(ProfileError, match="nowhere.yaml"):
        load_profile("nowhere.yaml")
    with pytest.raises(ProfileError, match="unknown study 'tyni'.*Did you mean 'tiny'"):
        tiny.study("tyni")
    with pytest.raises(ProfileError, match="unknown artefact 'fig3'.*Valid: table06"):
        tiny.studies_for("fig3")


@pytest.mark.parametrize("name", [[], ["tiny"], {"tiny": 1}, {"tiny"}, np.array(["tiny", "x"])], ids=repr)
def test_what_is_no_text_is_an_unknown_name(tiny, name):
    """Values that cannot be looked up, wherever kdlib wants one of some names."""
    for look_up in (tiny.study, tiny.studies_for, partial(adjust, np.array([0.1])), lambda name: load(name, "test")):
        with pytest.raises(InvalidInput, match="unknown .* Valid: "):
            look_up(name)


def test_one_look_shows_every_error_with_file_study_and_key(tmp_path):
    """What has to fit together is checked even where something else of the study is wrong."""
    path = tmp_path / "my.yaml"
    text = TINY.replace("seeds: 2", "seeds: 0").replace("model: lenet5", "model: bert_tiny")
    text = text.replace("model: resnet8,", "model: nets.py:mynet, warmup: 7,").replace("[1, 4]", "[1, -4]")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    said = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in said] == [
        [str(path), f"studies.tiny{key}"]
        for key in (".temperatures.1", ".seeds", ".teacher.model", ".teacher", ".student")
    ], said
