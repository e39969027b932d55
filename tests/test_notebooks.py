"""Notebooks are thin, take the same four parameters, are committed without outputs, and there is one per artefact."""

import ast
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from kdlib import reproduce, store
from kdlib.catalogue import ARTEFACTS
from kdlib.paper.silences import remarks
from kdlib.studies import load_profile

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
INDEX = "00_index.ipynb"
EVERY = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# Of no artefact: test_your_own.py and show/test_explorer.py run them.
YOURS = [name for name in EVERY if name == "explore.ipynb" or name.startswith("your_own")]
NOTEBOOKS = [name for name in EVERY if name not in (INDEX, *YOURS)]
PARAMETERS = """profile = "quick"  # quick, real-small, paper, or the path of a YAML file
runs_dir = ""  # "" is runs/ of the project
out_dir = ""  # "" is figures/<profile>/ of the project
device = "auto"  # auto, cpu, cuda, or none, which trains nothing"""
USE_TORCH = {"00_walkthrough.ipynb", "fig7_trifeature.ipynb"}
NOT_CAREFUL = ("bias-free", "unbiased", "debiased", "fair model", "unfair", "proves", "no effect of distillation")

each = pytest.mark.parametrize("name", NOTEBOOKS)
every = pytest.mark.parametrize("name", EVERY)
but_the_index = pytest.mark.parametrize("name", [*NOTEBOOKS, *YOURS])


def read(name):
    return nbformat.read(FOLDER / name, as_version=nbformat.NO_CONVERT)


def code(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def trees(name):
    return [node for cell in code(name) for node in ast.walk(ast.parse(cell.source))]


def calls(name):
    return {ast.unparse(node.func) for node in trees(name) if isinstance(node, ast.Call)}


def test_one_notebook_per_artefact_and_the_reverse():
    assert sorted(a.notebook for a in ARTEFACTS.values() if a.notebook) == NOTEBOOKS


def test_the_index_links_those_for_your_own_data():
    text = "".join(cell.source for cell in read(INDEX).cells)
    assert sorted(re.findall(r"^- \[.*?\]\((.*?)\): ", text, re.MULTILINE)) == YOURS


def test_the_index_links_every_notebook_by_its_title():
    text = "".join(cell.source for cell in read(INDEX).cells)
    found = re.findall(r"^\| \[(.*?)\]\((.*?)\) \| (.*) \|$", text, re.MULTILINE)
    assert sorted(found) == sorted((a.notebook.removesuffix(".ipynb"), a.notebook, a.title) for a in ARTEFACTS.values())


@every
def test_valid_with_stable_ids_and_the_plain_kernel(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(word.isalpha() for id_ in ids for word in id_.split("-")), "an id in words does not change when saved"


@every
def test_committed_without_outputs(name):
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(name))


@but_the_index
def test_thin(name):
    cells = code(name)
    assert len(cells) <= 10
    assert sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines()) <= 40
    heavy = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.While | ast.Assert
    assert not any(isinstance(node, heavy) for node in trees(name))
    keys = [key for node in trees(name) if isinstance(node, ast.Dict) for key in node.keys]
    keys += [node.key for node in trees(name) if isinstance(node, ast.DictComp)]
    assert not any(isinstance(key, ast.Tuple) for key in keys), "a dict keyed by tuples"


@but_the_index
def test_nothing_is_trained_in_a_loop(name):
    loops = [node for node in trees(name) if isinstance(node, ast.For | ast.comprehension | ast.GeneratorExp)]
    assert not any(
        "train" in ast.unparse(inner.func) for loop in loops for inner in ast.walk(loop) if isinstance(inner, ast.Call)
    )


@each
def test_exactly_the_four_parameters_directly_after_the_question(name):
    notebook = read(name)
    tagged = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [1]
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[1].source == PARAMETERS


@each
def test_opens_its_own_artefact_with_all_parameters(name):
    artefact = next(key for key, a in ARTEFACTS.items() if a.notebook == name)
    made = [node for node in trees(name) if isinstance(node, ast.Call)]
    opened = [call for call in made if ast.unparse(call.func) == "notebook.open"]
    assert len(opened) == 1
    assert ast.literal_eval(opened[0].args[0]) == artefact
    given = {word.arg: ast.unparse(word.value) for word in opened[0].keywords}
    assert given == {word: word for word in ("profile", "runs_dir", "out_dir", "device")}


@each
def test_says_what_there_is_and_ends_with_saving(name):
    cells = {cell.id: cell.source for cell in code(name)}
    if "here.load" in calls(name):
        assert cells["open"].splitlines()[-1] == "here"
    assert list(cells)[-1] == "save"
    assert calls(name) & {"here.save", "here.save_one"}
    assert not calls(name) & {"save.save", "save.about"}


@but_the_index
def test_only_two_use_torch(name):
    imported = {alias.name for node in trees(name) if isinstance(node, ast.Import) for alias in node.names}
    assert name in USE_TORCH or "torch" not in imported


def test_a_wrong_parameter_is_one_line_and_stops_the_notebook(tmp_path):
    out = tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="quik"):
        papermill.execute_notebook(
            FOLDER / "fig1_class_accuracy.ipynb",
            out,
            {"profile": "quik"},
            kernel_name="python3",
            progress_bar=False,
            cwd=FOLDER,
        )
    (error,) = (o for cell in nbformat.read(out, 4).cells for o in cell.get("outputs", []) if o.output_type == "error")
    (line,) = error.traceback
    assert line.startswith("ProfileError: ") and "\n" not in line


SAME_CELLS = (
    ("table01_class_bias", "table06_class_bias", "table07_class_bias_to_40", "table08_class_bias_alpha"),
    ("table02_group_fairness", "table09_group_fairness_celeba", "table10_group_fairness_trifeature"),
    ("fig3_temperature", "fig8_temperature_to_40"),
)


@pytest.mark.parametrize("names", SAME_CELLS)
def test_notebooks_of_one_kind_differ_in_their_artefact_alone(names):
    """Which studies, temperatures and features an artefact shows is the library's to know."""
    first, *others = (
        [(cell.id, re.sub(r'open\(".*?"', "open(", cell.source)) for cell in code(f"{name}.ipynb")] for name in names
    )
    for other in others:
        assert other == first


@pytest.mark.parametrize("name", [n for n in NOTEBOOKS if n.startswith(("table", "fig", "claims"))])
def test_says_what_the_paper_leaves_open(name):
    artefact = next(key for key, a in ARTEFACTS.items() if a.notebook == name)
    assert len(remarks(artefact)), "a notebook that shows remarks has some"
    assert "here.remarks" in calls(name)


def test_the_board_is_written_as_a_page_too():
    assert "boards.write_markdown" in calls("claims.ipynb")
    assert "board.verdicts" in calls("claims.ipynb")


@but_the_index
def test_text_comes_before_every_step_and_is_careful(name):
    cells = read(name).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        assert cell.cell_type == "markdown" or before.cell_type == "markdown" or before.id == "parameters"
    text = "".join(cell.source for cell in cells if cell.cell_type == "markdown").lower()
    assert not [word for word in NOT_CAREFUL if re.search(rf"\b{word}\b", text)]


@every
def test_no_paths_and_no_bars(name):
    text = "".join(cell.source for cell in read(name).cells)
    assert "/work" not in text
    assert "/home" not in text
    assert "tqdm" not in text


# ---------------------------------------------------------------------------- table 9 on runs with a validation part

SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.001, "batch_size": 256}
STUDY = {
    "augment": {"crop": 4, "flip": True},
    "recipe": "sgd",
    "teacher": {"model": "resnet50", "epochs": 100},
    "student": {"model": "resnet18", "epochs": 100},
    "temperatures": [1, 10],
    "seeds": 5,
}
PART = {"label": "smiling", "train_images": 10, "validation_images": 0, "test_images": 160}
FACES = {
    "profile": "faces",
    "recipes": {"sgd": {**SGD, "milestones": [0.3, 0.6, 0.9], "gamma": 0.1}},
    "studies": {
        "smiling": {"dataset": "celeba", "data": {"label": "smiling"}, **STUDY},
        "sixty-four": {"dataset": "celeba64", "data": PART, **STUDY},
    },
    "artefacts": {"table09": ["smiling", "sixty-four"]},
}
# Wrong of the 40 images of each label and age, every other one of which shows a man.
WRONG = {
    "test": {(1, "young"): 4, (1, "not young"): 12, (0, "young"): 4, (0, "not young"): 8},
    "validation": {(1, "young"): 0, (1, "not young"): 17, (0, "young"): 0, (0, "not young"): 0},
}


def faces(wrong, shift, *, prefix):
    """A run's arrays for one part: in each cell the images 2 * shift, ... are wrong, half of them men's."""
    labels, ages = (np.repeat([key[i] for key in wrong], 40) for i in (0, 1))
    right = np.concatenate([np.roll(np.arange(40) >= n, 2 * shift) for n in wrong.values()])
    predicted = np.where(right, labels, 1 - labels)
    arrays = {
        "logits": (predicted[:, None] == [0, 1]).astype(np.float32),
        "labels": labels,
        "sample_ids": np.array([f"{prefix}{i}" for i in range(160)]),
        "class_names": np.array(["not smiling", "smiling"]),
        "group:young": ages,
        "group:male": np.tile(["male", "female"], 80),
    }
    return {prefix + name: values for name, values in arrays.items()}


@pytest.fixture(scope="module")
def table09(tmp_path_factory):
    """Table 9 in a kernel: a study with a validation part, which is the paper's, and a stand-in without one."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "faces.yaml").write_text(json.dumps(FACES), encoding="utf-8")
    profile = load_profile(folder / "faces.yaml")
    for study in profile.studies.values():
        for shift, run in enumerate(study.runs()):
            arrays = faces(WRONG["test"], shift, prefix="")
            if study.name == "smiling":
                arrays |= faces(WRONG["validation"], shift, prefix="validation:")
            store.save(folder / "runs", run, arrays=arrays, weights=b"", provenance={})
    options = {"profile": profile.path, "runs_dir": folder / "runs", "out_dir": folder / "out"}
    (outcome,) = reproduce.reproduce(["table09"], **options, train=False)
    assert outcome.verdict.startswith("done"), outcome.verdict
    return folder / "out"


def values(folder, name):
    frame = pd.read_csv(folder / f"table09_{name}.csv")
    return frame[frame["model"] == "nds"].set_index("metric")


def test_table_9_has_every_feature_and_part(table09):
    assert sorted(path.stem for path in table09.glob("table09_*.html")) == [
        "table09_sixty-four_male",
        "table09_sixty-four_young",
        "table09_smiling_male",
        "table09_smiling_male_validation",
        "table09_smiling_young",
        "table09_smiling_young_validation",
    ]
    executed = nbformat.read(table09 / "executed" / ARTEFACTS["table09"].notebook, as_version=4)
    (said,) = (
        out.data["text/markdown"]
        for cell in executed.cells
        for out in cell.get("outputs", [])
        if "data" in out
        if "text/markdown" in out.data
    )
    assert re.search(r"^\| smiling \| .* \| 20 \| 160 test, 160 validation \| 0 \|$", said, re.MULTILINE)
    assert re.search(r"^\| sixty-four \| .* \| 20 \| 160 test \| 0 \|$", said, re.MULTILINE)
    for part, file in (("test", "smiling_male"), ("validation", "smiling_male_validation")):
        assert f"groups by Male, {part} part (160 images)" in (table09 / f"table09_{file}.html").read_text()


@pytest.mark.parametrize(
    ("name", "accuracy", "eod", "dpd"),
    [
        # TPR 36 / 40 and 28 / 40, FPR 4 / 40 and 8 / 40; positive 40 / 80 and 36 / 80
        ("smiling_young", 132 / 160, 8 / 40, 4 / 80),
        # TPR 40 / 40 and 23 / 40, no false positives; positive 40 / 80 and 23 / 80
        ("smiling_young_validation", 143 / 160, 17 / 40, 17 / 80),
        # the wrong images of each cell: as many men as women
        ("smiling_male", 132 / 160, 0, 0),
        # of the 17 wrong 9 men: TPR 31 / 40 and 32 / 40; positive 31 / 80 and 32 / 80
        ("smiling_male_validation", 143 / 160, 1 / 40, 1 / 80),
    ],
)
def test_table_9_by_hand(table09, name, accuracy, eod, dpd):
    found = values(table09, name)["mean"]
    assert found[["accuracy", "eod", "dpd"]].tolist() == pytest.approx([accuracy, eod, dpd], abs=1e-12)


def test_the_papers_numbers_stand_beside_its_feature_and_part_alone(table09):
    by_young = values(table09, "smiling_young")["paper_mean"]
    assert by_young[["accuracy", "eod", "dpd"]].tolist() == pytest.approx([0.9203, 0.0611, 0.1060])
    by_male = values(table09, "smiling_male")["paper_mean"]
    assert by_male.isna().all()
    for name in ("smiling_young_validation", "smiling_male_validation", "sixty-four_young"):
        assert "paper_mean" not in values(table09, name)
        assert ", paper" not in (table09 / f"table09_{name}.html").read_text()
