"""The website's sources are complete, and building it raises no warning."""

import importlib.util
import re
import subprocess
import sys

import nbformat
import pytest

import kdlib
from kdlib import places
from kdlib.catalogue import ARTEFACTS

ROOT = places.project_root()
_SPEC = importlib.util.spec_from_file_location("website", ROOT / "tools/website.py")
website = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(website)
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.setattr(website, "SOURCES", tmp_path)
    for folder in ("_extra", "tables"):
        (tmp_path / folder).mkdir()
    return tmp_path


def listed(text):
    """The pages in the toctrees of a page."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    return {re.sub(r".*<(.+)>", r"\1", line) for line in lines}


def test_every_page_is_in_a_toctree_and_every_entry_a_page():
    entries = set().union(*map(listed, PAGES.values()))
    written_when_built = {"artefacts/*", "sample_audit"}
    assert entries == set(PAGES) - {"index"} | written_when_built


def test_every_artefact_has_a_page(sources):
    assert listed(website.page_of(PAGES["artefacts"])) == {f"artefacts/{name}" for name in ARTEFACTS}
    for name in ARTEFACTS:
        page = website.artefact_page(name)
        nbformat.validate(page)
        assert page.cells[0].source.startswith("# "), name
        assert f"kdlib reproduce {name}" in page.cells[1].source and ".ipynb" in page.cells[1].source


def test_a_page_offers_the_data_of_its_artefact():
    page = website.artefact_page("fig3")
    for path in (ROOT / "figures/real-small").glob("fig3_*.csv"):
        assert f"{path.name} <" in page.cells[1].source
    assert "parameters" not in {tag for cell in page.cells for tag in cell.metadata.get("tags", [])}


def test_saved_tables_stand_in_the_page_without_their_head(sources):
    html = "<html><head><style>a</style></head><table><caption>One & two\nmore</caption><tr></tr></table></html>"
    (sources / "x.html").write_text(html, encoding="utf-8")
    shown = website.table(sources / "x.html")
    assert "<figcaption>One & two\nmore</figcaption>" in shown and "<table><tr></tr></table>" in shown
    assert "<html>" not in shown and 'aria-label="x"' in shown


def test_links_lead_to_pages_of_the_site(sources):
    text = "[a](../notebooks/fig3_temperature.ipynb) [b](../figures/x.csv) [c](results.md) ![d](../figures/x.png)"
    assert website.page_of(text) == (
        "[a](artefacts/fig3.ipynb) {download}`b <../../figures/x.csv>` [c](results.md) ![d](../../figures/x.png)"
    )


def test_the_api_has_every_public_module():
    shown = set(re.findall(r"automodule:: (\S+)", PAGES["api"]))
    assert {target.split(":")[0] for target in kdlib.PUBLIC.values()} <= shown
    assert "kdlib.__main__" not in shown  # importing it would run the command


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing(tmp_path):
    subprocess.run([sys.executable, "tools/website.py"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{tmp_path}/doctrees"]
    command += ["build/site-source", f"{tmp_path}/site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    pages = list(site.rglob("*.html"))
    assert {f"artefacts/{name}.html" for name in ARTEFACTS} <= {str(page.relative_to(site)) for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert len(text) < 2e6, page
        assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=.(?:https?:)?//", text), page
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 25e6
