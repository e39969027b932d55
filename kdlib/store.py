"""A run's folder: written whole or not at all; a file is verified with sha256 when it is read. No torch, no pickle.

runs/<first 16 digits of the id>/   run.json           the Run, and what is not its identity: seconds, device, versions
                                    predictions.npz    test logits (N, C), labels, sample ids, groups
                                    weights.safetensors, which a student's folder may lack: measuring needs none
                                    manifest.json      sha256 and size of every other file; written last
runs/<...>.partial/                 a checkpoint of a run in progress
runs/code/<sha256>.py               the file of anyone's own network, of which runs have the sha256
runs/<...>.failed.json              why a run stopped; it is not trained again unless asked for
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from kdlib import files
from kdlib.errors import Damaged, StoreError
from kdlib.studies import Run

ARRAYS = {"logits", "labels", "sample_ids", "class_names"}  # of every run
WEIGHTS = "weights.safetensors"
LFS_POINTER = b"version https://git-lfs"


def folder(runs_dir: Path, run: Run) -> Path:
    return Path(runs_dir) / run.id[:16]


def state(runs_dir: Path, run: Run) -> str:
    """'done', 'failed', 'partial' or 'missing'. Cheap: looks at names, verifies nothing."""
    home = folder(runs_dir, run)
    try:
        if (home / "manifest.json").is_file():
            return "done"
    except PermissionError:  # not to be trained anew: whoever reads it is told
        return "done"
    if failure_path(runs_dir, run).is_file():
        return "failed"
    return "partial" if partial(runs_dir, run).is_dir() else "missing"


def partial(runs_dir: Path, run: Run) -> Path:
    """The folder for the checkpoints of a run in progress."""
    return folder(runs_dir, run).with_suffix(".partial")


def failure_path(runs_dir: Path, run: Run) -> Path:
    return folder(runs_dir, run).with_suffix(".failed.json")


def locked(runs_dir: Path, run: Run, **options: Callable[[], Any]) -> AbstractContextManager[None]:
    """Hold the run for one process among all hosts that share the folder. options: those of `files.claimed`."""
    return files.claimed(Path(runs_dir) / "locks" / run.id[:16], **options)


def save(
    runs_dir: Path, run: Run, *, arrays: dict[str, np.ndarray], weights: bytes, provenance: dict[str, Any]
) -> Path:
    """Write a finished run. It appears under its name complete and verified, or an error is raised and nothing changes.

    arrays: logits (N, C) float, labels (N,) int, sample_ids (N,) str, class_names (C,) str, 'group:<name>' (N,) str,
    'twin:<feature>' (N, C) float, the logits on counterfactual twins, features (N, d) uint8. A validation part
    has the same as 'validation:<name>'.
    weights: the bytes of a safetensors file. A damaged or older folder of the same run is replaced.
    """
    home = folder(runs_dir, run)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    contents = {
        "run.json": files.to_json({"run": run.to_dict(), "id": run.id, "provenance": provenance}),
        "predictions.npz": buffer.getvalue(),
        WEIGHTS: weights,
    }
    manifest = {name: {"sha256": files.sha256(data), "bytes": len(data)} for name, data in contents.items()}
    with files.writing(f"{run} to {home}"), files.folder_beside(home) as fresh:
        for name, data in {**contents, "manifest.json": files.to_json(manifest)}.items():
            files.write_synced(fresh / name, data)
        _verified(fresh, *contents)
        if home.exists():  # only a damaged run is ever written again
            shutil.rmtree(home)
        os.replace(fresh, home)
    shutil.rmtree(partial(runs_dir, run), ignore_errors=True)
    forget_failure(runs_dir, run)
    return home


def read(runs_dir: Path, run: Run) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, provenance) of a finished run. Raises StoreError if they are damaged or of another run."""
    home = folder(runs_dir, run)
    about = provenance(runs_dir, run)
    data = _verified(home, "predictions.npz")["predictions.npz"]
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:  # numpy, zipfile and zlib have many kinds of their own
        raise _damaged(home, f"predictions.npz holds no plain arrays ({error})") from error
    if lacking := ARRAYS - arrays.keys():
        raise _damaged(home, f"predictions.npz lacks {', '.join(sorted(lacking))}")
    if len({len(arrays[name]) for name in ("logits", "labels", "sample_ids")}) > 1:
        raise _damaged(home, "predictions.npz has logits, labels and sample_ids of different numbers of samples")
    return arrays, about


def provenance(runs_dir: Path, run: Run) -> dict[str, Any]:
    """What is known of a finished run beside its identity. Cheap: reads run.json and manifests.

    Raises Damaged for a damaged file, another run, or a student of another teacher than the one that is there.
    """
    home = folder(runs_dir, run)
    try:
        about = json.loads(_verified(home, "run.json")["run.json"])
        identity, known = about["id"], dict(about["provenance"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(home, f"run.json does not describe a run ({error!r})") from error
    if identity != run.id:
        raise _damaged(home, f"holds run {str(identity)[:16]}, not {run.id[:16]}")
    learned_from = known.get("teacher_sha256")  # older runs do not say
    if learned_from and state(runs_dir, run.teacher) == "done":
        there = weights_sha256(runs_dir, run.teacher)
        if learned_from != there:
            raise _damaged(
                home,
                f"{run} learned from a teacher with weights {learned_from[:16]}, and {folder(runs_dir, run.teacher)} "
                f"holds {str(there)[:16]}",
            )
    return known


def weights_sha256(runs_dir: Path, run: Run) -> str:
    """The sha256 of a run's weights, as its manifest has it."""
    return _expected(folder(runs_dir, run), WEIGHTS)[WEIGHTS][1]


def predictions_sha256(runs_dir: Path, run: Run) -> str:
    """The sha256 of a run's predictions, as its manifest has it."""
    return _expected(folder(runs_dir, run), "predictions.npz")["predictions.npz"][1]


def read_weights(runs_dir: Path, run: Run) -> bytes:
    """The verified bytes of the run's safetensors file. Raises StoreError if it is damaged or was left behind."""
    home = folder(runs_dir, run)
    if run.role != "teacher" and not (home / WEIGHTS).exists():
        raise StoreError(f"{home} holds {run}, but not its {WEIGHTS}. Copy it from where it was trained.")
    return _verified(home, WEIGHTS)[WEIGHTS]


def save_code(runs_dir: Path, source: str) -> None:
    """Keep the file of somebody's own network: a run knows its sha256 alone."""
    files.replace_file(_code(runs_dir, files.sha256(source.encode())), source.encode())


def read_code(runs_dir: Path, model: str) -> str:
    """The file of a network, 'nets.py:mynet@<sha256>'; '' for one of kdlib's. Raises StoreError for any other file."""
    _, own, digest = model.partition("@")
    if not own:
        return ""
    path = _code(runs_dir, digest)
    try:
        data = files.contents(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}, the code of {model}: {error.strerror}. Copy it from there.") from error
    if files.sha256(data) != digest:
        raise StoreError(f"{path} is not the code of {model}: its sha256 is another. Remove it, then start again.")
    return data.decode()


def _code(runs_dir: Path, digest: str) -> Path:
    return Path(runs_dir) / "code" / f"{digest}.py"


def verify(runs_dir: Path, run: Run) -> None:
    """Raise StoreError unless every file of the run is what was written; a student's weights may have been left out."""
    read(runs_dir, run)
    if run.role == "teacher" or (folder(runs_dir, run) / WEIGHTS).exists():
        read_weights(runs_dir, run)


def under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays whose name has this prefix, such as "group:", under their names without it."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def record_failure(runs_dir: Path, run: Run, reason: str) -> None:
    """Note that a run failed and why; its checkpoint is dropped."""
    about = {"run": run.to_dict(), "id": run.id, "reason": reason}
    files.replace_file(failure_path(runs_dir, run), files.to_json(about))
    shutil.rmtree(partial(runs_dir, run), ignore_errors=True)


def forget_failure(runs_dir: Path, run: Run) -> None:
    """Let a failed run be trained again."""
    with files.writing(runs_dir):
        failure_path(runs_dir, run).unlink(missing_ok=True)


def failure(runs_dir: Path, run: Run) -> str | None:
    """Why the run failed, or None."""
    path = failure_path(runs_dir, run)
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_bytes())["reason"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"it failed, and {path} does not say why ({error!r}). Train it again with --retry-failed"


def _verified(home: Path, *names: str) -> dict[str, bytes]:
    """The bytes of these files in a run's folder, each equal to its entry in the manifest."""
    contents = {}
    for name, (size, digest) in _expected(home, *names).items():
        data = _bytes(home, name)
        if data.startswith(LFS_POINTER):
            raise _damaged(home, f"{name} is a Git-LFS pointer, not the file")
        if (len(data), files.sha256(data)) != (size, digest):
            raise _damaged(home, f"{name} is not what was written ({len(data)} bytes of {size})")
        contents[name] = data
    return contents


def _expected(home: Path, *names: str) -> dict[str, tuple[int, str]]:
    """{name: (bytes, sha256)} from a run's manifest."""
    data = _bytes(home, "manifest.json")
    try:
        manifest = json.loads(data)
        return {name: (manifest[name]["bytes"], manifest[name]["sha256"]) for name in names}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(home, f"manifest.json is no manifest ({error!r})") from error


def _bytes(home: Path, name: str) -> bytes:
    try:
        return files.contents(home / name)
    except PermissionError as error:
        raise StoreError(f"{error}. The run may be whole: give yourself the right to read it.") from error
    except OSError as error:
        raise _damaged(home, f"{name} cannot be read ({error})") from error


def _damaged(home: Path, what: str) -> Damaged:
    return Damaged(
        f"the run in {home} is damaged: {what}. Mend it with: rm -r {shlex.quote(str(home))}  Then start the same "
        "command again: only this run is trained anew."
    )
