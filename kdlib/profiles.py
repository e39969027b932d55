"""A profile's YAML, read strictly: unknown keys, wrong types, names and ranges are refused, all of a file at once.

The file may be anyone's: whatever bytes it holds, reading ends soon, with its values or a ProfileError. What comes out
are plain values; `studies` makes its `Study` of them.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model

from kdlib import files, places
from kdlib.catalogue import ARTEFACTS, DATASETS, MODELS, network
from kdlib.errors import InvalidInput, ProfileError, require_known, unknown


def _among(what: str, valid: Iterable[str]) -> AfterValidator:
    """The value is one of these names."""

    def check(value: Any) -> Any:
        require_known(what, value, valid)
        return value

    return AfterValidator(check)


def _of_this_file(name: str, info: ValidationInfo) -> str:
    require_known("recipe", name, info.context)
    return name


def _network(name: str) -> str:
    if name not in MODELS and not OWN.fullmatch(name):
        raise unknown("model", name, [*MODELS, "FILE.py:FUNCTION for one of yours, in a file beside the profile"])
    return name


def _different(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError(f"names one twice: {SHORT.repr(values)}.")
    return values


# All that a profile may say has a range. Most ends are far beyond what anyone trains: they catch slips of the pen.
Name = Annotated[str, Field(pattern=r"^\w[\w.+ -]*$", max_length=80)]  # it becomes the name of files and folders
Rate = Annotated[float, Field(gt=0, le=100)]
Batch = Annotated[int, Field(ge=1, le=1_000_000)]
Temperature = Annotated[float, Field(gt=0, le=10_000)]
OPTIONS = {int: Field(ge=0, le=10**9), float: Field(ge=-1, le=1), bool: Field(), str: Field(max_length=200)}

OWN = re.compile(r"(\w[\w.-]*\.py):[A-Za-z_]\w*", re.ASCII)  # somebody's own network: file and function

LONGEST = 2**15  # bytes of a profile: the longest of ours has 13,000
MOST = 20  # errors that are told at once
SHORT = reprlib.Repr()
SHORT.maxstring = 80


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Top(_Strict):
    profile: Name
    train: bool = True
    recipes: dict[str, dict]
    studies: dict[Name, dict]
    artefacts: dict[Annotated[str, _among("artefact", ARTEFACTS)], list[str]] = {}


class _Settings(_Strict):
    """What a recipe says, and teacher or student may change. None: not said."""

    optimizer: Annotated[str, _among("optimizer", ("sgd", "adamw"))] = "sgd"
    lr: Rate = None
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=1)
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = None
    gamma: float = Field(0.1, gt=0, le=1)
    schedule: Annotated[str, _among("schedule", ("constant", "cosine"))] = None
    warmup: float = Field(0.0, ge=0, le=100_000)  # and shorter than the training, see `_merged`
    batch_size: Batch = None
    precision: Annotated[str, _among("precision", ("fp32", "bf16"))] = "fp32"
    init: Annotated[str, _among("init", ("scratch", "pretrained"))] = "scratch"


class _Recipe(_Settings):
    lr: Rate
    batch_size: Batch


class _Part(_Settings):
    model: Annotated[str, AfterValidator(_network)]
    epochs: int = Field(ge=1, le=100_000)


class _Augment(_Strict):
    crop: int = Field(0, ge=0, le=1_000)  # and no wider than the image, see `_study`
    flip: bool = False
    resized_crop: bool = False


class _Study(_Strict):
    dataset: Annotated[str, _among("data set", DATASETS)]
    data: Any = None  # its keys depend on the data set: see `_options`
    augment: _Augment = _Augment()
    recipe: Annotated[str, AfterValidator(_of_this_file)]
    teacher: _Part
    student: _Part
    temperatures: Annotated[list[Temperature], Field(max_length=1_000), AfterValidator(_different)]
    alpha: float = Field(0.8, ge=0, le=1)
    t_squared: bool = True
    seeds: int = Field(ge=1, le=1_000)
    fresh_teachers: int = Field(0, ge=0, le=1_000)
    first_seed: int = Field(0, ge=0, le=1_000_000)
    control_loss_scale: float = Field(None, gt=0, le=10_000)


@cache
def _options(dataset: str) -> type[_Strict]:
    """The options of a data set's loader, each of the type of its default."""
    known = DATASETS[dataset]
    kinds = {key: type(default) for key, default in known.options.items()}
    types: dict[str, Any] = {key: Annotated[kind, OPTIONS[kind]] for key, kind in kinds.items()}
    for key, valid in known.choices.items():
        types[key] = Annotated[types[key], _among(f"value of {key}", valid)]
    for key, (least, most) in known.ranges.items():
        types[key] = Annotated[types[key], Field(ge=least, le=most)]
    fields = {key: (types[key], default) for key, default in known.options.items()}
    return create_model(f"Options of {dataset}", __base__=_Strict, **fields)


def options(dataset: str, given: dict[str, Any]) -> dict[str, Any]:
    """Every option of a data set's loader, defaults filled in. Raises InvalidInput with a line for each wrong one."""
    errors: list[str] = []
    read = _checked(_options(dataset), given, dataset, errors)
    if errors:
        raise InvalidInput("\n".join(errors))
    return read.model_dump()


def read(given: str | Path) -> dict[str, Any]:
    """A profile's values, as the fields of a `Profile`; of each study, as the fields of a `Study` but its name.

    given: a path to a YAML file, or the name of one in `params/` such as 'quick'.
    Raises ProfileError with a line for each unknown key, wrong type, unknown name and value out of range.
    """
    path = _find(given)
    raw = _loaded(path)
    errors: list[str] = []
    top = _checked(_Top, raw, "", errors)
    # What is whole of a wrong file is read too, so that one look shows every error.
    recipes = {name: _checked(_Recipe, r, f"recipes.{name}", errors) for name, r in _entries(raw, "recipes", dict)}
    entries = _entries(raw, "studies", dict)
    studies = {name: _study(s, recipes, path.parent, f"studies.{name}", errors) for name, s in entries}
    for artefact, names in _entries(raw, "artefacts", list):
        wrong = [name for name in names if isinstance(name, str) and name not in studies]
        errors += [str(unknown("study", n, studies, place=f"artefacts.{artefact}")) for n in _first(wrong, errors)]
    if errors:
        more = "\nand perhaps more." if len(errors) >= MOST else ""
        raise ProfileError("\n".join(f"{path}: {error}" for error in errors) + more)
    return {"name": top.profile, "path": path, "train": top.train, "studies": studies, "artefacts": top.artefacts}


def _loaded(path: Path) -> Any:
    """What the YAML says, of whatever type. Raises ProfileError for anything that is not plain, short YAML."""
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise yaml.YAMLError(f"it is longer than {LONGEST:,} bytes; split it into several profiles")
        return yaml.load(content.decode("utf-8-sig"), Loader=_StrictLoader)
    except OSError as error:
        raise ProfileError(f"cannot read the profile {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProfileError(f"{path} is not UTF-8 in line {line}: save it with that encoding.") from error
    # What PyYAML raises for values such as 2001-13-45, !!int abc or !!bool maybe.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ProfileError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _find(given: str | Path) -> Path:
    """The file of a profile. A relative path may also be beside the notebook that is running."""
    if Path(str(given)).suffix in (".yaml", ".yml"):
        looked = dict.fromkeys((Path.cwd() / given, places.user_path(given)))
        for path in looked:
            if os.path.isfile(path):  # False, too, for a name that no disk takes
                return path.resolve()
        there = " or ".join(map(str, looked))
        raise ProfileError(f"there is no profile {there}. Give the path of a YAML file, or a name such as 'quick'.")
    folder = places.project_root() / "params"
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if not known:
        raise ProfileError(
            f"there is no profile {str(given)!r} here: those of the paper are in a checkout of kdlib. Give the path of "
            "a YAML file as --profile; `kdlib init my.yaml` writes one for your own images."
        )
    if str(given) not in known:
        raise unknown("profile", str(given), known, place=str(folder), error=ProfileError)
    return known[str(given)]


def _entries(raw: Any, section: str, kind: type) -> list[tuple[str, Any]]:
    """The entries of a section that are of the right kind; `_Top` refuses the others."""
    found = raw.get(section) if isinstance(raw, dict) else None
    return [item for item in found.items() if isinstance(item[1], kind)] if isinstance(found, dict) else []


def _study(
    raw: dict, recipes: dict[str, _Recipe | None], folder: Path, place: str, errors: list[str]
) -> dict[str, Any]:
    """The fields of a Study but its name; not all of them if something is wrong.

    What has to fit together is checked as far as it can be read, so that one look shows every error.
    """
    study = _checked(_Study, raw, place, errors, context=recipes)
    dataset, code = str(raw.get("dataset")), {}
    options = dataset in DATASETS and _checked(_options(dataset), raw.get("data", {}), f"{place}.data", errors)
    augment = _checked(_Augment, raw.get("augment", {}), "", [])
    if options and augment and augment.crop > (side := options.model_dump().get("image_size", augment.crop)):
        errors.append(f"{place}.augment.crop: {augment.crop} pixels are beyond images of {side}; take fewer.")
    recipe, merged = recipes.get(str(raw.get("recipe"))), {}
    for role in ("teacher", "student"):
        if not (part := _checked(_Part, raw.get(role), "", [])):
            continue
        reads, holds = network(part.model).kind, dataset in DATASETS and DATASETS[dataset].kind
        if holds and reads not in (holds, "own"):
            errors.append(f"{place}.{role}: {part.model} reads {reads}, but {dataset} holds {holds}.")
        if reads == "own":
            part = part.model_copy(update={"model": _with_sha256(part.model, folder, f"{place}.{role}", code, errors)})
        if recipe:
            merged[role] = _merged(recipe, part, f"{place}.{role}", errors)
    if not (study and options and recipe):
        return {}
    later = {key: DATASETS[dataset].options[key] for key in DATASETS[dataset].later}
    return {
        **study.model_dump(exclude={"recipe"}),
        **merged,
        "data": {key: value for key, value in options.model_dump().items() if value != later.get(key)},
        "augment": {key: value for key, value in study.augment.model_dump().items() if value},
        "temperatures": tuple(study.temperatures),
        "code": code,
    }


def _with_sha256(model: str, folder: Path, place: str, code: dict[str, str], errors: list[str]) -> str:
    """'nets.py:mynet@<sha256>' of 'nets.py:mynet'; what the file holds is added to `code`."""
    path = folder / model.partition(":")[0]
    try:
        data = files.contents(path)
        code[digest := files.sha256(data)] = data.decode()
        return f"{model}@{digest}"
    except OSError as error:
        errors.append(f"{place}.model: cannot read {path}: {error.strerror or error}. Put the file beside the profile.")
    except UnicodeDecodeError:
        errors.append(f"{place}.model: {path} is not UTF-8: save it with that encoding.")
    return model


def _merged(recipe: _Recipe, part: _Part, place: str, errors: list[str]) -> dict[str, Any]:
    """The fields of a run that teacher or student decide: the recipe with what this role changes."""
    values = {**recipe.model_dump(), **part.model_dump(exclude_unset=True)}
    if values["warmup"] >= values["epochs"]:
        errors.append(f"{place}: warmup {values['warmup']:g} is as long as all {values['epochs']} epochs; shorten it.")
    milestones, gamma, name = (values.pop(key) for key in ("milestones", "gamma", "schedule"))
    if milestones is None:
        return values | {"schedule": {"name": name or "constant"}}
    if name is not None:
        errors.append(f"{place} has both milestones {milestones} and the schedule {name!r}; keep one.")
    return values | {"schedule": {"name": "step", "milestones": milestones, "gamma": gamma}}


def _first(wrong: list, errors: list[str]) -> list:
    """As many of what is wrong as are told."""
    return wrong[: max(0, MOST - len(errors))]


Model = TypeVar("Model", bound=_Strict)


def _checked(model: type[Model], raw: Any, place: str, errors: list[str], context: Any = None) -> Model | None:
    """A mapping as its model. None if something in it is wrong, which is added to `errors`."""
    try:
        return model.model_validate(raw, context=context)
    except ValidationError as found:
        wrong = _first(found.errors(include_url=False), errors)
        errors += [_in_words(model, place, **error) for error in wrong]
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
            return f"{where} must be a mapping with {', '.join(model.model_fields)}, not {SHORT.repr(input)}."
        return str(unknown("key", loc[-1], model.model_fields, place=outside))
    if type == "value_error":
        return f"{where}: {ctx['error']}"
    hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001.)" if (type, str(input)) == ("float_type", input) else ""
    return f"{where}: {msg}, not {SHORT.repr(input)}.{hint}"


def _refuse(problem: str, place: yaml.Event | yaml.Node) -> None:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without what no profile needs: aliases, deep nests, endless values, keys that are no text or twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):  # a few hundred bytes of them stand for more than any memory holds
            _refuse(f"*{event.anchor} is an alias: write out what it stands for", event)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > 1_000:
            _refuse(f"{SHORT.repr(event.value)} has {len(event.value)} characters", event)
        if self.depth > 20:
            _refuse("nested too deeply: four levels do", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        known = set()
        for place, _ in node.value:
            key = self.construct_object(place, deep=True)
            if not (isinstance(key, str) and key.isprintable()):
                _refuse(f"the key {SHORT.repr(key)} is no text: put it in quotes, or take another", place)
            if key in known:
                _refuse(f"the key {key!r} stands twice: keep one", place)
            known.add(key)
        return super().construct_mapping(node, deep)
