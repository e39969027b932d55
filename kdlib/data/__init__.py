"""Data sets: `load(name, split)` -> `Split`. One file per family; names and options stand in the catalogue.

To add a data set:
1. Enter it in `catalogue.DATASETS`, with `in_paper=False`: its loader as 'module:function', every option with its
   default and its choices or range. Profiles, training and `load` know it from there alone.
2. Write the loader in a module here: `load_name(part, /, *, root, <every option>) -> Split`. `part` is one of the
   catalogue's `parts`; the folder is `places.data_dir(root) / name`. The catalogue has the options checked before. What
   is missing or damaged is `damaged(...)`; what is slow to make goes through `cache.prepared`. ids are official names,
   or come from the content (`vision.content_ids`); rows are in their order.
3. Say in sources.yaml where it is from, for `kdlib fetch`: under `files` what is downloaded and checked, under
   `by_hand` what people have to put where, under `nothing` that there is nothing to fetch.
"""

from __future__ import annotations

import hashlib
import json
from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import yaml

from kdlib import profiles
from kdlib.catalogue import DATASETS
from kdlib.errors import DataError, InvalidInput, require_known

Root = str | Path | None  # the folder that has one folder per data set; None: `places.data_dir()`
KEPT_BYTES = 2**28
PUBLISHED = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True, eq=False)
class Split:
    """N samples of a data set.

    ids          (N,) str, unique and stable: from the content or the official name, never from a position in a list
    x            (N, C, H, W) uint8, an array or (large data sets) something that reads images when it is indexed, such
                 as `stream.Images`; of text (N, tokens) int32, token numbers with 0 after the end
    y            (N,) int64, 0 .. len(class_names) - 1
    groups       {sensitive feature: (N,) str}
    class_names  names of the classes, in the order of y
    twins        {feature: another x}, of the test part: every sample again with that sensitive feature alone changed
                 ("counterfactual twins"), in the order of ids; empty where a data set has none. Where some are the same
                 again (posts without a word to replace), groups["<feature>_words"] says 'some' or 'none'
    vocabulary   of text: how many tokens there are
    features     (N, d) uint8 description of the samples that no model made, such as annotated attributes without the
                 label: a frozen embedding in which samples are near or far; None where a data set has none
    """

    ids: np.ndarray
    x: np.ndarray
    y: np.ndarray
    groups: dict[str, np.ndarray]
    class_names: tuple[str, ...]
    twins: Mapping[str, np.ndarray] = field(default_factory=dict)
    vocabulary: int = 0
    features: np.ndarray | None = None

    @cached_property
    def data_sha256(self) -> str:
        """64 hexadecimal digits that stand for what is trained on: x, y, ids, groups and class names.

        Images that are read while they are used count by the sizes of their files: all of ImageNet would take an hour.
        """
        groups = {name: values.tolist() for name, values in self.groups.items()}
        about = [self.ids.tolist(), self.y.tolist(), groups, self.class_names, list(self.x.shape)]
        if not isinstance(self.x, np.ndarray):
            about.append([Path(path).stat().st_size for path in self.x.paths])
        total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        if isinstance(self.x, np.ndarray):
            total.update(np.ascontiguousarray(self.x))
        return total.hexdigest()


class Drawn(UserDict):
    """{feature: (N, C, H, W) uint8}, made of {feature: a function that draws them}: drawn when they are asked for.

    Every run of a study asks for them, so they are kept; but not where all together take more than KEPT_BYTES, as they
    do at 224 pixels, where one feature at a time is in memory.
    """

    def __getitem__(self, feature: str) -> np.ndarray:
        images = self.data[feature]
        if callable(images):
            images = images()
            if images.nbytes * len(self) <= KEPT_BYTES:
                self.data[feature] = images
        return images


def load(name: str, split: str, /, *, root: str | Path | None = None, **options: Any) -> Split:
    """A part of a data set: `load("trifeature", "test", split="balanced")`. Some also have a "validation" part.

    The first two arguments go by position, because `split` is also an option of some data sets: how the two parts are
    made. Options that are left out have the catalogue's defaults. `root` is the folder that has one folder per data
    set; what is generated ignores it. The loaders count on what is checked here: names of parts, options and choices.
    Raises InvalidInput for an unknown name, part, option or choice, DataError for data that is missing or damaged.
    """
    require_known("data set", name, DATASETS)
    require_known("split", split, DATASETS[name].parts, place=f"data set {name!r}")
    if not DATASETS[name].loader:
        raise DataError(f"data set {name!r} has no images: its predictions are drawn, there is nothing to load.")
    loader = resolve_name(f"kdlib.data.{DATASETS[name].loader}")
    options = profiles.options(name, options)
    try:
        return loader(split, root=root, **options)
    except OSError as error:  # its text names the file
        raise damaged(f"cannot read data set {name!r}: {error}", name) from error


def required(path: Path, dataset: str) -> Path:
    """`path`, a file or folder that a data set needs. Raises DataError where it is not there."""
    if not path.exists():
        raise damaged(f"there is no {path}", dataset)
    return path


def damaged(what: str, dataset: str) -> DataError:
    """The error for data that is missing or cannot be used: what and where, and what to do."""
    return DataError(f"{what}. `kdlib fetch {dataset}` gets it, or says what to put where.")


def check_whole(name: str, value: object, least: int, most: int, *, place: str) -> int:
    """`value` if it is a whole number from `least` to `most`. Raises InvalidInput otherwise."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and least <= value <= most:
        return int(value)
    raise InvalidInput(f"{name} = {value!r} in {place}: give a whole number from {least} to {most}.")
