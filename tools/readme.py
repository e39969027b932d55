"""What is generated of README.md and docs/: the findings, the boards of claims, the artefacts, the speed.

`python tools/readme.py` writes it from the last `make reproduce` and the released study. What the quick profile gives
stays in its gallery, so that a test can compare. Fractions become percentage points here, and nowhere else.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kdlib import places
from kdlib.catalogue import ARTEFACTS, MODELS
from kdlib.errors import InvalidInput
from kdlib.paper import silences, stand_in
from kdlib.reproduce import first_output
from kdlib.show.boards import SEEN
from kdlib.studies import load_profile

ROOT = places.project_root()
REAL, AGAIN, TRIFEATURE, ABLATIONS = (
    ROOT / "figures" / name for name in ("real-small", "confirm", "trifeature", "ablations")
)
RESULTS = ROOT / "benchmarks/results"
CONFIRMS = "-confirm"  # what the name of a study ends in that repeats one with new seeds
PICTURES = (
    "fig1_digits.png",
    "fig2_digits.png",
    "fig3_digits.png",
    "fig4_trifeature-shape-small_color.png",
    "fig7_trifeature.png",
)
GALLERY = (*PICTURES, "claims.csv", "claims.md", "summary.json")
MINUTES = "minutes.json"  # written by tools/minutes.py

STUDIES = {
    "cifar100": "CIFAR-100",
    "cifar10": "CIFAR-10",
    "celeba64-smiling": "CelebA, smiling",
    "celeba64-eyeglasses": "CelebA, eyeglasses",
    "utkface": "UTKFace",
    "hatexplain": "HateXplain",
    "trifeature-shape-64": "Trifeature, shape",
    "trifeature-texture-64": "Trifeature, texture",
    "cifar100-lenet5": "alpha 0.8",
    "cifar100-lenet5-alpha06": "alpha 0.6",
    "cifar100-lenet5, cifar100-lenet5-alpha06": "both",
    "cifar100-lenet5-early": "teacher stopped early",
}
# What the rule of each claim tests, which can be less than what the paper says.
TESTED = {
    1: "DS is at least as accurate as NDS",
    2: "#SC rises with T from 2 to 10",
    3: "#TC falls with T from 2 to 10",
    4: "of ten classes no more than chance gives are affected",
    5: "more classes, a larger share affected",
    6: "#SC and #TC turn back at T = 40",
    7: "DS disagrees with its teacher less often than NDS does",
    8: "EOD and DPD fall as T rises from 1 to 10",
    9: "at T = 10 the DPD of DS is below its teacher's",
    10: "EOD and DPD rise again at T = 40",
    11: "when only the group changes, outputs move less at higher T",
    12: "the trends at both weights of the teacher (alpha 0.6 and 0.8) agree",
}
NOT_TESTED = {
    4: "The sum over T has a bound too. A shift of accuracy, which moves both counts, is not taken out. Where #SC and "
    "#TC disagree, nothing is told.",
    6: "p is for #SC and #TC together, of which #SC is shown.",
    7: "No rule tests whether one pair of classes dominates.",
    8: "p is for EOD and DPD together, of which EOD is shown. Whether DS and teacher lie below NDS is not tested.",
    10: "p is for EOD and DPD together, of which EOD is shown.",
    11: "It must also hold once every model is calibrated.",
}
SYMBOLS = {"seen": "✓", "opposite": "✗", "not told from chance": "○", "explained by accuracy": "A"}
SHARES = ("accuracy", "disagreement", "EOD", "DPD", "output change")  # statistics that are fractions


def artefact_table(summary: list[dict[str, Any]]) -> str:
    """One row per artefact: notebook, what the quick profile trains for it, the file to open first, seconds.

    summary: the entries of a summary.json; its seconds are those of the notebook alone.
    """
    quick = load_profile(ROOT / "params/quick.yaml")
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


def verdict(row: dict[str, Any]) -> str:
    """The verdict of one study in the words of the pages: seen, opposite, not told from chance."""
    return SEEN.get(row["verdict"], row["verdict"])


def number(row: dict[str, Any], digits: int = 2) -> str:
    """'+3.55 (+3.09 to +4.02) points': what was found with its 95 % interval, shares in percentage points."""
    if counts := re.findall(r"(#[ST]C) is (at most \d+ at any T)", row.get("sentence", "")):
        return ", ".join(map(" ".join, counts))
    share = row["statistic"].startswith(SHARES)
    form = f"{{:+.{digits}f}}" if share else "{:.2f}" if "tau" in row["statistic"] else "{:.0f}"
    value, low, high = (form.format(100 * row[name] if share else row[name]) for name in ("value", "low", "high"))
    around = "" if pd.isna(row["low"]) else f" ({low} to {high})"
    return f"{value}{around}{' points' if share else ''}".replace("-", "−")


def unanswerable(row: dict[str, Any]) -> bool:
    """Whether the design of a study can never give p <= 0.05 for a claim, as three temperatures for a trend."""
    return not pd.isna(row["p"]) and pd.isna(row["p_holm"])


def chance(row: dict[str, Any]) -> str:
    """'0.002 (Holm 0.006)': p and what Holm's correction makes of it; 'bounds' where a rule has no p."""
    if pd.isna(row["p"]):
        return "bounds"
    if unanswerable(row):
        return f"{row['p']:.3f} (its design cannot answer)"
    shown = [f"{p:.3f}" if p >= 0.0005 else "< 0.001" for p in (row["p"], row["p_holm"])]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} (Holm {shown[1]})"


def answered(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Those rows of `board.by_study` in which a study can answer a claim."""
    return [row for row in rows[rows["verdict"] != "not run"].to_dict("records") if not unanswerable(row)]


def claims_short(rows: pd.DataFrame, again: pd.DataFrame) -> str:
    """One row per claim and one column per study, a symbol in each cell; empty where a study cannot answer.

    rows: what `board.by_study` returned. again: the same of the studies that were repeated, whose symbol is the second.
    """
    studies = list(rows["studies"].dropna().unique())
    again = again.assign(studies=again["studies"].str.removesuffix(CONFIRMS))
    first, second = (
        {(row["claim"], row["studies"]): SYMBOLS[verdict(row)] for row in answered(found)} for found in (rows, again)
    )
    lines = [f"| claim, as tested | {' | '.join(map(title, studies))} |", f"|---|{':-:|' * len(studies)}"]
    for claim, words in TESTED.items():
        cells = [f"{first.get((claim, study), '')} {second.get((claim, study), '')}".strip() for study in studies]
        lines.append(f"| {claim}. {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def title(study: str) -> str:
    """The name of a study of real data for readers; one without such a name keeps its own."""
    return STUDIES.get(study, study)


def claims_long(rows: pd.DataFrame) -> str:
    """One section per claim: what the paper says, what is tested, and a line a study with number, interval and p.

    rows: what `board.by_study` returned; a claim without a study says why.
    """
    parts = []
    for claim, found in rows.groupby("claim", sort=True):
        tried = found[found["verdict"] != "not run"]
        words = f"{found['says'].iloc[0]}\n\nTested: {TESTED[claim]}. {NOT_TESTED.get(claim, '')}".rstrip()
        parts.append(f"### Claim {claim}\n\n{words}\n\n{_lines(tried) if len(tried) else found['sentence'].iloc[0]}")
    return "\n\n".join(parts)


def _lines(rows: pd.DataFrame) -> str:
    lines = ["| study | measured | found (95 % interval) | p | verdict |", "|---|---|---|---|---|"]
    for row in rows.to_dict("records"):
        cells = (title(row["studies"]), row["statistic"], number(row), chance(row), f"**{verdict(row)}**")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def claims_in_rows(rows: pd.DataFrame) -> str:
    """One row per claim and study that can answer it. rows: what `board.by_study` returned."""
    lines = ["| claim, as tested | study | found (95 % interval) | p | verdict |", "|---|---|---|---|---|"]
    for row in answered(rows):
        cells = (f"{row['claim']}. {TESTED[row['claim']]}", title(row["studies"]), number(row), chance(row))
        lines.append(f"| {' | '.join(cells)} | **{verdict(row)}** |")
    return "\n".join(lines)


def findings() -> str:
    """Three findings in plain words with 95 % intervals, from the released tables."""
    rows = pd.read_csv(REAL / "claims_by_study.csv")
    by = {(row["claim"], row["studies"]): row for row in rows.to_dict("records")}
    verdicts = {claim: rows[(rows["claim"] == claim) & (rows["verdict"] != "not run")]["verdict"] for claim in (7, 8)}
    seen, no_trend = (verdicts[7] == "reproduced").sum(), (verdicts[8] == "inconclusive").sum()
    counts, ten = (_counts(name) for name in ("fig8_cifar100", "table06_cifar10"))
    of_teacher = _counts("table06_cifar10", "tc")
    band = pd.read_csv(REAL / "fig8_cifar100.csv").query("metric == 'null_band'")
    trend = by[2, "cifar100"]
    arcsine = re.search(r"arcsine scale tau is \+([\d.]+) \(p = ([\d.]+)\)", trend["sentence"]).groups()
    joint = pd.read_csv(REAL / "fig4_celeba64-eyeglasses_young_joint.csv").query(
        "metric == 'dpd' and against == 'teacher'"
    )
    pool = pd.read_csv(REAL / "claims_forest.csv").set_index("claim").loc[7]
    drawn = pd.read_csv(TRIFEATURE / "claims_by_study.csv").query("claim == 7 and studies == 'trifeature-shape-64'")
    (shape,) = drawn.to_dict("records")
    texts = (
        f"**A student mostly agrees more with its teacher.** At T = 10 the distilled student disagrees with it less "
        f"often than the same network trained on labels alone, in {seen} of {len(verdicts[7])} studies: "
        f"{number(by[7, 'cifar100'], 1)} on CIFAR-100, {number(by[7, 'utkface'], 1)} on UTKFace; pooled over "
        f"{pool['data_sets']:.0f} data sets (CelebA once) {number({'statistic': 'disagreement', **pool}, 1)}. On "
        f"CIFAR-100 its accuracy is higher: {number(by[1, 'cifar100'], 1)}. On drawn shapes (Trifeature), where it "
        f"became less accurate, it disagrees more: {number(shape, 1)}.",
        f"**Not all classes move alike.** On CIFAR-100, {counts.min():.0f} to {counts.max():.0f} of 100 classes differ "
        f"between the two students, where chance gives {band['low'].min():.0f} to {band['high'].max():.0f}. The "
        f"paper's rise with temperature, here from {counts[2]:.0f} classes at T = 2 to {counts[10]:.0f} at T = 10, is "
        f"a trend on the paper's scale of accuracy (p = {trend['p']:.3f} over {trend['n_temperatures']} temperatures) "
        f"and none on another (arcsine, p = {arcsine[1]}). On CIFAR-10 at most {ten.max():.0f} of 10 classes differs "
        f"between the two students, {of_teacher.min():.0f} or {of_teacher.max():.0f} between teacher and student.",
        f"**Groups: no gain from temperature is shown.** A trend of EOD and DPD with T is not told from chance in "
        f"{no_trend} of {len(verdicts[8])} studies; each doubling of T changes EOD by "
        f"{number(by[8, 'celeba64-smiling'])} (CelebA, smiling) and {number(by[8, 'utkface'])} (UTKFace). Against the "
        f"paper, for eyeglasses at T = 10 the student's DPD by Young is larger than its teacher's: {_gap(joint)}.",
    )
    texts = (*texts, f"**On new seeds, rules and recipes fixed before.** {held()}")
    return "\n".join(textwrap.fill(f"{n}. {text}", 120, subsequent_indent="   ") for n, text in enumerate(texts, 1))


def held() -> str:
    """What the studies that confirm show of claims 1, 2, 7 and 9, in words."""
    rows, parts = repeated(), []
    for study, found in rows.groupby("study", sort=False):
        said = [words for row in found.to_dict("records") if (words := _held(row))]
        parts.append(f"{title(study)}, {found['n_blocks'].max()} seeds: {', '.join(said)}.")
    return " ".join(parts)


def _held(row: dict[str, Any]) -> str:
    """What a study that confirms shows of one claim; '' of those that are not told here."""
    found, word = number(row, 1), verdict(row)
    if row["claim"] == 1:
        return f"accuracy of DS − NDS {found} ({'shown to be no worse' if word == 'seen' else word})"
    if row["claim"] == 2:
        return f"Kendall's tau of #SC and T {found} ({word})"
    if row["claim"] == 7:
        return f"disagreement with the teacher {found} ({word})"
    if row["claim"] == 9:
        by = re.search(r"DPD by (\w+)", row["sentence"])[1]
        joint = pd.read_csv(AGAIN / f"fig4_{row['studies']}_{by.lower()}_joint.csv").query("metric == 'dpd'")
        teacher, nds = (_gap(joint[joint["against"] == arm]) for arm in ("teacher", "nds"))
        return f"DPD by {by} against the teacher: {teacher} ({word}), against NDS: {nds}"
    return ""


def repeated() -> pd.DataFrame:
    """The rows of `board.by_study` of the studies that confirm, with study (the one repeated) and its first verdict."""
    first, again = (pd.read_csv(folder / "claims_by_study.csv") for folder in (REAL, AGAIN))
    again = again[again["verdict"] != "not run"].assign(study=lambda rows: rows["studies"].str.removesuffix(CONFIRMS))
    before = first.rename(columns={"studies": "study"})[
        ["claim", "study", "statistic", "value", "low", "high", "verdict"]
    ]
    rows = again.merge(before, on=["claim", "study"], suffixes=("", "_before"))
    return (
        rows.assign(place=rows["study"].map(list(STUDIES).index)).sort_values(["place", "claim"]).drop(columns="place")
    )


def confirmed() -> str:
    """One row per claim and study that was repeated with new seeds: what was found first, and what then."""
    lines = ["| claim, as tested | study | first, exploring | again, confirming | p |", "|---|---|---|---|---|"]
    for row in repeated().to_dict("records"):
        if not unanswerable(row):
            before = {name: row[f"{name}_before"] for name in ("statistic", "value", "low", "high", "verdict")}
            cells = (
                f"{row['claim']}. {TESTED[row['claim']]}",
                title(row["study"]),
                f"{number(before)}: {verdict(before)}",
            )
            lines.append(f"| {' | '.join(cells)} | {number(row)}: **{verdict(row)}** | {chance(row)} |")
    return "\n".join(lines)


def _gap(joint: pd.DataFrame) -> str:
    """'+3.3 (+1.8 to +4.9) points': how much larger the gap is, where the first group of two has the larger share.

    Of more groups, how many pairs differ: the largest less the smallest share of many is too large by chance.
    """
    if len(joint) > 1:
        return f"{((joint['low'] > 0) | (joint['high'] < 0)).sum()} of {len(joint)} pairs of groups differ"
    (row,) = joint.to_dict("records")
    return number({"statistic": "DPD", "value": row["mean"], "low": row["low"], "high": row["high"]}, 1)


def _counts(name: str, which: str = "sc") -> pd.Series:
    """#SC of DS by temperature, or #TC ('tc'), from a table of real data."""
    rows = pd.read_csv(REAL / f"{name}.csv").query("model == 'ds'")
    return rows[rows["metric"] == f"n_significant_{which}"].set_index("temperature")["mean"]


def commands(gallery: Path) -> str:
    """The two commands, with their minutes where tools/minutes.py has measured them."""
    took = json.loads((gallery / MINUTES).read_text("utf-8")) if (gallery / MINUTES).is_file() else {}
    does = {
        "reproduce": "train teachers and students, run the notebooks, print one summary",
        "test": "everything that must pass",
    }
    after = {name: f"{took[name]:.0f} minutes: {words}" if name in took else words for name, words in does.items()}
    return "\n".join(f"    make {name:9}  # {words}" for name, words in after.items())


def deviations() -> str:
    """One section per point on which the paper is silent or contradicts itself."""
    entries = silences.every()
    parts = [
        f"### {entry['point'][0].upper()}{entry['point'][1:]}\n\n{entry['known']}\n\n**Ours.** {entry['ours']}"
        for entry in entries
    ]
    return "\n\n".join(f"{part}\n\n*{', '.join(e['artefacts'])}*" for part, e in zip(parts, entries, strict=True))


def first_table(text: str) -> str:
    """The first Markdown table of a text, and the paragraph before it."""
    lines = [line for line in text.splitlines() if not line.startswith("<!--")]
    paragraphs = "\n".join(lines).split("\n\n")
    place = next(i for i, part in enumerate(paragraphs) if part.startswith("|"))
    return "\n\n".join(paragraphs[max(place - 1, 0) : place + 1])


HOW = {  # of benchmarks/results/gpu.csv
    "eager": "launch after launch, a process each",
    "graphs": "a step is a CUDA graph, on a stream each",
    "graphs, torch.compile": "the same, networks compiled",
    "packs": "the same, several as a wide network",
}


def gpu_paces() -> str:
    """What a GPU trains a second, by how: the best of each network beside one process without graphs."""
    rows = pd.read_csv(RESULTS / "gpu.csv")
    base = rows[(rows.how == "eager") & (rows.at_once == 1)].pace.item()
    lines = ["| network | how | runs at a time | images a second | against one process |", "|---|---|---:|---:|---:|"]
    eager = rows[rows.how == "eager"].nsmallest(1, "at_once")
    best = rows.loc[rows.groupby(["network", "pixels", "how"], sort=False).pace.idxmax()]
    for row in pd.concat([eager, best]).itertuples():
        raced = (row.network, row.pixels) == ("resnet20", 32)
        runs, ratio = row.together * row.at_once, f"{row.pace / base:.1f}x" if raced else ""
        title = f"{MODELS[row.network].title}, {row.pixels} px"
        lines.append(f"| {title} | {HOW[row.how]} | {runs} | {row.pace:,.0f} | {ratio} |")
    return "\n".join(lines)


def gpu_runs() -> str:
    """What was trained at the paper's recipe, beside what it reports."""
    known = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))
    reported = stand_in.all_reported()
    reported = reported[(reported.dataset == "cifar100") & (reported.student == "resnet20")]
    reported = reported[(reported.alpha == 0.8) & (reported.metric == "accuracy")].groupby("model")["mean"].first()
    lines = [
        "| run, seed 0 | momentum | test accuracy | the paper, five seeds | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for run in known["runs"]:
        title = f"{'teacher' if run['role'] == 'teacher' else 'NDS'}, {MODELS[run['model']].title}"
        theirs = f"{reported[run['role']]:.2f} %"
        lines.append(f"| {title} | {run['momentum']:g} | {run['accuracy']:.2f} % | {theirs} | {run['seconds']} |")
    return "\n".join(lines)


def sections(gallery: Path) -> dict[str, Callable[[], str]]:
    """{name between the marks: what writes it}."""
    by_study = pd.read_csv(REAL / "claims_by_study.csv")
    return {
        "findings": findings,
        "commands": lambda: commands(gallery),
        "claims": lambda: claims_short(by_study, pd.read_csv(AGAIN / "claims_by_study.csv")),
        "claims by study": lambda: claims_long(by_study),
        "confirmed": confirmed,
        "trifeature": lambda: claims_in_rows(pd.read_csv(TRIFEATURE / "claims_by_study.csv")),
        "ablations": lambda: claims_in_rows(pd.read_csv(ABLATIONS / "claims_by_study.csv")),
        "artefacts": lambda: artefact_table(json.loads((gallery / "summary.json").read_text(encoding="utf-8"))),
        "silences": deviations,
        "gpu paces": gpu_paces,
        "gpu runs": gpu_runs,
        "speed": lambda: first_table((RESULTS / "table.md").read_text(encoding="utf-8")),
    }


# Where each section stands; a page may share one with another.
PAGES = {
    "README.md": ("findings", "commands", "claims"),
    "docs/index.md": ("findings", "claims"),
    "docs/results.md": ("confirmed", "trifeature", "ablations", "claims by study"),
    "docs/artefacts.md": ("artefacts",),
    "docs/deviations.md": ("silences",),
    "docs/speed.md": ("speed",),
    "docs/gpu.md": ("gpu paces", "gpu runs"),
}


def with_section(text: str, name: str, body: str) -> str:
    """A page with `body` between the marks of a section. Raises InvalidInput if they are not there."""
    start, end = f"<!-- {name}: written by `python tools/readme.py` -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise InvalidInput(f"the page lacks the lines {start} and {end}; put them where {name} belong.")
    head, rest = text.split(start, 1)
    return f"{head}{start}\n\n{body}\n\n{end}{rest.split(end, 1)[1]}"


def generated(page: str, text: str, gallery: Path) -> str:
    """A page of PAGES with every generated section written anew."""
    written = sections(gallery)
    for name in PAGES[page]:
        body = written[name]()
        text = with_section(text, name, body.replace("](notebooks/", "](../notebooks/") if "/" in page else body)
    return text


def update() -> list[Path]:
    """Rewrite the pages, and the gallery from figures/quick/, and say what was written.

    Raises InvalidInput where `make reproduce` has not been run.
    """
    made = places.figures_dir("quick")
    gallery = made / "gallery"
    missing = [name for name in GALLERY if not (made / name).is_file()]
    if missing:
        raise InvalidInput(f"{made} lacks {', '.join(missing)}; run `make reproduce` first.")
    gallery.mkdir(exist_ok=True)
    written = [Path(shutil.copy(made / name, gallery / name)) for name in GALLERY]
    return [*write(gallery), *written]


def write(gallery: Path) -> list[Path]:
    """Rewrite the generated sections of every page."""
    paths = [ROOT / page for page in PAGES]
    for page, path in zip(PAGES, paths, strict=True):
        path.write_text(generated(page, path.read_text(encoding="utf-8"), gallery), encoding="utf-8")
    return paths


if __name__ == "__main__":
    print(*update(), sep="\n")
