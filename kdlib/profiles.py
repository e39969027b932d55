"""A profile's YAML, read strictly: unknown keys, wrong types and wrong names are refused, all of a file at once.

What comes out are plain values; `studies` makes its `Study` of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model

from kdlib import places
from kdlib.catalogue import ARTEFACTS, DATASETS, MODELS
from kdlib.errors import ProfileError, unknown


def _among(what: str, valid: Iterable[str]) -> AfterValidator:
    """The value is one of these names."""

    def check(value: Any) -> Any:
        if value not in valid:
            raise unknown(what, value, valid)
        return value

    return AfterValidator(check)


def _of_this_file(name: str, info: ValidationInfo) -> str:
    if name not in info.context:
        raise unknown("recipe", name, info.context)
    return name


def _different(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError(f"names one twice: {values}.")
    return values


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Top(_Strict):
    profile: str
    train: bool = True
    recipes: dict[str, dict]
    studies: dict[str, dict]
    artefacts: dict[Annotated[str, _among("artefact", ARTEFACTS)], list[str]] = {}


class _Settings(_Strict):
    """What a recipe says, and teacher or student may change. None: not said."""

    optimizer: Annotated[str, _among("optimizer", ("sgd", "adamw"))] = "sgd"
    lr: Positive = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    milestones: list[Share] = None
    gamma: float = 0.1
    schedule: Annotated[str, _among("schedule", ("constant", "cosine"))] = None
    warmup: float = 0.0
    batch_size: Annotated[int, Field(gt=0)] = None
    precision: Annotated[str, _among("precision", ("fp32", "bf16"))] = "fp32"
    init: Annotated[str, _among("init", ("scratch", "pretrained"))] = "scratch"


class _Recipe(_Settings):
    lr: Positive
    batch_size: Annotated[int, Field(gt=0)]


class _Part(_Settings):
    model: Annotated[str, _among("model", MODELS)]
    epochs: Annotated[int, Field(gt=0)]


class _Augment(_Strict):
    crop: int = 0
    flip: bool = False
    resized_crop: bool = False


class _Study(_Strict):
    dataset: Annotated[str, _among("data set", DATASETS)]
    data: Any = None  # its keys depend on the data set: see `_options`
    augment: _Augment = _Augment()
    recipe: Annotated[str, AfterValidator(_of_this_file)]
    teacher: _Part
    student: _Part
    temperatures: Annotated[list[Positive], AfterValidator(_different)]
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.8
    t_squared: bool = True
    seeds: Annotated[int, Field(ge=1)]
    fresh_teachers: Annotated[int, Field(ge=0)] = 0
    control_loss_scale: float = None


@cache
def _options(dataset: str) -> type[_Strict]:
    """The options of a data set's loader, each of the type of its default."""
    known = DATASETS[dataset]
    types: dict[str, Any] = {key: type(default) for key, default in known.options.items()}
    for key, valid in known.choices.items():
        types[key] = Annotated[types[key], _among(f"value of {key}", valid)]
    fields = {key: (types[key], default) for key, default in known.options.items()}
    return create_model(f"Options of {dataset}", __base__=_Strict, **fields)


@dataclass(frozen=True)
class Checked:
    """A profile's values. studies: {name: the other fields of a `Study`}."""

    name: str
    path: Path
    train: bool
    studies: dict[str, dict[str, Any]]
    artefacts: dict[str, list[str]]


def read(path: str | Path) -> Checked:
    """Read a profile: a path to a YAML file, or the name of one in `params/` such as 'quick'.

    Raises ProfileError with a line for each unknown key, wrong type, unknown name and value out of range.
    """
    path = _find(path)
    try:
        with path.open(encoding="utf-8") as file:
            raw = yaml.load(file, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ProfileError(f"{path} is not valid YAML: {error}") from error
    errors: list[str] = []
    top = _checked(_Top, raw, "", errors)
    # What is whole of a wrong file is read too, so that one look shows every error.
    recipes = {name: _checked(_Recipe, r, f"recipes.{name}", errors) for name, r in _entries(raw, "recipes", dict)}
    studies = {name: _study(s, recipes, f"studies.{name}", errors) for name, s in _entries(raw, "studies", dict)}
    for artefact, names in _entries(raw, "artefacts", list):
        wrong = [name for name in names if isinstance(name, str) and name not in studies]
        errors += [str(unknown("study", name, studies, place=f"artefacts.{artefact}")) for name in wrong]
    if errors:
        raise ProfileError("\n".join(f"{path}: {error}" for error in errors))
    return Checked(top.profile, path, top.train, studies, top.artefacts)


def _find(given: str | Path) -> Path:
    """The file of a profile. A relative path may also be beside the notebook that is running."""
    if Path(given).suffix in (".yaml", ".yml"):
        looked = dict.fromkeys((Path.cwd() / given, places.user_path(given)))
        for path in looked:
            if path.is_file():
                return path.resolve()
        raise ProfileError(
            f"there is no profile {' or '.join(map(str, looked))}. "
            "Give the path of a YAML file, or a name such as 'quick'."
        )
    folder = places.project_root() / "params"
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if str(given) not in known:
        raise unknown("profile", str(given), known, place=str(folder), error=ProfileError)
    return known[str(given)]


def _entries(raw: Any, section: str, kind: type) -> list[tuple[str, Any]]:
    """The entries of a section that are of the right kind; `_Top` refuses the others."""
    found = raw.get(section) if isinstance(raw, dict) else None
    return [item for item in found.items() if isinstance(item[1], kind)] if isinstance(found, dict) else []


def _study(raw: dict, recipes: dict[str, _Recipe | None], place: str, errors: list[str]) -> dict[str, Any]:
    """The fields of a Study but its name; empty if something is wrong."""
    study = _checked(_Study, raw, place, errors, context=recipes)
    dataset = str(raw.get("dataset"))
    options = dataset in DATASETS and _checked(_options(dataset), raw.get("data", {}), f"{place}.data", errors)
    if not (study and options and recipes[study.recipe]):
        return {}
    parts = {"teacher": study.teacher, "student": study.student}
    for role, part in parts.items():
        kinds = MODELS[part.model].kind, DATASETS[dataset].kind
        if kinds[0] != kinds[1]:
            errors.append(f"{place}.{role}: {part.model} reads {kinds[0]}, but {dataset} holds {kinds[1]}.")
    return {
        **study.model_dump(exclude={"recipe"}),
        **{role: _merged(recipes[study.recipe], part, f"{place}.{role}", errors) for role, part in parts.items()},
        "data": options.model_dump(),
        "augment": {key: value for key, value in study.augment.model_dump().items() if value},
        "temperatures": tuple(study.temperatures),
    }


def _merged(recipe: _Recipe, part: _Part, place: str, errors: list[str]) -> dict[str, Any]:
    """The fields of a run that teacher or student decide: the recipe with what this role changes."""
    values = {**recipe.model_dump(), **part.model_dump(exclude_unset=True)}
    milestones, gamma, name = (values.pop(key) for key in ("milestones", "gamma", "schedule"))
    if milestones is None:
        return values | {"schedule": {"name": name or "constant"}}
    if name is not None:
        errors.append(f"{place} has both milestones {milestones} and the schedule {name!r}; keep one.")
    return values | {"schedule": {"name": "step", "milestones": milestones, "gamma": gamma}}


Model = TypeVar("Model", bound=_Strict)


def _checked(model: type[Model], raw: Any, place: str, errors: list[str], context: Any = None) -> Model | None:
    """A mapping as its model. None if something in it is wrong, which is added to `errors`."""
    try:
        return model.model_validate(raw, context=context)
    except ValidationError as found:
        errors += [_in_words(model, place, **error) for error in found.errors(include_url=False)]
        return None


def _in_words(model: type[_Strict], place: str, *, type: str, loc: tuple, msg: str, input: Any, ctx: Any = None) -> str:
    """pydantic's error as ours: 'studies.tiny.seeds: Input should be a valid integer, not 2.5.'"""
    where = ".".join(str(part) for part in (place, *loc) if part not in ("", "[key]")) or "the file"
    outside, _, key = where.rpartition(".")
    if type == "missing":
        return f"{outside or 'the file'} needs the key {key!r}."
    if type in ("extra_forbidden", "model_type"):
        for name in loc[:-1] if type == "extra_forbidden" else loc:
            model = model.model_fields[name].annotation
        if type == "model_type":
            return f"{where} must be a mapping with {', '.join(model.model_fields)}, not {input!r}."
        return str(unknown("key", loc[-1], model.model_fields, place=outside))
    if type == "value_error":
        return f"{where}: {ctx['error']}"
    hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001.)" if (type, str(input)) == ("float_type", input) else ""
    return f"{where}: {msg}, not {input!r}.{hint}"


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice; plain PyYAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (place, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                mark = place.start_mark
                raise ProfileError(f"{mark.name}: the key {key!r} stands twice, in line {mark.line + 1}; keep one.")
        return super().construct_mapping(node, deep)
