"""What is trained: a profile's YAML -> `Study` -> its `Run`s. Frozen values, read strictly, no torch.

A run's id is the sha256 of all its fields; a student's run contains its teacher's, so the id covers the lineage.
The fields below are settled: a change to them needs a new SCHEMA, or released runs lose their address.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kdlib import files, places
from kdlib.catalogue import ARTEFACTS, DATASETS, MODELS
from kdlib.errors import ProfileError, unknown

SCHEMA = 1
REQUIRED = object()


@dataclass(frozen=True)
class Run:
    """One training, described completely: what is not here (device, engine, versions) must not change its result.

    data         every option of the loader, defaults included
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
    teacher: Run | None
    temperature: float | None
    alpha: float | None
    t_squared: bool | None
    loss_scale: float
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
        return f"{self.dataset} {self.model} {self.role} seed {self.seed}{temperature}{scale}"


@dataclass(frozen=True)
class Study:
    """One pair of architectures on one data set, over temperatures and seeds.

    Teacher of seed s teaches the students of seed s. `fresh_teachers` more teachers (seeds after the others) have
    no students: #TC against them is free of the correlation between a teacher and its own students.
    `control_loss_scale`: also train NDS with the loss scaled by it, the limit of distillation without T^2.
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
    control_loss_scale: float | None = None

    @property
    def title(self) -> str:
        """'Digits, ResNet-8 -> LeNet-5', as figures show it."""
        pair = f"{MODELS[self.teacher['model']].title} → {MODELS[self.student['model']].title}"
        label = f" ({self.data['label']})" if "label" in self.data else ""
        return f"{self.data_title}{label}, {pair}"

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
        values = dict(
            dataset=self.dataset,
            data=self.data,
            role=role,
            seed=seed,
            augment=self.augment,
            teacher=None,
            temperature=None,
            alpha=None,
            t_squared=None,
            loss_scale=1.0,
        )
        return Run(**{**values, **part, **changes})

    def teachers(self) -> list[Run]:
        return [self._run("teacher", seed) for seed in range(self.seeds + self.fresh_teachers)]

    def runs(self) -> list[Run]:
        """Every run of the study, each teacher before its students."""
        runs = self.teachers()
        runs += [self._run("nds", seed) for seed in range(self.seeds)]
        if self.control_loss_scale is not None:
            runs += [self._run("nds", seed, loss_scale=self.control_loss_scale) for seed in range(self.seeds)]
        runs += [
            self._run("ds", seed, teacher=runs[seed], temperature=t, alpha=self.alpha, t_squared=self.t_squared)
            for seed in range(self.seeds)
            for t in self.temperatures
        ]
        return runs


@dataclass(frozen=True)
class Profile:
    """studies and artefacts of one YAML file. artefacts: {name: names of the studies it shows}.

    train: whether `reproduce` trains what is missing; False where that takes hours, so that it shows what is there.
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

    def study(self, name: str) -> Study:
        """A study by name. Raises ProfileError with the valid names."""
        if name not in self.studies:
            raise unknown("study", name, self.studies, place=str(self.path), error=ProfileError)
        return self.studies[name]

    def studies_for(self, artefact: str) -> list[Study]:
        """The studies that an artefact shows. Raises ProfileError for one that the profile does not make."""
        if artefact not in self.artefacts:
            raise unknown("artefact", artefact, self.artefacts, place=str(self.path), error=ProfileError)
        return [self.studies[name] for name in self.artefacts[artefact]]


def load_profile(path: str | Path) -> Profile:
    """Read a profile: a path to a YAML file, or the name of one in `params/` such as 'quick'.

    Raises ProfileError for an unknown key, a wrong type, an unknown name or a value out of range.
    """
    path = _find(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ProfileError(f"{path} is not valid YAML: {error}") from error
    top = _read(
        raw,
        {
            "profile": (str, REQUIRED),
            "train": (bool, True),
            "recipes": (dict, REQUIRED),
            "studies": (dict, REQUIRED),
            "artefacts": (dict, {}),
        },
        str(path),
    )
    recipes = {name: _read(r, RECIPE, f"{path}: recipes.{name}") for name, r in top["recipes"].items()}
    studies = {name: _study(name, s, recipes, f"{path}: studies.{name}") for name, s in top["studies"].items()}
    return Profile(top["profile"], path, studies, _artefacts(top["artefacts"], studies, path), top["train"])


def _find(path: str | Path) -> Path:
    if Path(path).suffix in (".yaml", ".yml"):
        found = Path(path).resolve()
        if not found.is_file():
            raise ProfileError(f"there is no profile {path}. Give the path of a YAML file, or a name such as 'quick'.")
        return found
    folder = places.project_root() / "params"
    if not (folder / f"{path}.yaml").is_file():
        raise unknown(
            "profile", str(path), [p.stem for p in folder.glob("*.yaml")], place=str(folder), error=ProfileError
        )
    return folder / f"{path}.yaml"


def _artefacts(raw: dict, studies: dict[str, Study], path: Path) -> dict[str, list[str]]:
    for artefact, names in raw.items():
        place = f"{path}: artefacts.{artefact}"
        if artefact not in ARTEFACTS:
            raise unknown("artefact", artefact, ARTEFACTS, place=f"{path}: artefacts", error=ProfileError)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ProfileError(f"{place} must be a list of studies, not {names!r}.")
        for name in names:
            if name not in studies:
                raise unknown("study", name, studies, place=place, error=ProfileError)
    return raw


RECIPE = {  # key: (type, default)
    "optimizer": (str, "sgd"),
    "lr": (float, REQUIRED),
    "momentum": (float, 0.9),
    "weight_decay": (float, 0.0),
    "milestones": (list, None),
    "gamma": (float, 0.1),
    "schedule": (str, None),
    "warmup": (float, 0.0),
    "batch_size": (int, REQUIRED),
    "precision": (str, "fp32"),
    "init": (str, "scratch"),
}
STUDY = {
    "dataset": (str, REQUIRED),
    "data": (dict, {}),
    "augment": (dict, {}),
    "recipe": (str, REQUIRED),
    "teacher": (dict, REQUIRED),
    "student": (dict, REQUIRED),
    "temperatures": (list, REQUIRED),
    "alpha": (float, 0.8),
    "t_squared": (bool, True),
    "seeds": (int, REQUIRED),
    "fresh_teachers": (int, 0),
    "control_loss_scale": (float, None),
}
NAMES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine"),
    "precision": ("fp32", "bf16"),
    "init": ("scratch", "pretrained"),
}
AUGMENT = {"crop": (int, 0), "flip": (bool, False), "resized_crop": (bool, False)}


def _study(name: str, raw: Any, recipes: dict[str, dict], place: str) -> Study:
    values = _read(raw, STUDY, place)
    if values["recipe"] not in recipes:
        raise unknown("recipe", values["recipe"], recipes, place=place, error=ProfileError)
    recipe = recipes[values.pop("recipe")]
    temperatures = tuple(_number(t, f"{place}.temperatures") for t in values["temperatures"])
    _require(all(t > 0 for t in temperatures), f"{place}.temperatures must be above 0, not {values['temperatures']}.")
    _require(
        len(set(temperatures)) == len(temperatures), f"{place}.temperatures names one twice: {values['temperatures']}."
    )
    _require(0 <= values["alpha"] <= 1, f"{place}.alpha must lie in 0 .. 1, not {values['alpha']:g}.")
    _require(values["seeds"] >= 1, f"{place}.seeds must be at least 1, not {values['seeds']}.")
    _require(values["fresh_teachers"] >= 0, f"{place}.fresh_teachers must not be negative.")
    parts = {role: _part(values[role], recipe, f"{place}.{role}") for role in ("teacher", "student")}
    data = _data_options(values, place)
    for role, part in parts.items():
        kinds = MODELS[part["model"]].kind, DATASETS[values["dataset"]].kind
        _require(
            kinds[0] == kinds[1],
            f"{place}.{role}: {part['model']} reads {kinds[0]}, but {values['dataset']} holds {kinds[1]}.",
        )
    augment = _read(values["augment"], AUGMENT, f"{place}.augment")
    return Study(
        name=name,
        **{
            **values,
            **parts,
            "data": data,
            "temperatures": temperatures,
            "augment": {key: value for key, value in augment.items() if value},
        },
    )


def _part(raw: dict, recipe: dict, place: str) -> dict[str, Any]:
    """The fields of a run that teacher or student decide: the recipe with what this role changes."""
    own = {key: (kind, recipe[key]) for key, (kind, _) in RECIPE.items()}
    values = _read(raw, {"model": (str, REQUIRED), "epochs": (int, REQUIRED), **own}, place)
    if values["model"] not in MODELS:
        raise unknown("model", values["model"], MODELS, place=place, error=ProfileError)
    for key, valid in NAMES.items():
        if values[key] is not None and values[key] not in valid:
            raise unknown(key, values[key], valid, place=place, error=ProfileError)
    for key in ("epochs", "batch_size", "lr"):
        _require(values[key] > 0, f"{place}.{key} must be above 0, not {values[key]}.")
    milestones, gamma, name = (values.pop(key) for key in ("milestones", "gamma", "schedule"))
    _require(milestones is None or name is None, f"{place} has both milestones and a schedule; keep one.")
    if milestones is None:
        return values | {"schedule": {"name": name or "constant"}}
    shares = [_number(m, f"{place}.milestones") for m in milestones]
    _require(all(0 < m < 1 for m in shares), f"{place}.milestones are shares of the epochs, 0 .. 1, not {milestones}.")
    return values | {"schedule": {"name": "step", "milestones": shares, "gamma": gamma}}


def _data_options(values: dict, place: str) -> dict[str, Any]:
    if values["dataset"] not in DATASETS:
        raise unknown("data set", values["dataset"], DATASETS, place=place, error=ProfileError)
    dataset = DATASETS[values["dataset"]]
    options = _read(values["data"], {key: (type(d), d) for key, d in dataset.options.items()}, f"{place}.data")
    for key, valid in dataset.choices.items():
        if options[key] not in valid:
            raise unknown(f"value of {key}", options[key], valid, place=f"{place}.data", error=ProfileError)
    return options


def _read(raw: Any, spec: dict[str, tuple[type, Any]], place: str) -> dict[str, Any]:
    """`raw` with every key of `spec`, types checked, defaults filled in, nothing else allowed."""
    _require(isinstance(raw, dict), f"{place} must be a mapping with {', '.join(spec)}, not {raw!r}.")
    for key in raw:
        if key not in spec:
            raise unknown("key", key, spec, place=place, error=ProfileError)
    for key, (_, default) in spec.items():
        _require(key in raw or default is not REQUIRED, f"{place} needs the key {key!r}.")
    return {
        key: _typed(raw[key], kind, f"{place}.{key}") if key in raw and raw[key] is not default else default
        for key, (kind, default) in spec.items()
    }


def _typed(value: Any, kind: type, place: str) -> Any:
    if kind is float:
        return _number(value, place)
    right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    _require(right, f"{place} must be of type {kind.__name__}, not {value!r}.")
    return value


def _number(value: Any, place: str) -> float:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(
        right, f"{place} must be a finite number, not {value!r}. (YAML reads 1e-3 as text: write 1.0e-3 or 0.001.)"
    )
    return float(value)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ProfileError(message)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice; plain PyYAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ProfileError(f"the key {key!r} stands twice{node.start_mark}.")
        return super().construct_mapping(node, deep)
