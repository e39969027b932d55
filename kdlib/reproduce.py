"""From a profile to its figures: train once what is missing, run each artefact's notebook with papermill, sum up.

`workspace` is what every notebook opens first; `reproduce` is the command.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from kdlib import places, store
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import KdlibError, ProfileError
from kdlib.notebook import PARAMETERS, Workspace, _brief_standing, workspace
from kdlib.predictions import collect
from kdlib.studies import Study, load_profile
from kdlib.training import sweep


@dataclass(frozen=True)
class Outcome:
    """One line of the summary: files written, and a verdict, 'done; ...', 'failed: ...' or 'not run: ...'."""

    artefact: str
    notebook: str
    outputs: list[str]
    seconds: float
    verdict: str

    @property
    def failed(self) -> bool:
        return self.verdict.startswith("failed")


def reproduce(
    artefacts: Iterable[str] = (),
    *,
    profile: str | Path = "quick",
    runs_dir: str | Path = "",
    out_dir: str | Path = "",
    device: str = "auto",
    engine: str = "local",
    workers: int | None = None,
    train: bool | None = None,
    retry_failed: bool = False,
    say=lambda line: None,
) -> list[Outcome]:
    """Make artefacts (default: all of the profile) and say of each what came of it.

    train: None does as the profile says; False runs the notebooks whose studies are on disk and names
    the command for the others. A study or a notebook that fails does not stop the rest. say is called with each
    step in words. Raises ProfileError for an unknown profile or artefact before anything is trained.
    """
    read = load_profile(profile)
    wanted = list(artefacts) or list(read.artefacts)
    spaces = [workspace(name, profile=read.path, runs_dir=runs_dir, out_dir=out_dir, device=device) for name in wanted]
    train = read.train if train is None else train
    problems = {}
    if train and device != "none":
        for study in {study.name: study for space in spaces for study in space.studies}.values():
            say(f"study {study.name}: {study.title}")
            problems[study.name] = _train(study, spaces[0].runs_dir, device, engine, workers, retry_failed, say)
    outcomes = []
    for space in spaces:
        say(f"{space.artefact}: {space.title}")
        outcomes.append(_make(space, [problems[s.name] for s in space.studies if problems.get(s.name)]))
    return outcomes


def _train(study: Study, runs_dir: Path, device: str, engine: str, workers: int | None, retry_failed: bool, say) -> str:
    """Train a study; '' or what went wrong, in words."""
    try:
        done = sweep.train(
            study, runs_dir=runs_dir, device=device, engine=engine, workers=workers, retry_failed=retry_failed
        )
    except KdlibError as error:
        return str(error)
    say(f"  {done}")
    return ""


def _make(space: Workspace, problems: list[str]) -> Outcome:
    """Run one artefact's notebook, unless something it needs is not there."""
    started = time.monotonic()
    name = ARTEFACTS[space.artefact].notebook
    if problems:
        return Outcome(space.artefact, name, [], 0.0, f"failed: {problems[0]}")
    # no study: the paper's own numbers need no training
    if space.studies and not any(_shown(study, space) for study in space.studies):
        command = "; ".join(f"python -m kdlib train {s.name} --profile {space.profile.handle}" for s in space.studies)
        return Outcome(space.artefact, name, [], 0.0, f"not run: {command}")
    before = _written(space.out_dir)
    try:
        _execute(name, space)
    except Exception as error:  # whatever a notebook raises, the other artefacts still run
        return Outcome(space.artefact, name, [], time.monotonic() - started, f"failed: {_last_line(error)}")
    outputs = sorted(path for path, stamp in _written(space.out_dir).items() if before.get(path) != stamp)
    if outputs:
        verdict = "done; " + (
            "; ".join(dict.fromkeys(map(_brief_standing, space.studies))) or "the paper's own numbers"
        )
    else:  # figure 6 without CelebA's lists
        verdict = f"not run: nothing to show; executed/{name} says what it needs"
    return Outcome(space.artefact, name, outputs, time.monotonic() - started, verdict)


def _shown(study: Study, space: Workspace) -> bool:
    """Whether there is enough of a study to show."""
    done = (run for run in study.runs() if store.state(space.runs_dir, run) == "done")
    return study not in space.to_train or collect.enough(study, done)


def _execute(name: str, space: Workspace) -> None:
    """Execute a notebook into executed/; one that fails leaves <name>.failed.ipynb, nothing that looks finished."""
    import papermill

    source = places.project_root() / "notebooks" / name
    _check_parameters(source)
    target = space.out_dir / "executed" / name
    running = target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    papermill.execute_notebook(
        source,
        running,
        _values(space),
        kernel_name="python3",
        progress_bar=False,
        cwd=source.parent,
        log_output=False,
        request_save_on_cell_execute=False,
        extra_arguments=["--log-level=CRITICAL"],
    )
    _strip(running)
    running.replace(target)


def _values(space: Workspace) -> dict[str, str]:
    """A notebook's parameters; folders of the project are left out, so that what was executed opens anywhere."""
    return {
        "profile": space.profile.handle,
        "runs_dir": "" if space.runs_dir == places.runs_dir() else str(space.runs_dir),
        "out_dir": "" if space.out_dir == places.figures_dir(space.profile.name) else str(space.out_dir),
        "device": "none",
    }


def _strip(executed: Path) -> None:
    """Take paths, clock times and what else chance decides out of a notebook: the same results are the same file."""
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # papermill draws one for the cell that it adds
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    nbformat.write(notebook, executed)


def _joined(outputs: list) -> list:
    """Prints that came in pieces, as timing had it, in one."""
    joined = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before.text += output.text
        else:
            joined.append(output)
    return joined


def _check_parameters(notebook: Path) -> None:
    """papermill only warns of a parameter that the notebook does not have, and then runs it with the wrong values."""
    import papermill

    found = tuple(papermill.inspect_notebook(notebook))
    if found != PARAMETERS:
        raise ProfileError(
            f"{notebook.name} has parameters {', '.join(found) or 'none'}; it needs exactly {', '.join(PARAMETERS)}."
        )


def _written(folder: Path) -> dict[str, tuple[int, int]]:
    """{file name: (size, time)} of a folder's files."""
    files = [path for path in folder.glob("*") if path.is_file()]
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def summary(outcomes: list[Outcome]) -> str:
    """The outcomes as a text table: artefact, notebook, output, seconds, verdict."""
    rows = [(o.artefact, o.notebook, _brief(o.outputs), f"{o.seconds:.1f}", o.verdict) for o in outcomes]
    header = ("artefact", "notebook", "output", "seconds", "verdict")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]
    lines = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in [header, *rows]
    ]
    return "\n".join(lines)


def _brief(outputs: list[str]) -> str:
    """'fig3_digits.png + 3': the file to open first, and how many more."""
    more = f" + {len(outputs) - 1}" if len(outputs) > 1 else ""
    return f"{first_output(outputs)}{more}" if outputs else "-"


def first_output(outputs: list[str]) -> str:
    """The picture or page to open first, of the files that a notebook wrote; '' if it wrote none."""
    return min(outputs, key=lambda name: (not name.endswith((".png", ".html")), name), default="")


def claims(board: Path) -> str:
    """The board of claims in brief: number, verdict on the paper, and what the same rule finds on a stand-in."""
    rows = pd.read_csv(board)
    lines = [f"{r.claim:>7}  {r.verdict:<20}  {r.stand_in_verdict:<20}  {r.says}" for r in rows.itertuples()]
    about = "the paper's claims (a stand-in judges none of them; claims.html says what was tested)"
    return "\n".join([about, f"{'claim':>7}  {'on the paper':<20}  {'on the stand-in':<20}", *lines])


def write_summary(outcomes: list[Outcome], path: Path) -> None:
    """The outcomes as JSON, for whatever generates pages from them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8")
