"""Notebooks are thin, take the same four parameters, are committed without outputs, and there is one an artefact."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from kdlib.catalogue import ARTEFACTS
from kdlib.places import project_root
from kdlib.remarks import remarks

FOLDER = project_root(Path(__file__)) / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
PARAMETERS = 'profile = "quick"\nruns_dir = ""\nout_dir = ""\ndevice = "auto"'
USE_TORCH = {"00_walkthrough.ipynb", "fig7_trifeature.ipynb"}
NOT_CAREFUL = ("bias-free", "unbiased", "debiased", "fair model", "unfair", "proves", "no effect of distillation")

each = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    return nbformat.read(FOLDER / name, as_version=nbformat.NO_CONVERT)


def code(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def trees(name):
    return [node for cell in code(name) for node in ast.walk(ast.parse(cell.source))]


def calls(name):
    return {ast.unparse(node.func) for node in trees(name) if isinstance(node, ast.Call)}


def test_one_notebook_an_artefact_and_the_reverse():
    assert sorted(a.notebook for a in ARTEFACTS.values() if a.notebook) == NOTEBOOKS


@each
def test_valid_with_stable_ids_and_the_plain_kernel(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(word.isalpha() for id_ in ids for word in id_.split("-")), "an id in words does not change when saved"


@each
def test_committed_without_outputs(name):
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(name))


@each
def test_thin(name):
    cells = code(name)
    assert len(cells) <= 10
    assert max(len(cell.source.splitlines()) for cell in cells) <= 15
    heavy = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.While
    assert not any(isinstance(node, heavy) for node in trees(name))


@each
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
    opened = [call for call in made if ast.unparse(call.func) == "reproduce.workspace"]
    assert len(opened) == 1
    assert ast.literal_eval(opened[0].args[0]) == artefact
    given = {word.arg: ast.unparse(word.value) for word in opened[0].keywords}
    assert given == {word: word for word in ("profile", "runs_dir", "out_dir", "device")}


@each
def test_says_what_stands_in_and_saves_what_it_shows(name):
    assert "here.notice" in "".join(cell.source for cell in code(name))
    assert "figures.save" in calls(name)


@each
def test_ends_with_checks_that_assert(name):
    last = code(name)[-1]
    assert last.id == "checks"
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(last.source))) >= 4


@each
def test_measures_without_torch(name):
    text = "".join(cell.source for cell in code(name))
    imported = {alias.name for node in trees(name) if isinstance(node, ast.Import) for alias in node.names}
    if name in USE_TORCH:
        assert "sys.modules" not in text
    else:
        assert "torch" not in imported
        assert '"torch" not in sys.modules' in text


SAME_CELLS = (
    ("table01_class_bias", "table06_class_bias", "table07_class_bias_to_40", "table08_class_bias_alpha"),
    ("table02_group_fairness", "table09_group_fairness_celeba", "table10_group_fairness_trifeature"),
    ("fig3_temperature", "fig8_temperature_to_40"),
)


@pytest.mark.parametrize("names", SAME_CELLS)
def test_notebooks_of_one_kind_differ_in_their_artefact_alone(names):
    """Which studies, temperatures and features an artefact shows is the library's to know."""
    first, *others = (
        [(cell.id, re.sub(r'workspace\(".*?"', "workspace(", cell.source)) for cell in code(f"{name}.ipynb")]
        for name in names
    )
    for other in others:
        assert other == first


@pytest.mark.parametrize("name", [n for n in NOTEBOOKS if n.startswith(("table", "fig", "claims"))])
def test_says_what_the_paper_leaves_open(name):
    artefact = next(key for key, a in ARTEFACTS.items() if a.notebook == name)
    assert len(remarks(artefact)), "a notebook that shows remarks has some"
    assert "boards.remarks_table" in calls(name)


def test_the_board_is_written_as_a_page_too():
    assert "boards.write_markdown" in calls("claims.ipynb")
    assert "paper.verdicts" in calls("claims.ipynb")


@each
def test_text_comes_before_every_step_and_is_careful(name):
    cells = read(name).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        assert cell.cell_type == "markdown" or before.cell_type == "markdown" or before.id == "parameters"
    text = "".join(cell.source for cell in cells if cell.cell_type == "markdown").lower()
    assert not [word for word in NOT_CAREFUL if re.search(rf"\b{word}\b", text)]


@each
def test_no_paths_and_no_bars(name):
    text = "".join(cell.source for cell in read(name).cells)
    assert "/work" not in text
    assert "/home" not in text
    assert "tqdm" not in text
