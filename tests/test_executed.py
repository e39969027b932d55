"""The committed executed notebooks, run again: every output and saved file is the one committed.

nbval compares text and tables cell by cell. It leaves pictures out, but each one is also saved as a file, and the saved
files are compared too. The notebooks run in this Python and in a copy of their folders: nothing is written here. One
more cell at the end of each says whether torch was loaded, which measuring does without.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from kdlib import places
from kdlib.data import celeba
from kdlib.show import celeba_attributes
from tests.conftest import make_project

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ("real-small", "confirm", "trifeature", "ablations")
EXECUTED = [
    f"{profile}/{path.stem}"
    for profile in PROFILES
    for path in sorted((ROOT / "figures" / profile / "executed").glob("*.ipynb"))
]
# They say what is in CelebA's lists, which not everybody has. The other cells of these notebooks run all the same.
NEED_LISTS = {("real-small/fig6_celeba_attributes", cell) for cell in (2, 3, 5)}
NEED_LISTS |= {("real-small/table05_celeba_training", cell) for cell in (2, 4, 6)}
NO_LISTS = bool(celeba_attributes.not_run(places.data_dir() / celeba.FOLDER))
X86 = platform.machine() in ("x86_64", "AMD64")
LOADED = {  # the cell, and what it must say
    "cell_type": "code",
    "execution_count": 1,
    "id": "loaded",
    "metadata": {},
    "outputs": [{"output_type": "stream", "name": "stdout", "text": ["set()\n"]}],
    "source": ["import sys\n", "print({'torch', 'kdlib.training.sweep'} & set(sys.modules))"],
}
PROCESSES = 3  # more than two cores, because notebooks do not take the same time

pytestmark = pytest.mark.notebooks


def notebook(stem):
    """Where 'real-small/fig1_class_accuracy' is, from the root."""
    profile, name = stem.split("/")
    return Path("figures", profile, "executed", f"{name}.ipynb")


def code_cells(stem):
    read = json.loads((ROOT / notebook(stem)).read_text("utf-8"))
    return range(sum(cell["cell_type"] == "code" for cell in read["cells"]))


def as_test(stem, cell):
    absent = NO_LISTS and (stem, cell) in NEED_LISTS
    marks = pytest.mark.skipif(absent, reason=f"{stem}, cell {cell}: shows CelebA's lists, which are not there")
    return pytest.param(stem, cell, id=f"{stem}-{cell}", marks=marks)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with what a notebook reads of the project: it finds the profile and writes its files there."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params", folder / "params")
    for profile in PROFILES:
        for part in ("executed", "predictions"):
            shutil.copytree(ROOT / "figures" / profile / part, folder / "figures" / profile / part)
    for stem in EXECUTED:
        path = folder / notebook(stem)
        read = json.loads(path.read_text("utf-8"))
        read["cells"].append(LOADED)
        path.write_text(json.dumps(read), "utf-8")
    make_project(folder)
    return folder


@pytest.fixture(scope="module")
def said(project, request):
    """{notebook: what nbval said}, of the notebooks whose tests were selected."""
    wanted = [stem for stem in EXECUTED if any(stem in item.name for item in request.session.items)] or EXECUTED
    parts = [part for first in range(PROCESSES) if (part := wanted[first::PROCESSES])]
    with ThreadPoolExecutor(PROCESSES) as pool:
        texts = pool.map(lambda part: nbval(part, project), parts)
    return {stem: text for part, text in zip(parts, texts, strict=True) for stem in part}


def nbval(stems, project):
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-rA", "--color=no"]
    command += map(notebook, stems)
    environment = os.environ | {"KDLIB_DATA": str(places.data_dir()), "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(("stem", "cell"), [as_test(stem, cell) for stem in EXECUTED for cell in code_cells(stem)])
def test_a_cell_says_what_it_said(stem, cell, said):
    check(stem, cell, said)


@pytest.mark.parametrize("stem", EXECUTED)
def test_measuring_released_predictions_needs_no_torch(stem, said):
    check(stem, len(code_cells(stem)), said)


def check(stem, cell, said):
    name = f"{notebook(stem)}::Cell {cell}"
    if f"\nPASSED {name}\n" not in said[stem]:
        section = re.search(rf"^_+ {re.escape(name)} _+$(.+?)^[_=]{{3}}", said[stem], re.MULTILINE | re.DOTALL)
        pytest.fail(section[1] if section else said[stem][-5000:], pytrace=False)


@pytest.mark.skipif(not X86, reason="the files were made on x86-64; float32 exp differs by 1e-8 elsewhere")
@pytest.mark.parametrize("profile", PROFILES)
def test_the_saved_files_are_the_committed_ones(profile, said, project, tmp_path):
    """Tables by value, pages and pictures exactly; a PDF is the same picture as the PNG of its name."""
    figures = Path("figures", profile)
    written = {path.name for path in (project / figures).iterdir() if path.is_file()}
    names = sorted(name for name in written if (ROOT / figures / name).is_file())  # else a cell has said another name
    before, after = tmp_path / "before", tmp_path / "after"
    for root, folder in ((ROOT, before), (project, after)):
        folder.mkdir()
        for name in names:
            shutil.copy(root / figures / name, folder)
    command = [sys.executable, ROOT / "tools/compare_tables.py", before, after]
    compared = subprocess.run(command, capture_output=True, text=True)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert [name for name in names if not same(before / name, after / name)] == []


def same(before, after):
    if before.suffix == ".png":
        return np.array_equal(imread(before), imread(after))
    return before.suffix not in (".html", ".tex", ".md") or before.read_bytes() == after.read_bytes()
