"""What is trained: a profile's YAML -> `Study` -> its `Run`s. Frozen values, no torch.

A run's id is the sha256 of all its fields; a student's run contains its teacher's, so the id covers the lineage.
The fields below are settled: a change to them needs a new SCHEMA, or released runs lose their address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kdlib import files, places, profiles
from kdlib.catalogue import DATASETS, network
from kdlib.errors import ProfileError, require_known

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, described completely: what is not here (device, engine, versions) must not change its result.

    data         every option of the loader, defaults included
    model        its name; of anyone's own network 'nets.py:mynet@<sha256 of the file>'
    role         'teacher', 'nds' or 'ds'
    teacher      the Run of the teacher of a 'ds', else None; so are temperature, alpha, t_squared
    t_squared    whether the distillation term is multiplied by T^2
    loss_scale   factor on the whole loss; 1 but for control runs
    schedule     {'name': 'step', 'milestones': shares of the epochs, 'gamma': factor}, or name 'cosine', 'constant'
    warmup       epochs of linear warm-up
    augment      only what is switched on: {'crop': pixels of padding, 'flip': True, 'resized_crop': True}
    init         'scratch' or 'pretrained'
    precision    'fp32' or 'bf16' (autocast; weights and batch-norm statistics stay fp32)
    """

    dataset: str
    data: dict[str, Any]
    model: str
    role: str
    seed: int
    teacher: Run | None = None
    temperature: float | None = None
    alpha: float | None = None
    t_squared: bool | None = None
    loss_scale: float = 1.0
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: dict[str, Any]
    warmup: float
    augment: dict[str, Any]
    init: str
    precision: str
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, the teacher's nested."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"teacher": self.teacher.to_dict() if self.teacher else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        teacher = values["teacher"]
        return cls(**{**values, "teacher": cls.from_dict(teacher) if teacher else None})

    @cached_property
    def id(self) -> str:
        """64 hexadecimal digits, the run's address."""
        return files.sha256(json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode())

    def rng(self, *stream: int) -> np.random.Generator:
        """A random stream of this run alone: depends on its id and `stream` (such as the epoch), on nothing else."""
        words = [int(self.id[i : i + 8], 16) for i in range(0, 32, 8)]
        return np.random.default_rng([*words, *stream])

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        temperature = "" if self.temperature is None else f" T={self.temperature:g}"
        scale = "" if self.loss_scale == 1 else f" loss x{self.loss_scale:g}"
        return f"{self.dataset} {self.model.partition('@')[0]} {self.role} seed {self.seed}{temperature}{scale}"


@dataclass(frozen=True)
class Study:
    """One pair of architectures on one data set, over temperatures and seeds.

    Its seeds are first_seed .. first_seed + seeds - 1. Teacher of seed s teaches the students of seed s.
    `fresh_teachers` more teachers (seeds after the others) have no students: #TC against them is free of the
    correlation between a teacher and its own students.
    `control_loss_scale`: also train NDS with the loss scaled by it, the limit of distillation without T^2.
    `profile`: the name of the profile that it stands in; there its released predictions are looked for.
    `code`: {sha256: content} of the files with networks of the user's own.
    `handle`: what to give as --profile.
    """

    name: str
    dataset: str
    data: dict[str, Any]
    augment: dict[str, Any]
    teacher: dict[str, Any]
    student: dict[str, Any]
    temperatures: tuple[float, ...]
    alpha: float
    t_squared: bool
    seeds: int
    fresh_teachers: int = 0
    first_seed: int = 0
    control_loss_scale: float | None = None
    profile: str = ""
    code: dict[str, str] = field(default_factory=dict, repr=False)
    handle: str = field(default="", repr=False, compare=False)

    @property
    def title(self) -> str:
        """'Digits, ResNet-8 -> LeNet-5', as figures show it."""
        if self.simulated:
            return self.data_title
        pair = f"{network(self.teacher['model']).title} → {network(self.student['model']).title}"
        label = f" ({self.data['label']})" if "label" in self.data else ""
        return f"{self.data_title}{label}, {pair}"

    @property
    def own(self) -> bool:
        """Whether it is of the user's own data or network: nobody's stand-in."""
        return self.dataset == "own" or bool(self.code)

    def command(self, runs: Path | str | None = None) -> str:
        """The command that trains it in the folder `runs`."""
        profile = ("--profile", self.handle) if self.handle else ()
        return places.command("train", self.name, *profile, *["--allow-code"] * bool(self.code), runs=runs)

    @property
    def simulated(self) -> bool:
        """Whether its predictions are drawn from a known truth (`predictions.worlds`): there is nothing to train."""
        return DATASETS[self.dataset].kind == "simulated"

    @property
    def data_title(self) -> str:
        """'CIFAR-100 at 16 px': the data set, and the size of its images where it is not the usual one."""
        known = DATASETS[self.dataset]
        usual = known.options.get("image_size")
        size = self.data.get("image_size", usual)
        reduced = f" at {size} px" if size != usual else ""
        return known.title.format(**self.data) + reduced

    def _run(self, role: str, seed: int, **changes: Any) -> Run:
        part = self.teacher if role == "teacher" else self.student
        values = {"dataset": self.dataset, "data": self.data, "augment": self.augment, "role": role, "seed": seed}
        return Run(**{**values, **part, **changes})

    def teachers(self) -> list[Run]:
        return [self._run("teacher", self.first_seed + i) for i in range(self.seeds + self.fresh_teachers)]

    def runs(self) -> list[Run]:
        """Every run of the study, each teacher before its students."""
        teachers = self.teachers()
        own = teachers[: self.seeds]
        runs = teachers + [self._run("nds", teacher.seed) for teacher in own]
        if self.control_loss_scale is not None:
            runs += [self._run("nds", teacher.seed, loss_scale=self.control_loss_scale) for teacher in own]
        runs += [
            self._run("ds", teacher.seed, teacher=teacher, temperature=t, alpha=self.alpha, t_squared=self.t_squared)
            for teacher in own
            for t in self.temperatures
        ]
        return runs


@dataclass(frozen=True)
class Profile:
    """studies and artefacts of one YAML file. artefacts: {name: names of the studies it shows}.

    train: whether `reproduce` trains what is missing, or shows what is there and names the command for the rest.
    """

    name: str
    path: Path
    studies: dict[str, Study]
    artefacts: dict[str, list[str]]
    train: bool = True

    @property
    def handle(self) -> str:
        """What to give as --profile: the name of one in params/, else its path."""
        return self.name if self.path == places.project_root() / "params" / f"{self.name}.yaml" else str(self.path)

    @property
    def own(self) -> bool:
        """Whether all its studies are the user's own."""
        return bool(self.studies) and all(study.own for study in self.studies.values())

    def study(self, name: str) -> Study:
        """A study by name. Raises ProfileError with the valid names."""
        require_known("study", name, self.studies, place=str(self.path), error=ProfileError)
        return self.studies[name]

    def studies_for(self, artefact: str) -> list[Study]:
        """The studies that an artefact shows. Raises ProfileError for one that the profile does not make."""
        try:
            require_known("artefact", artefact, self.artefacts, place=str(self.path), error=ProfileError)
        except ProfileError as error:
            raise ProfileError(f"{error}{_elsewhere(artefact)}") from None
        return [self.studies[name] for name in self.artefacts[artefact]]


def load_profile(path: str | Path) -> Profile:
    """Read a profile: a path to a YAML file, or the name of one in `params/` such as 'quick'.

    Raises ProfileError with a line for each unknown key, wrong type, unknown name and value out of range.
    """
    read = profiles.read(path)
    taken = places.project_root() / "params" / f"{read['name']}.yaml"
    if taken.is_file() and not taken.samefile(read["path"]):  # what is anyone's own goes into a folder of its own
        read["name"] += f"-{read['path'].stem}"
    profile = Profile(**{**read, "studies": {}})
    for name, values in read["studies"].items():
        profile.studies[name] = Study(name=name, profile=profile.name, handle=profile.handle, **values)
    return profile


def _elsewhere(artefact: str) -> str:
    """Which of the project's profiles have an artefact that one lacks, in words."""
    if not isinstance(artefact, str):
        return ""
    has = {path.stem: profiles.read(path)["artefacts"] for path in (places.project_root() / "params").glob("*.yaml")}
    names = sorted(name for name in has if artefact in has[name])
    commands = [places.command("reproduce", artefact, "--profile", name) for name in names]
    return f" Another profile has {artefact}: {' or '.join(commands)}" if names else ""
