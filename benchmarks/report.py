"""From measurements to a Markdown table and a plot. All ratios are taken within a round, then their median and range.

ms are milliseconds of the process on its core (user and system) per image and student. A loop that reads the teacher's
logit table is charged its share of filling it: views x ms a forward pass / (epochs x students that share it).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from cases import CASES, Case
from contenders import LEVERS

SEEDS = 5
TEMPERATURES = (1, 3, 6, 12)


def costs(rows: pd.DataFrame, case: str, group: str = "pair") -> dict[tuple[str, str, str], pd.Series]:
    """(loop, precision, levers off) -> ms an image in each round; the teacher's table not yet counted."""
    rows = rows[(rows.group == group) & (rows.case == case)]
    ms = 1000 * rows.cpu_seconds / rows.images
    keys = [rows.loop, rows.precision, rows.off]
    return {key: part.set_axis(rows["round"][part.index]) for key, part in ms.groupby(keys)}


def share(case: Case, students: int) -> float:
    """Forward passes of the teacher that one step of a student pays for when `students` share a table."""
    return case.views / (case.epochs * students)


def student_ms(
    measured: dict[tuple[str, str, str], pd.Series], case: Case, precision: str, off: str = "", students: int = 0
) -> pd.Series:
    """ms an image and student of kdlib in each round, with its share of the table unless the teacher is live."""
    step = measured["kdlib", precision, off]
    if "table" in off.split("+"):
        return step
    return step + share(case, students or case.temperatures) * measured["table", precision, ""]


def spread(ratio: pd.Series, unit: str = "x") -> str:
    return f"{ratio.median():.2f}{unit} ({ratio.min():.2f} to {ratio.max():.2f})"


def table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines]) + "\n"


def pairs(rows: pd.DataFrame) -> str:
    lines = []
    for name, case in CASES.items():
        measured = costs(rows, name)
        base = measured["torchdistill", "fp32", ""]
        memory = rows[(rows.group == "pair") & (rows.case == name)].groupby(["loop", "precision"]).peak_mib.max()
        for loop in ("torchdistill", "kdlib"):
            for precision in ("fp32", "bf16"):
                if (loop, precision, "") not in measured:
                    continue
                ms = measured[loop, precision, ""] if loop == "torchdistill" else student_ms(measured, case, precision)
                peak = f"{memory[loop, precision]:,.0f} MiB"
                speed = [f"{ms.median():.2f}", f"{1000 / ms.median():,.0f}", spread(base / ms), peak]
                lines.append([f"{case.title}: {loop}, {precision}", *speed])
    header = ["pair, 12 temperatures", "ms an image and student", "image-students a second"]
    return table([*header, "against torchdistill fp32", "peak memory"], lines)


def levers(rows: pd.DataFrame) -> str:
    columns = [(name, precision) for name in ("a", "b") for precision in ("fp32", "bf16")]
    lines = []
    for off, what in [*LEVERS.items(), ("+".join(LEVERS), "all of them")]:
        line = [what]
        for name, precision in columns:
            measured = costs(rows[rows.precision == precision], name, "levers")
            on = student_ms(measured, CASES[name], precision)
            line.append(spread(student_ms(measured, CASES[name], precision, off) / on))
        lines.append(line)
    line = ["bf16 in place of fp32"]
    for name, precision in columns:
        measured = costs(rows, name)
        both = [student_ms(measured, CASES[name], p) for p in ("fp32", "bf16")]
        line.append(spread(both[0] / both[1]) if precision == "bf16" else "")
    header = [f"{CASES[name].title}, {precision}" for name, precision in columns]
    return table(["without it, a step takes", *header], [*lines, line])


def scaling(rows: pd.DataFrame) -> str:
    lines = []
    for name in ("a", "b"):
        case, measured = CASES[name], costs(rows, name)
        for students in TEMPERATURES:
            passes = [f"{students * case.epochs:,}", f"{case.views:,}"]
            peer = measured["torchdistill", "fp32", ""]
            total = SEEDS * students * case.epochs * case.study_images / 3.6e6
            both = [student_ms(measured, case, precision, students=students) for precision in ("fp32", "bf16")]
            hours = [f"{total * ms.median():,.1f}" for ms in (peer, *both)]
            lines.append([f"{case.title}: {students}", *passes, *hours, *(spread(peer / ms) for ms in both)])
    header = ["pair: number of temperatures", "teacher's passes, live", "with the table", "torchdistill, hours"]
    return table([*header, "kdlib fp32, hours", "kdlib bf16, hours", "gain fp32", "gain bf16"], lines)


def images(rows: pd.DataFrame) -> str:
    case, lines = CASES["a"], []
    rows = rows[rows.group == "images"]
    for n, part in rows.groupby("in_memory"):
        ms = 1000 * part.cpu_seconds / part.images
        size = case.views * n * case.classes * (4 if case.views * n * case.classes * 4 <= 2**30 else 2) / 2**20
        lines.append(
            [f"{n:,}", f"{ms.median():.2f} ({ms.min():.2f} to {ms.max():.2f})", f"{part.peak_mib.max():,.0f} MiB"]
        )
        lines[-1].append(f"{size:,.0f} MiB")
    return table(
        ["training images", "ms an image and student, table not counted", "peak memory", "table on disk"], lines
    )


def markdown(rows: pd.DataFrame, about: dict) -> str:
    """The whole page."""
    busy = (rows.wall_seconds / rows.cpu_seconds).median()
    versions = (
        f"Python {about['python']}, torch {about['torch']}, torchdistill {about['torchdistill']}, {about['date']}"
    )
    hours = f"{SEEDS} seeds, {CASES['a'].epochs} epochs, {CASES['a'].study_images:,} images at 32 px and "
    return f"""<!-- written by `make bench` (benchmarks/report.py); do not edit -->
One thread of {about["processor"]} ({about["cores"]} cores, {about["memory_gib"]} GiB, fast bf16: {about["fast_bf16"]}),
{about["system"]}, {versions}.
Synthetic images of the right shape; the study's crop of 4 pixels and flip (162 views) unless said otherwise. Whole
steps, contenders in turn; median of the rounds, then their range. Times are of the process on its core (the clock
showed {busy:.2f} times as much), the teacher's table included at {CASES["a"].epochs} epochs and 12 students.

{pairs(rows)}
torchdistill runs as its example does: Pillow in the same process, no bf16; its bf16 rows add autocast around it. At 224
px it mostly waits for memory: the system zeroes hundreds of MB anew at every step (see the levers).

{levers(rows)}
Hours of one core for the students of a whole study, {hours}{CASES["b"].study_images:,} at 224 px,
teachers' own training left out. With seeds everything grows in proportion: each has its own teacher and table.

{scaling(rows)}
Memory and images, ResNet-56 to ResNet-20 in bf16. The table is memory-mapped: what of it has been read counts here, but
the system takes it back when memory is short.

{images(rows)}"""


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Left: image-students a second of each loop. Right: what a student costs as more temperatures share a teacher."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    import kdlib

    with plt.style.context(Path(kdlib.__file__).parent / "show/figures.mplstyle"):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
        styles = {("torchdistill", "fp32"): "0.6", ("torchdistill", "bf16"): "0.8"}
        styles |= {("kdlib", "fp32"): "C0", ("kdlib", "bf16"): "C1"}
        names = list(CASES)
        for k, ((loop, precision), color) in enumerate(styles.items()):
            at, height = [], []
            for i, name in enumerate(names):
                measured = costs(rows, name)
                if (loop, precision, "") in measured:
                    plain = loop == "torchdistill"
                    ms = measured[loop, precision, ""] if plain else student_ms(measured, CASES[name], precision)
                    at.append(i + 0.2 * (k - 1.5))
                    height.append(1000 / ms.median())
            bars = left.bar(at, height, width=0.19, color=color, label=f"{loop} {precision}")
            left.bar_label(bars, fmt="{:,.0f}", fontsize=7)
        left.set_yscale("log")
        left.set_xticks(range(len(names)), [CASES[name].title.replace(", ", "\n") for name in names], fontsize=8)
        left.set_ylabel("image-students a second, one thread")
        left.legend(fontsize=7)
        case, measured = CASES["a"], costs(rows, "a")
        for (loop, precision), color in styles.items():
            if loop == "torchdistill":
                costs_ = [measured[loop, precision, ""].median()] * len(TEMPERATURES)
            else:
                costs_ = [student_ms(measured, case, precision, students=t).median() for t in TEMPERATURES]
            right.plot(TEMPERATURES, costs_, "o-", color=color, label=f"{loop} {precision}")
        right.set_xticks(TEMPERATURES)
        right.set_ylim(0)
        right.set_xlabel("temperatures that share a teacher")
        right.set_ylabel("ms an image and student")
        right.set_title(case.title, fontsize=9)
        figure.savefig(path, dpi=150)
        plt.close(figure)
