"""From a profile to its figures: train once what is missing, run each artefact's notebook with papermill, sum up.

Notebooks run side by side, the longest first, each in a kernel of this very Python.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from kdlib import places, store
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import KdlibError, ProfileError
from kdlib.notebook import PARAMETERS, Workspace, _brief_standing
from kdlib.notebook import open as workspace
from kdlib.predictions import collect
from kdlib.show import save
from kdlib.studies import Study, load_profile
from kdlib.training import sweep

GUESS = 5.0  # seconds of a notebook of which nothing is known yet


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

    workers: training processes, then notebooks at a time (default: one per core). train: None does as the profile says
    (its key `train`); False runs the notebooks whose studies are on disk and names the command for the others. A study
    or a notebook that fails does not stop the rest. say is called with each step in words. Raises ProfileError for an
    unknown profile or artefact before anything is trained.
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
    return _side_by_side(spaces, problems, workers or places.cores(), say)


def _side_by_side(spaces: list[Workspace], problems: dict[str, str], workers: int, say) -> list[Outcome]:
    """Make every artefact, `workers` at a time, the longest first; outcomes in the order of `spaces`.

    Each in a process of its own: papermill leaves event loops and sockets behind that threads would share.
    """
    known = _seconds(spaces[0].out_dir) if spaces else {}
    waiting = sorted(spaces, key=lambda space: -known.get(space.artefact, GUESS))
    running, outcomes = {}, {}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        with tqdm(total=len(spaces), unit="notebook", desc="notebooks", disable=None) as bar:
            while waiting or running:
                while waiting and len(running) < workers:
                    space = waiting.pop(0)
                    say(f"{space.artefact}: {space.title}")
                    missing = [problems[study.name] for study in space.studies if problems.get(study.name)]
                    running[pool.submit(_make, space, missing)] = space
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    space, outcome = running.pop(future), future.result()
                    outcomes[space.artefact] = outcome
                    say(f"  {space.artefact}: {outcome.verdict.split(':')[0].split(';')[0]}, {outcome.seconds:.0f} s")
                    bar.update()
    finally:  # on an interrupt the notebooks that have not begun do not begin
        pool.shutdown(cancel_futures=True)
    return [outcomes[space.artefact] for space in spaces]


def _seconds(out_dir: Path) -> dict[str, float]:
    """{artefact: seconds} of the last summary; empty where there is none that can be read."""
    try:
        summary = json.loads((out_dir / "summary.json").read_text(encoding="utf-8"))
        return {entry["artefact"]: float(entry["seconds"]) for entry in summary}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
    try:
        outputs = _execute(name, space)
    except Exception as error:  # whatever a notebook raises, the other artefacts still run
        return Outcome(space.artefact, name, [], time.monotonic() - started, f"failed: {_last_line(error)}")
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


def _execute(name: str, space: Workspace) -> list[str]:
    """Execute a notebook into executed/; the names of the files that it saved in the output folder.

    One that fails leaves <name>.failed.ipynb, nothing that looks finished.
    """
    import papermill

    source = places.project_root() / "notebooks" / name
    _check_parameters(source)
    target = space.out_dir / "executed" / name
    running = target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        papermill.execute_notebook(
            source,
            running,
            _values(space),
            kernel_name="python3",
            kernel_manager_class=_this_python(saved),
            progress_bar=False,
            cwd=source.parent,
            log_output=False,
            request_save_on_cell_execute=False,
            extra_arguments=["--log-level=CRITICAL"],
        )
        written = saved.read_text(encoding="utf-8").splitlines() if saved.is_file() else []
    _strip(running)
    running.replace(target)
    return sorted({Path(path).name for path in written if Path(path).parent == space.out_dir})


def _this_python(saved: Path) -> type:
    """A kernel manager that starts this very Python, whatever kernelspec is called python3 on this machine.

    saved: the file in which the kernel notes what it saves (`show.save.note`).
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

        async def _async_pre_start_kernel(self, **options: Any) -> Any:
            given = {save.LIST: str(saved), "KDLIB_DATA": str(places.data_dir())}
            options["env"] = {**os.environ, **options.get("env", {}), **given}
            return await super()._async_pre_start_kernel(**options)

        pre_start_kernel = _async_pre_start_kernel

    return ThisPython


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
