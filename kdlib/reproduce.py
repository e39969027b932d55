"""From a profile to its figures: train once what is missing, run each artefact's notebook, sum up.

Notebooks run side by side, the longest first, each in a kernel of this very Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from kdlib import files, needs, places, planning, store
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import KdlibError, ProfileError
from kdlib.notebook import PARAMETERS, Workspace, brief_kind
from kdlib.notebook import open as workspace
from kdlib.predictions import collect
from kdlib.progress import about_time
from kdlib.show import save
from kdlib.studies import Study, load_profile
from kdlib.training import sweep

if TYPE_CHECKING:
    from nbformat import NotebookNode

PATIENCE = 300  # seconds that a busy machine may take to start a kernel
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
    allow_code: bool = False,
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
    if not (places.project_root() / "notebooks").is_dir():
        raise ProfileError(
            f"there is no notebooks/ in {places.project_root()}: the paper's notebooks are in kdlib's repository. "
            "Start this command in a checkout; audit, train, status, plan, init and fetch work anywhere."
        )
    if lacking := [line for name in wanted for line in needs.lacking(name, read)]:
        raise ProfileError("\n".join(lacking))
    spaces = [workspace(name, profile=read.path, runs_dir=runs_dir, out_dir=out_dir, device=device) for name in wanted]
    save.make_folder(spaces[0].out_dir / "executed")
    train = read.train if train is None else train
    problems = {}
    if train and device != "none":
        studies = {study.name: study for space in spaces for study in space.studies}.values()
        seconds = planning.seconds_left(studies, runs_dir=spaces[0].runs_dir) / (workers or places.cores())
        say(f"training: {_in_words(seconds)}")
        options = {"device": device, "engine": engine, "workers": workers}
        more = {"runs_dir": spaces[0].runs_dir, "retry_failed": retry_failed, "allow_code": allow_code}
        with sweep.session(**options):
            for study in studies:
                say(f"study {study.name}: {study.title}")
                problems[study.name] = _train(study, say=say, **options, **more)
    times = [_seconds(spaces[0].out_dir).get(name, nan) for name in wanted]
    say(f"notebooks: {_in_words(sum(times) / (workers or places.cores()))}")
    return asyncio.run(_side_by_side(spaces, problems, workers or places.cores(), say))


async def _side_by_side(spaces: list[Workspace], problems: dict[str, str], workers: int, say) -> list[Outcome]:
    """Make every artefact, `workers` at a time, the longest first; outcomes in the order of `spaces`."""
    known = _seconds(spaces[0].out_dir)
    free = asyncio.Semaphore(workers)  # serves in the order of asking
    bar = tqdm(total=len(spaces), unit="notebook", desc="notebooks", disable=None)

    async def make(space: Workspace) -> Outcome:
        async with free:
            say(f"{space.artefact}: {space.title}")
            outcome = await _make(space, [problems[study.name] for study in space.studies if problems.get(study.name)])
            say(f"  {space.artefact}: {outcome.verdict.split(':')[0].split(';')[0]}, {outcome.seconds:.0f} s")
            bar.update()
            return outcome

    with bar:
        made = await asyncio.gather(*map(make, sorted(spaces, key=lambda space: -known.get(space.artefact, GUESS))))
    outcomes = {outcome.artefact: outcome for outcome in made}
    return [outcomes[space.artefact] for space in spaces]


def _in_words(seconds: float) -> str:
    """How long something takes, by what was measured before; NaN: nobody measured it."""
    if not seconds > 0:
        return "nothing is missing" if seconds == 0 else "how long is not known yet"
    return f"{about_time(seconds)}, by what was measured before"


def _seconds(out_dir: Path) -> dict[str, float]:
    """{artefact: seconds} of the last summary; empty where there is none that can be read."""
    try:
        summary = json.loads((out_dir / "summary.json").read_text(encoding="utf-8"))
        return {entry["artefact"]: float(entry["seconds"]) for entry in summary}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _train(study: Study, *, say, **options: Any) -> str:
    """Train a study as `sweep.train` does; '' or what went wrong, in words."""
    try:
        done = sweep.train(study, say=say, **options)
    except KdlibError as error:
        return str(error)
    say(f"  {done}")
    return ""


async def _make(space: Workspace, problems: list[str]) -> Outcome:
    """Run one artefact's notebook, unless something it needs is not there."""
    started, outputs = time.monotonic(), []
    name = ARTEFACTS[space.artefact].notebook
    # no study: the paper's own numbers need no training
    if problems:
        verdict = f"failed: {problems[0]}"
    elif space.studies and not any(_shown(study, space) for study in space.studies):
        commands = [study.command(space.runs_dir) for study in space.studies]
        verdict = f"not run: {'; '.join(commands)}"
    else:
        try:
            outputs = await _execute(name, space)
            kinds = list(dict.fromkeys(map(brief_kind, space.studies))) or ["the paper's own numbers"]
            # figure 6 without CelebA's lists has nothing to show
            nothing = f"not run: nothing to show; executed/{name} says what it needs"
            verdict = f"done; {'; '.join(kinds)}" if outputs else nothing
        except Exception as error:  # whatever a notebook raises, the other artefacts still run
            verdict = f"failed: {_first_line(error)}"
    return Outcome(space.artefact, name, outputs, time.monotonic() - started, verdict)


def _shown(study: Study, space: Workspace) -> bool:
    """Whether there is enough of a study to show."""
    done = (run for run in study.runs() if store.state(space.runs_dir, run) == "done")
    return study not in space.to_train or collect.enough(study, done)


async def _execute(name: str, space: Workspace) -> list[str]:
    """Execute a notebook into executed/; the names of the files that it saved in the output folder.

    One that fails or is interrupted leaves <name>.failed.ipynb; what it had saved is deleted.
    """
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    source = places.project_root() / "notebooks" / name
    _check_parameters(source)
    notebook = parameterize_notebook(load_notebook_node(str(source)), _values(space))
    target = space.out_dir / "executed" / name
    failed = target.with_suffix(".failed.ipynb")
    for path in (target, failed):
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        listed, finished = Path(folder) / "saved", False
        try:
            await _run(notebook, source.parent, listed)
            finished = True
        finally:
            saved = [Path(line) for line in listed.read_text("utf-8").splitlines()] if listed.is_file() else []
            if not finished:
                for path in saved:
                    path.unlink(missing_ok=True)
            files.replace_file(target if finished else failed, _same_bytes(notebook))
    return sorted({path.name for path in saved if path.parent == space.out_dir})


async def _run(notebook: NotebookNode, folder: Path, listed: Path) -> None:
    """Run the cells in a kernel of this very Python, which ends whatever happens.

    Without any folder to look in, Jupyter finds no other kernel that somebody may have called python3. listed: the file
    in which the kernel notes what it saves (`show.save.note`). nbclient's own `execute` would take the signals of this
    process for itself. Kernels run side by side, so each takes one thread: those of two would wait for each other.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    given = {save.LIST: str(listed), "KDLIB_DATA": str(places.data_dir())}
    manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=manager,
        extra_arguments=["--log-level=CRITICAL"],
        startup_timeout=PATIENCE,
        iopub_timeout=PATIENCE,
        raise_on_iopub_timeout=True,  # else what a cell prints may be lost
        coalesce_streams=True,  # prints come in pieces, as timing has it
        record_timing=False,
    )
    try:
        await client.async_start_new_kernel(cwd=str(folder), env={"OMP_NUM_THREADS": "1", **os.environ, **given})
        await client.async_start_new_kernel_client()
        for number, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, number)
    finally:
        if client.kc:
            client.kc.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel(now=True)


def _values(space: Workspace) -> dict[str, str]:
    """A notebook's parameters; folders of the project are left out, so that what was executed opens anywhere."""
    return {
        "profile": space.profile.handle,
        "runs_dir": "" if space.runs_dir == places.runs_dir() else str(space.runs_dir),
        "out_dir": "" if space.out_dir == places.figures_dir(space.profile.name) else str(space.out_dir),
        "device": "none",
    }


def _same_bytes(notebook: NotebookNode) -> bytes:
    """The file of a notebook without what chance decides: the same results are the same bytes."""
    import nbformat

    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # papermill draws one for the cell that it adds
        cell.metadata.pop("papermill", None)
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":  # a warning's file is a path or a process number; its line stands above
                output.text = re.sub(r"^\S+\.py:\d+: (.*\n)(  .*\n)?", r"\1", output.text, flags=re.MULTILINE)
    return (nbformat.writes(notebook) + "\n").encode()


def _check_parameters(notebook: Path) -> None:
    """papermill only warns of a parameter that the notebook does not have, and then runs it with the wrong values."""
    import papermill

    found = tuple(papermill.inspect_notebook(notebook))
    if found != PARAMETERS:
        names = ", ".join(found) or "none"
        raise ProfileError(f"{notebook.name} has parameters {names}; it needs exactly {', '.join(PARAMETERS)}.")


def _first_line(error: Exception) -> str:
    """What went wrong; of an error in a cell its name and message, without the cell and the traceback."""
    text = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]


def summary(outcomes: list[Outcome]) -> str:
    """The outcomes as a text table: artefact, notebook, output, seconds, verdict."""
    rows = [(o.artefact, o.notebook, _brief(o.outputs), f"{o.seconds:.1f}", o.verdict) for o in outcomes]
    header = ("artefact", "notebook", "output", "seconds", "verdict")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (header, *rows)]
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
    lines = [f"{r.claim:>7}  {r.verdict:<21}  {r.stand_in_verdict:<21}  {r.says}" for r in rows.itertuples()]
    about = "the paper's claims (a stand-in judges none of them; claims.html says what was tested)"
    return "\n".join([about, f"{'claim':>7}  {'on the paper':<21}  {'on the stand-in':<21}", *lines])


def write_summary(outcomes: list[Outcome], path: Path) -> None:
    """The outcomes as JSON, for whatever generates pages from them."""
    save.make_folder(path.parent)
    files.replace_file(path, json.dumps([asdict(outcome) for outcome in outcomes], indent=1).encode() + b"\n")
