"""What is generated of the README: the table of artefacts, and the gallery of pictures that it shows.

Both come from the last `make reproduce`; a copy of its summary stays in the gallery, so that a test can compare.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from kdlib import places
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import InvalidInput
from kdlib.reproduce import first_output
from kdlib.studies import load_profile

START, END = "<!-- artefacts: written by `python -m kdlib readme` -->", "<!-- /artefacts -->"
GALLERY = (
    "fig1_digits.png",
    "fig2_digits.png",
    "fig3_digits.png",
    "fig4_trifeature-shape_color.png",
    "fig7_trifeature.png",
)


def artefact_table(summary: list[dict[str, Any]]) -> str:
    """One row an artefact: notebook, what the quick profile trains for it, the file to open first, seconds.

    summary: the entries of a summary.json; its seconds are those of the notebook alone.
    """
    quick = load_profile(places.project_root() / "params/quick.yaml")
    made = {entry["artefact"]: entry for entry in summary}
    rows = ["| artefact | what | notebook | quick studies | output | seconds |", "|---|---|---|---|---|---|"]
    for name, artefact in ARTEFACTS.items():
        link = f"[{artefact.notebook}](notebooks/{artefact.notebook})" if artefact.notebook else "to come"
        output, seconds = ("", "")
        if name in made and made[name]["outputs"]:
            output, seconds = f"`{first_output(made[name]['outputs'])}`", f"{made[name]['seconds']:.0f}"
        studies = ", ".join(quick.artefacts.get(name, []))
        rows.append(f"| {name} | {artefact.title} | {link} | {studies} | {output} | {seconds} |")
    return "\n".join(rows)


def with_table(text: str, table: str) -> str:
    """The README with the table between its marks. Raises InvalidInput if they are not there."""
    if START not in text or END not in text:
        raise InvalidInput(f"README.md lacks the lines {START} and {END}; put them where the table belongs.")
    head, rest = text.split(START, 1)
    return f"{head}{START}\n\n{table}\n\n{END}{rest.split(END, 1)[1]}"


def update() -> list[Path]:
    """Rewrite README.md and the gallery from figures/quick/, and say what was written.

    Raises InvalidInput where `make reproduce` has not been run.
    """
    made = places.figures_dir("quick")
    gallery, readme = made / "gallery", places.project_root() / "README.md"
    missing = [name for name in (*GALLERY, "summary.json") if not (made / name).is_file()]
    if missing:
        raise InvalidInput(f"{made} lacks {', '.join(missing)}; run `make reproduce` first.")
    gallery.mkdir(exist_ok=True)
    written = [Path(shutil.copy(made / name, gallery / name)) for name in (*GALLERY, "summary.json")]
    table = artefact_table(json.loads((gallery / "summary.json").read_text(encoding="utf-8")))
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
    return [readme, *written]
