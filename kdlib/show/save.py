"""A figure or a table to files: picture or page, its numbers as CSV, what it shows as JSON. No torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from kdlib import __version__, files
from kdlib.errors import StoreError
from kdlib.paper.stand_in import stand_in_reasons
from kdlib.predictions import Predictions, named_collapsed
from kdlib.show import style, tables
from kdlib.studies import Study

LIST = "KDLIB_SAVED"  # environment variable: a file that gets the path of everything that is saved


def about(study: Study, predictions: Predictions, *, profile: str, shows: str, part: str = "test") -> dict[str, object]:
    """What a saved picture is of: profile, study, reasons of a stand-in or `own`, seeds, runs, and `shows` in words."""
    collapsed = {"collapsed": runs} if (runs := named_collapsed(predictions)) else {}
    return {
        "profile": profile,
        "study": study.name,
        "title": study.title,
        **({"own": True} if study.own else {"stand_in": stand_in_reasons(study)}),
        "seeds": int(predictions.runs["seed"].nunique()),
        "runs": len(predictions.runs),
        "absent": list(predictions.absent),
        **collapsed,
        f"{part}_samples": len(predictions.labels),
        "shows": shows,
        "kdlib": __version__,
    }


def save(
    shown: Figure | Styler, data: pd.DataFrame, *, name: str, out_dir: str | Path, about: Mapping[str, object]
) -> list[Path]:
    """Write name.png and .pdf (a figure) or .html and .tex (a table), with name.csv (`data`) and name.json (`about`,
    and a figure's caption).

    data: the numbers in the picture, shares as fractions. Writing the same thing twice gives the same bytes.
    Returns the paths. Raises StoreError where the folder cannot be written.
    """
    is_figure = hasattr(shown, "savefig")
    contents = {kind: style.rendered(shown, kind) for kind in ("png", "pdf")} if is_figure else tables.rendered(shown)
    contents["csv"] = harmless(data).to_csv(index=False, lineterminator="\n").encode()
    captioned = {"caption": shown.caption} if is_figure and shown.caption else {}
    contents["json"] = files.to_json(dict(about) | captioned) + b"\n"
    paths = [Path(out_dir) / f"{name}.{kind}" for kind in contents]
    make_folder(Path(out_dir))
    for path, content in zip(paths, contents.values(), strict=True):
        files.replace_file(path, content)
    note(*paths)
    return paths


def note(*paths: Path) -> None:
    """Add files to the list of what this process saved, where `reproduce` asked for one."""
    if listed := os.environ.get(LIST):
        with open(listed, "a", encoding="utf-8") as file:
            file.writelines(f"{path}\n" for path in paths)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there, that can be written. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error}. Choose another out_dir.") from error


def harmless(data: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe: names of classes can be anyone's."""
    risky = tuple("=+-@\t\r")
    return data.map(lambda value: f"'{value}" if isinstance(value, str) and value.startswith(risky) else value)
