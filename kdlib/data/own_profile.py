"""`kdlib init my.yaml`: a commented profile for anyone's own images, so that nobody has to guess its keys."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from string import Template

import yaml

from kdlib import data, files, places
from kdlib.catalogue import DATASETS
from kdlib.data import PUBLISHED, own
from kdlib.errors import InvalidInput

SMALL, OF_FILES = 64, 32  # pixels: arrays up to here keep their size; image files are made so large
TEXT = Template(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def write(path: Path | str, given: Path | str = "") -> Path:
    """Write a profile for the images in `given`, a folder (or a file in it) of the data folder; returns its path.

    given: '' takes the only folder there that holds images of one's own. The formats are those of `data.own`.
    Raises InvalidInput for a file that is there already or is no YAML, a folder elsewhere, none or several;
    DataError for data that are damaged.
    """
    path, folder = places.user_path(path), _folder(given)
    if path.suffix not in (".yaml", ".yml") or path.exists():
        wrong = "is there already, and is not written over" if path.exists() else "does not end in .yaml"
        raise InvalidInput(f"{path} {wrong}: give another name.")
    files.replace_file(path, _text(path, folder).encode())
    return path


def _folder(given: Path | str) -> Path:
    home = places.data_dir()
    if not given:
        held = [p for p in sorted(home.glob("*/")) if p.name not in DATASETS and own.holds(p)]
        if len(held) == 1:
            return held[0]
        several = f"{home} holds {', '.join(p.name for p in held)}: name one of them." if held else ""
        raise InvalidInput(several or PUBLISHED["nothing"]["own"].format(folder=home / "own"))
    here = Path(os.path.abspath(Path(given).expanduser()))  # a link in the data folder is in the data folder
    path = here if here.exists() else home / given
    folder = path if path.is_dir() or not path.exists() else path.parent
    if path.suffix == ".npz" and path.stem != folder.name:
        into = shlex.quote(str(home / path.stem))
        raise InvalidInput(
            f"{path} has to be in a folder of its name: mkdir -p {into} && mv {shlex.quote(str(path))} {into}/"
        )
    if folder.parent.resolve() != home.resolve():
        link = f"mkdir -p {shlex.quote(str(home))} && ln -s {shlex.quote(str(folder))} {shlex.quote(str(home))}/"
        raise InvalidInput(f"{folder} is not in {home}, where kdlib looks for data. Link it: {link}")
    return home / folder.name


def _text(path: Path, folder: Path) -> str:
    side = own.side(folder)
    image_size = next(s for s in range(min(side, SMALL), 0, -1) if side % s == 0) if side else OF_FILES
    known = {"name": folder.name, "image_size": image_size, "fingerprint": own.fingerprint(folder, image_size)}
    parts = {part: data.load("own", part, **known) for part in own.PARTS}
    train, study = parts["train"], _plain(folder.name)
    shown = ["fig1", "fig2", "fig3", "table06", *["fig4", "table02"] * bool(train.groups)]
    return TEXT.substitute(
        **known | {"name": _quoted(folder.name)},
        train=places.command("train", "--profile", str(path)),
        reproduce=places.command("reproduce", "--profile", str(path)),
        profile=_quoted(_plain(path.stem)),
        study=_quoted(study),
        counts=", ".join(f"{len(split.y):,} {part}" for part, split in parts.items() if len(split.y)),
        n_classes=len(train.class_names),
        classes=_listed(train.class_names),
        groups=_listed(train.groups) or "none",
        folder=" ".join(str(folder).split()),
        crop=image_size // 8,
        artefacts="\n".join(f"  {artefact}: [{_quoted(study)}]" for artefact in shown),
    )


def _plain(name: str) -> str:
    """A name that a profile takes: plain, and not too long."""
    return re.sub(r"[^\w.-]+", "-", name).lstrip("-.")[:80] or "own"


def _quoted(name: str) -> str:
    """A name as YAML reads it as text."""
    return name if re.fullmatch(r"[A-Za-z][\w-]*", name) and yaml.safe_load(name) == name else json.dumps(name)


def _listed(names: object) -> str:
    """At most ten names on one line, whatever is in them."""
    names = [" ".join(ascii(str(name))[1:-1].split()) for name in names]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
