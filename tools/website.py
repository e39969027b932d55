"""Puts together the sources of the website in build/site-source: the pages of docs/ and one page per artefact.

`make site` runs it and then Sphinx. Artefacts are the executed notebooks of figures/real-small, else of figures/quick,
else the notebook as it is; nothing is executed here. A sample audit is made from released predictions.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

import kdlib
from kdlib import places
from kdlib.catalogue import ARTEFACTS

ROOT = places.project_root()
SOURCES = ROOT / "build/site-source"
UP = "../../"  # from SOURCES to the root
SAMPLE = "celeba64-smiling"
MADE_OF = {
    "real-small": "Executed on released predictions of real data at a small size (`kdlib reproduce {name} --profile "
    "real-small` does it again in a minute). Nothing here judges the paper.",
    "quick": "Executed on the quick profile's stand-ins, which say nothing about the paper (`kdlib reproduce {name}`).",
    "": "Not executed here: `kdlib reproduce {name}` trains its stand-ins and runs it.",
}


def main() -> None:
    """Write all sources anew."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCES, ignore=shutil.ignore_patterns("*.md", "__pycache__"))
    for folder in ("_extra", "artefacts", "tables"):
        (SOURCES / folder).mkdir()
    for page in sorted((ROOT / "docs").glob("*.md")):
        (SOURCES / page.name).write_text(page_of(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name in ARTEFACTS:
        nbformat.write(artefact_page(name), SOURCES / f"artefacts/{name}.ipynb")
    sample_audit()


def page_of(text: str) -> str:
    """A page of docs/ as the site has it: saved tables shown in place, links that lead to pages of the site."""
    text = re.sub(
        r"^\[[^\]]+\]\(\.\./([^)\s]+\.html)\)$", lambda found: table(ROOT / found[1]), text, flags=re.MULTILINE
    )
    text = re.sub(r"^(!\[[^\]]*\]\(\.\./([^)\s]+)\.png\))$", _with_caption, text, flags=re.MULTILINE)
    text = re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./([^)\s]+)\)", lambda found: link(found[1], found[2]), text)
    listed = "".join(f"artefacts/{name}\n" for name in ARTEFACTS)
    return text.replace("](../", f"]({UP}").replace("artefacts/*\n", listed)


def link(words: str, path: str) -> str:
    """A link to a file outside docs/: a notebook's page, a saved table or picture to open, or something to download."""
    pages = {artefact.notebook: name for name, artefact in ARTEFACTS.items()}
    name = Path(path).name
    if name in pages:
        return f"[{words}](artefacts/{pages[name]}.ipynb)"
    if name.endswith(".html"):
        return f"[{words}](tables/{table_page(ROOT / path)})"
    if name.endswith(".png"):
        shutil.copy(ROOT / path, SOURCES / "_extra" / name)
        return f'<a href="{name}">{words}</a>'
    return f"{{download}}`{words} <{UP}{path}>`"


def table(path: Path) -> str:
    """The style and the table of a saved HTML file, to stand in a page; its caption above, as wide as the page."""
    text = path.read_text(encoding="utf-8")
    style, body = (re.search(rf"<{tag}.*</{tag}>", text, flags=re.DOTALL)[0] for tag in ("style", "table"))
    caption = re.search(r"<caption>(.*?)</caption>", body, flags=re.DOTALL)
    body = body.replace(caption[0], "")
    scroll = f'<div tabindex="0" role="region" aria-label="{path.stem.replace("_", " ")}">{body}</div>'
    figure = f'<figure class="wide">\n<figcaption>{caption[1].strip()}</figcaption>\n{scroll}\n</figure>'
    return f"```{{raw}} html\n{style}\n{figure}\n```"


def table_page(path: Path) -> str:
    """Write a page with a saved table alone, titled by the first line of its caption; the page's file name."""
    page = SOURCES / f"tables/{path.stem}.md"
    title = re.search(r"<caption>\s*([^\n<]+)", path.read_text(encoding="utf-8"))[1]
    page.write_text(f"---\norphan: true\n---\n\n# {html.unescape(title)}\n\n{table(path)}\n", encoding="utf-8")
    return page.name


def _with_caption(found: re.Match[str]) -> str:
    """A picture, and below it the caption that was saved beside it."""
    about = ROOT / f"{found[2]}.json"
    caption = json.loads(about.read_text(encoding="utf-8")).get("caption", "") if about.is_file() else ""
    return f"{found[1]}\n\n*{caption}*" if caption else found[1]


def artefact_page(name: str) -> NotebookNode:
    """The notebook of an artefact as a page: what it was executed on, and its data to download, below its title."""
    profile, path = _executed(name)
    notebook = nbformat.read(path, as_version=4)
    files = sorted((ROOT / f"figures/{profile}").glob(f"{name}_*.csv")) if profile else []
    links = [f"{{download}}`{file.name} <../{UP}{file.relative_to(ROOT)}>`" for file in [path, *files]]
    listed = "\n".join(f"- {link}" for link in links)
    about = "the notebook and its tables" if files else "the notebook"
    details = f"<details><summary>Download {about}</summary>\n\n{listed}\n\n</details>"
    told = f"{MADE_OF[profile].format(name=name)}\n\n{details}"
    for cell in notebook.cells:
        cell.metadata["mystnb"] = {"image": {"alt": f"{ARTEFACTS[name].title}, described in the text"}}
    if profile:  # the defaults that these parameters replace
        notebook.cells = [cell for cell in notebook.cells if "parameters" not in cell.metadata.get("tags", [])]
    notebook.cells.insert(1, new_markdown_cell(told, id="about-this-page"))
    return notebook


def _executed(name: str) -> tuple[str, Path]:
    """(profile, executed notebook) of an artefact; ('', the notebook as it is) where nobody executed it."""
    notebook = ARTEFACTS[name].notebook
    for profile in ("real-small", "quick"):
        path = ROOT / f"figures/{profile}/executed/{notebook}"
        if path.is_file():
            return profile, path
    return "", ROOT / "notebooks" / notebook


def sample_audit() -> None:
    """An audit of a released study: the page that a user gets, and a page of the site that leads to it."""
    study = kdlib.load_profile("real-small").study(SAMPLE)
    kdlib.audit(kdlib.collect(study), sensitive=("young", "male"), out=SOURCES / "_extra/sample_audit_report.html")
    text = f"""# A sample audit

What `kdlib audit` writes, made when this site was built from the released predictions of {study.title}:
teachers, students trained on labels alone (NDS) and distilled students (DS), groups by Young and Male.

<a href="sample_audit_report.html">Open the report</a>
"""
    (SOURCES / "sample_audit.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
