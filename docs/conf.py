"""Sphinx: `make site` builds build/site from what tools/website.py put beside a copy of this file. No network."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import kdlib

ACCENTS = ("\u02c9", "\u02c6", "~", "^")  # bar, hat, tilde
MATHML = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", MATHML)

project = "kdlib"
author = "kdlib authors"
version = release = kdlib.__version__
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_extra"]

nb_execution_mode = "off"  # pages show what a reproduction wrote
nb_render_markdown_format = "gfm"  # tables in what a cell shows
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # annotations name classes of numpy and pandas, which are not documented here

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
add_module_names = False
default_role = "literal"

html_title = "kdlib"
html_theme = "pydata_sphinx_theme"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_extra_path = ["_extra"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "light"}  # pictures and tables are drawn on white
NAVIGATION = ["sidebar-nav-bs"]
GUIDES = ("guides", "reproduce", "audit", "sample_audit", "own_study", "plan", "cluster", "gpu")
html_sidebars = {"*": [], "tables/*": [], "artefacts/*": NAVIGATION}
html_sidebars |= dict.fromkeys(("artefacts", *GUIDES), NAVIGATION)
html_theme_options = {
    "logo": {"text": "kdlib"},
    "navbar_end": [],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"*": ["page-toc"], "index": [], "artefacts/*": []},
    "back_to_top_button": False,
}
copyright = "kdlib authors, MIT license"


def readable(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are plain text for readers of code: lists and tables keep their shape, asterisks stay asterisks."""
    paragraphs = "\n".join(lines).strip("\n").split("\n\n")
    lines[:] = "\n\n".join(map(_paragraph, paragraphs)).splitlines() + [""]


def _paragraph(text: str) -> str:
    """reStructuredText of a paragraph: verbatim from its first line that is indented or in columns."""
    rows = text.split("\n")
    first = next((n for n, row in enumerate(rows) if re.search(r"\S {2,}\S|^ +\S", row)), len(rows))
    flat, fixed = _escaped("\n".join(rows[:first])), "\n".join(f"   {row}" for row in rows[first:])
    return "\n\n".join(part for part in (flat, f"::\n\n{fixed}" if fixed else "") if part)


def _escaped(text: str) -> str:
    """Text with code in double backticks and every other mark of reStructuredText taken as it is."""
    parts = re.split(r"`([^`]+)`", text)
    marked = [f"\\ ``{part}``\\ " if n % 2 else re.sub(r"([*|_\\])", r"\\\1", part) for n, part in enumerate(parts)]
    return "".join(marked)


def mathml(translator, node, display: bool) -> None:
    """Mathematics as MathML, which browsers draw by themselves: nothing to load."""
    text = tex2mathml(node.astext(), as_block=display)
    text = re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda entity: html.unescape(entity[0]), text)
    tree = ElementTree.fromstring(text)
    for both in list(tree.iter(f"{{{MATHML}}}munderover")):  # docutils puts the index of an accented letter below it
        letter, index, over = both
        if over.text in ACCENTS:
            both.tag = f"{{{MATHML}}}msub"
            both[:] = [ElementTree.Element(f"{{{MATHML}}}mover", accent="true"), index]
            both[0].extend([letter, over])
    text = ElementTree.tostring(tree, encoding="unicode")
    translator.body.append(f'<div class="equation" tabindex="0">{text}</div>' if display else text)
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer(
        "mathml",
        (lambda translator, node: mathml(translator, node, False), None),
        (lambda translator, node: mathml(translator, node, True), None),
    )
    app.connect("autodoc-process-docstring", readable)
