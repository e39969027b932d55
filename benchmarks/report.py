"""From measurements to a Markdown table and a plot. All ratios are taken within a round, then their median and range.

ms are milliseconds of the process on its core (user and system) per image and student. A loop that reads the teacher's
logit table is charged its share of filling it: views x ms a forward pass / (epochs x students that share it).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from cases import CASES, Case
from contenders import LEVERS

from kdlib.show import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


LOOKS = {
    ("torchdistill", "fp32"): {"color": "#9A9A9A", "marker": "s"},
    ("torchdistill", "bf16"): {"color": "#D0D0D0", "marker": "D"},
    ("kdlib", "fp32"): {"color": style.COLORS["ds"], "marker": "o"},
    ("kdlib", "bf16"): {"color": style.COLORS["nds"], "marker": "^"},
}


@style.in_style
def picture(rows: pd.DataFrame) -> Figure:
    """Left: image-students a second of each loop. Right: what a student costs as more temperatures share a teacher."""
    figure = style.new_figure(
        10.5, 4.4, "How fast is a student trained? Median of the rounds and their range, one thread"
    )
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    bars_panel(left, rows)
    temperatures_panel(right, rows, "a")
    style.legend_below(figure, left, ncols=4)
    return figure


def bars_panel(ax: Axes, rows: pd.DataFrame) -> None:
    """One bar for each case and loop; where a loop was not measured, its place says so."""
    ax.set(yscale="log", ylabel="image-students a second (log scale)")
    for k, ((loop, precision), look) in enumerate(LOOKS.items()):
        label = f"{loop} {precision}"
        for i, (name, case) in enumerate(CASES.items()):
            measured, at = costs(rows, name), i + 0.22 * (k - 1.5)
            if (loop, precision, "") not in measured:
                ax.text(
                    at, 0.02, "not measured", transform=ax.get_xaxis_transform(), rotation=90, ha="center", fontsize=7
                )
                continue
            plain = loop == "torchdistill"
            speed = 1000 / (measured[loop, precision, ""] if plain else student_ms(measured, case, precision))
            middle, low, high = speed.median(), speed.min(), speed.max()
            ax.bar(at, middle, width=0.21, color=look["color"], label=label, zorder=2)
            ax.errorbar(at, middle, yerr=[[middle - low], [high - middle]], color="black", elinewidth=0.8)
            ax.annotate(f"{middle:,.0f}", (at, high), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    ax.set_ylim(bottom=4)
    ax.set_xticks(range(len(CASES)), [case.title.replace(", ", "\n") for case in CASES.values()])


def temperatures_panel(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    """What a student costs against the number of temperatures that share a teacher, in one case."""
    case, measured = CASES[name], costs(rows, name)
    for (loop, precision), look in LOOKS.items():
        plain = [measured[loop, precision, ""]] * len(TEMPERATURES) if loop == "torchdistill" else None
        every = plain or [student_ms(measured, case, precision, students=t) for t in TEMPERATURES]
        middle = pd.Series([ms.median() for ms in every])
        ends = [middle - [ms.min() for ms in every], [ms.max() for ms in every] - middle]
        ax.errorbar(TEMPERATURES, middle, yerr=ends, **look, elinewidth=0.8)
    ax.set_xticks(TEMPERATURES)
    ax.set_ylim(0)
    ax.set(xlabel="temperatures that share a teacher", ylabel="ms an image and student")
    ax.set_title(case.title)


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Write `picture` to a PNG file."""
    path.write_bytes(style.rendered(picture(rows), "png"))
