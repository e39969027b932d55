"""Every notebook runs in JupyterLab, in a real browser: no cell fails, none complains. `make test-browser` runs this.

Pictures of what was seen go to the folder KDLIB_SCREENSHOTS, where it is set.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from kdlib import places
from kdlib.catalogue import ARTEFACTS
from kdlib.studies import load_profile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make test-browser installs it")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SEEN = os.environ.get("KDLIB_SCREENSHOTS")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
RELEASED = {ARTEFACTS[name].notebook for name in load_profile("real-small").artefacts} | {"explore.ipynb"}
RUN_ALL = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await app.commands.execute('notebook:run-all-cells');
    return panel.content.model.toJSON().cells;
}"""
SHUT_DOWN = "async () => await window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a JupyterLab on a copy of the notebooks: released runs, else those of quick."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(FOLDER, folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for path in (folder / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text("utf-8"))
        profile = "real-small" if path.name in RELEASED else "quick"
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = [
                    f'profile = "{profile}"\n',
                    'runs_dir = ""\n',
                    f'out_dir = "{folder / "out"}"\n',
                    'device = "none"',
                ]
        path.write_text(json.dumps(notebook), encoding="utf-8")
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    options += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    environment = os.environ | {"KDLIB_DATA": str(places.data_dir()), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    environment |= {"JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "work")}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], stderr=log, env=environment)
    try:
        yield _address(process, folder)
    finally:
        process.terminate()
        process.wait(30)


def _address(process, folder):
    patience = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < patience:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", (folder / "log").read_text("utf-8")):
            urllib.request.urlopen(f"{found[0]}api/status", timeout=30).close()
            return found[0]
        time.sleep(0.2)
    pytest.fail((folder / "log").read_text("utf-8")[-3000:], pytrace=False)


@pytest.fixture(scope="module")
def page(server):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser.new_page(viewport={"width": 1400, "height": 4000 if SEEN else 1000})
        browser.close()


def run_all(server, page, name):
    """Open a notebook, run all of its cells, and return them."""
    page.goto(f"{server}lab/workspaces/{name}/tree/{name}.ipynb?reset")
    page.wait_for_function("window.jupyterapp !== undefined", timeout=60_000)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    return page.evaluate(RUN_ALL)


def picture(page, name):
    if SEEN:
        Path(SEEN).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SEEN) / f"{name}.png")


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs_in_jupyterlab(server, page, name):
    cells = run_all(server, page, name)
    picture(page, name)
    page.evaluate(SHUT_DOWN)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    errors = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
    if any(error.startswith("NotTrained") for error in errors):
        pytest.skip(f"needs the runs of the quick profile: {errors[0]}")
    assert not errors
    assert all(cell["execution_count"] for cell in code)
    told = [o["text"] for o in outputs if o.get("name") == "stderr"]
    assert not [text for text in told if "KdlibWarning" not in text]  # ours, of a run that collapsed, is to be seen


ANSWER = ".jupyter-widgets.widget-html .widget-html-content"


def test_the_explorer_answers_when_a_control_is_moved(server, page):
    run_all(server, page, "explore")
    answer = page.locator(ANSWER).first
    answer.get_by_text("classes differ").wait_for(timeout=60_000)
    first = answer.inner_text()
    page.locator(".widget-hslider", has_text="level").locator(".noUi-handle").press("ArrowLeft")
    answer.get_by_text("(p ≤ 0.01)").wait_for(timeout=20_000)
    moved = answer.inner_text()
    picture(page, "explore_level")
    page.locator(".widget-dropdown", has_text="correction").locator("select").select_option("Holm")
    answer.get_by_text("corrected p").wait_for(timeout=20_000)
    corrected = answer.inner_text()
    page.get_by_role("tab", name="disagreement").click()
    answer.get_by_text("disagree on").wait_for(timeout=20_000)
    picture(page, "explore_disagreement")
    page.evaluate(SHUT_DOWN)
    counts = [int(text.split(" of ")[0]) for text in (first, moved, corrected)]
    assert counts[0] > counts[1] > counts[2], f"stricter tests find fewer classes: {counts}"
