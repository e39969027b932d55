"""What is generated of the README: the table of artefacts, the board of claims, and the gallery of pictures.

`python tools/readme.py` writes it from the last `make reproduce`. What it is made of stays in the gallery, so that a
test can compare.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from kdlib import places
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import InvalidInput
from kdlib.reproduce import first_output
from kdlib.show.boards import SEEN, numbers_of
from kdlib.studies import load_profile

PICTURES = (
    "fig1_digits.png",
    "fig2_digits.png",
    "fig3_digits.png",
    "fig4_trifeature-shape-small_color.png",
    "fig7_trifeature.png",
)
GALLERY = (*PICTURES, "claims.csv", "claims.md", "summary.json")


def artefact_table(summary: list[dict[str, Any]]) -> str:
    """One row per artefact: notebook, what the quick profile trains for it, the file to open first, seconds.

    summary: the entries of a summary.json; its seconds are those of the notebook alone.
    """
    quick = load_profile(places.project_root() / "params/quick.yaml")
    made = {entry["artefact"]: entry for entry in summary}
    rows = ["| artefact | what | notebook | quick studies | output | seconds |", "|---|---|---|---|---|---|"]
    for name, artefact in ARTEFACTS.items():
        link = f"[{artefact.notebook}](notebooks/{artefact.notebook})"
        output, seconds = ("", "")
        if name in made and made[name]["outputs"]:
            output, seconds = f"`{first_output(made[name]['outputs'])}`", f"{made[name]['seconds']:.0f}"
        studies = ", ".join(quick.artefacts.get(name, []))
        rows.append(f"| {name} | {artefact.title} | {link} | {studies} | {output} | {seconds} |")
    return "\n".join(rows)


def claims_board(board: pd.DataFrame) -> str:
    """One row per claim of the paper: the verdict, the study that decides, and what the same rule finds on a stand-in.

    board: what `claims.board.verdicts` returned.
    """
    rows = ["| claim | verdict on the paper | study that decides | the same rule on a stand-in |", "|---|---|---|---|"]
    for row in board.to_dict("records"):
        found = numbers_of(row, "stand_in_")
        beside = f"{row['stand_in_verdict']}{f': {found}' if found else ''}"
        rows.append(f"| {row['claim']}. {row['says']} | **{row['verdict']}** | {row['study']} | {beside} |")
    return "\n".join(rows)


def real_data_board(rows: pd.DataFrame) -> str:
    """One row per claim: for each study of real data whether the trend is seen, with its number, interval and p.

    rows: what `board.by_study` returned; those without a study are left out.
    """
    lines = ["| what the paper says | on real data at this size |", "|---|---|"]
    tried = rows[rows["verdict"] != "not run"]
    for _, found in tried.groupby("claim", sort=True):
        each = [
            f"{row['studies']}: **{SEEN.get(row['verdict'], row['verdict'])}**, {numbers_of(row)}"
            for row in found.to_dict("records")
        ]
        lines.append(f"| {found['claim'].iloc[0]}. {found['says'].iloc[0]} | {'<br>'.join(each)} |")
    return "\n".join(lines)


def first_table(text: str) -> str:
    """The first Markdown table of a text, and the paragraph before it."""
    lines = [line for line in text.splitlines() if not line.startswith("<!--")]
    paragraphs = "\n".join(lines).split("\n\n")
    place = next(i for i, part in enumerate(paragraphs) if part.startswith("|"))
    return "\n\n".join(paragraphs[max(place - 1, 0) : place + 1])


def with_section(text: str, name: str, body: str) -> str:
    """The README with `body` between the marks of a section. Raises InvalidInput if they are not there."""
    start, end = f"<!-- {name}: written by `python tools/readme.py` -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise InvalidInput(f"README.md lacks the lines {start} and {end}; put them where {name} belong.")
    head, rest = text.split(start, 1)
    return f"{head}{start}\n\n{body}\n\n{end}{rest.split(end, 1)[1]}"


def generated(text: str, gallery: Path) -> str:
    """The README with every generated section written anew from the gallery."""
    summary = json.loads((gallery / "summary.json").read_text(encoding="utf-8"))
    speed = (places.project_root() / "benchmarks/results/table.md").read_text(encoding="utf-8")
    text = with_section(text, "artefacts", artefact_table(summary))
    text = with_section(text, "claims", claims_board(pd.read_csv(gallery / "claims.csv")))
    real = places.figures_dir("real-small") / "claims_by_study.csv"
    text = with_section(text, "real data", real_data_board(pd.read_csv(real)))
    return with_section(text, "speed", first_table(speed))


def update() -> list[Path]:
    """Rewrite README.md and the gallery from figures/quick/, and say what was written.

    Raises InvalidInput where `make reproduce` has not been run.
    """
    made = places.figures_dir("quick")
    gallery, readme = made / "gallery", places.project_root() / "README.md"
    missing = [name for name in GALLERY if not (made / name).is_file()]
    if missing:
        raise InvalidInput(f"{made} lacks {', '.join(missing)}; run `make reproduce` first.")
    gallery.mkdir(exist_ok=True)
    written = [Path(shutil.copy(made / name, gallery / name)) for name in GALLERY]
    readme.write_text(generated(readme.read_text(encoding="utf-8"), gallery), encoding="utf-8")
    return [readme, *written]


if __name__ == "__main__":
    print(*update(), sep="\n")
