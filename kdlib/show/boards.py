"""Tables of sentences: the claims and their verdicts, what the paper leaves open, the DPD its numbers leave possible.

As HTML and LaTeX through `tables.rendered`, the claims as Markdown too. No torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from kdlib import files
from kdlib.measure.arms import MODEL_ORDER
from kdlib.paper import attainable, silences
from kdlib.show import save, tables

SHADES, WORDS = tables.WORDS["verdict_shades"], tables.WORDS["claims"]
ON_THE_STAND_IN = "the same rule on a stand-in (says nothing about the paper)"
VERDICT_FIRST = {"selector": "td.col2::first-line, td.col3::first-line", "props": [("font-weight", "600")]}


def claims_table(board: pd.DataFrame, *, title: str) -> Styler:
    """The board of `verdicts`, one row per claim, for readers; title names the profile.

    The column on the stand-in only where one was used.
    """
    rows = board.to_dict("records")
    cells = {
        "claim": board["claim"].astype(str) + ". " + board["says"],
        "what is tested": board["tested"] + "\n(study: " + board["study"] + ")",
        "on the paper": [f"{row['verdict']}\n{_found(row, '')}" for row in rows],
    }
    if board["stand_in"].any():
        cells[ON_THE_STAND_IN] = [f"{row['stand_in_verdict']}\n{_found(row, 'stand_in_')}" for row in rows]
    shown = tables.text_table(pd.DataFrame(cells), "\n".join([title, WORDS["words"], WORDS["note"]]), wrap=True)
    shown = (
        shown.hide(axis="index").map(_shade, subset=["on the paper"]).set_table_styles([VERDICT_FIRST], overwrite=False)
    )
    return shown.set_properties(subset=list(cells)[2:], **{"min-width": "14em"})


def _shade(cell: str) -> str:
    return f"background-color: {SHADES[cell.partition(chr(10))[0]]}"


def _found(row: dict[str, object], prefix: str) -> str:
    """The sentence, which has the numbers, and over what they are; after the stand-in's name."""
    name = f"{row['stand_in']}: " if prefix and row["stand_in"] else ""
    lines = [name + str(row[f"{prefix}sentence"]).removeprefix("Not run: ")]
    if row[f"{prefix}verdict"] != "not run":
        p, holm, blocks, temperatures = (row[prefix + name] for name in ("p", "p_holm", "n_blocks", "n_temperatures"))
        corrected = "" if np.isnan(holm) or holm == p else f"with Holm's correction p = {holm:.2g}; "
        lines.append(f"{corrected}{blocks} blocks, {temperatures} temperature{'s' if temperatures > 1 else ''}")
    return "\n".join(lines)


SEEN = {"reproduced": "seen", "not reproduced": "opposite", "inconclusive": "not told from chance"}


def by_study_table(rows: pd.DataFrame, *, title: str) -> Styler:
    """What the rules find on every study of a profile (`board.by_study`), one row per claim and study, for readers."""
    claim = rows["claim"].astype(str) + ". " + rows["says"]
    cells = {
        "claim": claim.where(~claim.duplicated(), ""),
        "study": rows["studies"],
        "verdict": rows["verdict"].replace(SEEN),
        "what was found": [_found(row, "") for row in rows.to_dict("records")],
    }
    caption = f"{title}\n{WORDS['by_study']}"
    return tables.text_table(pd.DataFrame(cells), caption, wrap=True).hide(axis="index")


def claims_markdown(board: pd.DataFrame, *, title: str) -> str:
    """The board as a Markdown table; the columns on the stand-in only where one was used."""
    stand_in = bool(board["stand_in"].any())
    head = ["claim", "verdict on the paper", "tested, and found"]
    head += ["on the stand-in (says nothing about the paper)"] if stand_in else []
    lines = [f"**{title}**", "", _line(head), _line(["---"] * len(head))]
    for row in board.to_dict("records"):
        cells = [f"{row['claim']}. {row['says']}", f"**{row['verdict']}**", f"{row['tested']}. {_found(row, '')}"]
        cells += [f"**{row['stand_in_verdict']}**. {_found(row, 'stand_in_')}"] if stand_in else []
        lines.append(_line(cells))
    return "\n".join([*lines, "", WORDS["words"], "", WORDS["note"], ""])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"


def write_markdown(board: pd.DataFrame, path: Path | str, *, title: str) -> Path:
    """Write `claims_markdown` to a file and return its path. Raises StoreError where the folder cannot be written."""
    save.make_folder(Path(path).parent)
    files.replace_file(Path(path), claims_markdown(board, title=title).encode())
    save.note(Path(path))
    return Path(path)


def remarks_table(artefact: str) -> Styler:
    """Where the paper is silent or contradicts itself on an artefact, and what we do."""
    notes = silences.remarks(artefact).set_axis(["point", "what is known", "ours"], axis=1)
    frame = notes.set_index("point").rename_axis(None)
    return tables.text_table(frame, "Where the paper is silent or contradicts itself", wrap=True)


def attainable_table(artefact: str) -> Styler:
    """Reported accuracy, EOD and DPD of each arm, and the DPD that the first two leave possible on official splits."""
    found = attainable.ranges(artefact)
    title = "What the paper's own accuracy and EOD leave possible for DPD (in percent; nothing of ours, no stand-in)"
    if found.empty:
        return tables.text_table(pd.DataFrame(), f"{title}\nThe composition of these test sets is not known.")
    found = found.assign(order=found["model"].map(MODEL_ORDER.index), of=found["label"] + " by " + found["sensitive"])
    found = found.sort_values(["dataset", "label", "sensitive", "order", "temperature"])
    percent = 100 * found[["accuracy", "eod", "dpd", "lowest", "highest"]]
    shown = tables.with_arm_names(found).assign(**percent, outside=np.where(found["inside"], "", " *"))
    shown["line"] = shown["of"] + ": " + shown["line"]
    words = tables.WORDS["attainable"]
    columns = {heading: (shown, form) for heading, form in words["columns"].items()}
    for split, part in shown.groupby("split", sort=False):
        columns[f"DPD possible, {split}"] = part, words["possible"]
    gaps = found.drop_duplicates(["of", "split"]).sort_values(["of", "split"])
    each = [f"{row.of} {100 * row.label_dpd:.2f} ({row.split})" for row in gaps.itertuples()]
    note = f"* the reported DPD lies outside; DPD of the labels: {'; '.join(each)}"
    return tables.text_table(tables.in_lines(shown, columns), f"{title}\n{note}")
