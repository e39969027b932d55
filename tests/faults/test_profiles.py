"""Profiles are anyone's text: whatever bytes they hold, reading ends soon, in values or in kdlib's own error."""

import re
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlib import cli
from kdlib.catalogue import ARTEFACTS, DATASETS, MODELS
from kdlib.errors import KdlibError, ProfileError
from kdlib.profiles import MOST
from kdlib.studies import Profile, load_profile
from tests.conftest import TINY, make_project
from tests.faults.ledger import injected

BOMB = ", ".join(["&a0 [x, x, x, x, x]", *(f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))])


def refused(path, content: bytes | str, *words: str) -> None:
    """Reading a profile ends soon with an error of moderate length that has the file and these words in it."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    started = time.process_time()
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    said = str(caught.value)
    assert time.process_time() - started < 2 and all(line.isprintable() for line in said.splitlines())
    assert len(said.splitlines()) <= MOST + 1 and max(map(len, said.splitlines())) < 3_000
    assert [word for word in (path.name, *words) if word not in said] == [], said


def changed(old: str, new: str) -> str:
    assert old in TINY
    return TINY.replace(old, new, 1)


def seeds(value: str) -> str:
    return changed("seeds: 2", f"seeds: {value}")


HOSTILE = [
    (b"\xff\xfe\x00", ["UTF-8", "line 1"]),
    ("# Straße\n".encode("latin-1") + TINY.encode(), ["UTF-8", "line 1"]),
    (TINY.encode("utf-16"), ["UTF-8"]),
    (b"\x00" * 100, []),
    ("[" * 30_000, ["nested"]),
    ("{a: " * 8_000, ["nested"]),
    ("- " * 15_000, ["nested"]),
    (seeds(f"[{BOMB}]"), ["*a0"]),
    (seeds("&a [*a]"), ["*a"]),
    (changed("seeds: 2", "<<: *nobody"), ["*nobody"]),
    (seeds("9" * 400), ["studies.tiny.seeds"]),
    (changed("lr: 0.02", "lr: " + "9" * 400), ["recipes.sgd.lr"]),
    (seeds("9" * 5_000), ["5000 characters", "line"]),
    (seeds("0x" + "f" * 30_000), ["characters"]),
    (seeds("2001-13-45"), ["month"]),
    (seeds("2001-12-14"), ["studies.tiny.seeds"]),
    (seeds("2001-12-14t21:59:43.10-05:00"), ["studies.tiny.seeds"]),
    (seeds("!!int abc"), ["'abc'"]),
    (seeds("!!int ''"), []),
    (seeds("0b_"), []),
    (seeds("!!bool maybe"), ["maybe"]),
    (seeds("!!timestamp x"), []),
    (seeds("!!set {a, b}"), ["studies.tiny.seeds"]),
    (seeds("!!omap [a: 1]"), ["studies.tiny.seeds"]),
    (seeds("!!binary aGVsbG8="), ["studies.tiny.seeds"]),
    (seeds("!!binary 'x'"), []),
    (seeds("!!python/object/apply:os.system [true]"), ["python/object"]),
    (changed("  tiny:", "  1:"), ["key 1", "line"]),
    (changed("  tiny:", "  null:"), ["key None"]),
    (changed("  tiny:", "  yes:"), ["key True"]),
    (changed("  tiny:", "  [a, b]:"), ["key ['a', 'b']"]),
    (changed("  tiny:", "  ? {a: b}\n  :"), ["key {'a': 'b'}"]),
    (changed("  tiny:", '  "a\\nb":'), [r"'a\nb'"]),
    ("{" + ", ".join(f"k{i}: 1" for i in range(3_000)) + "}", ["'k0'", "perhaps more"]),
    (changed("[tiny]", "[" + ", ".join(f"s{i}" for i in range(4_000)) + "]"), ["'s0'", "perhaps more"]),
    ("x" * 40_000, ["32,768 bytes"]),
]


@pytest.mark.parametrize(("content", "words"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_soon_and_in_a_line(tmp_path, content, words):
    refused(tmp_path / "hostile.yaml", content, *words)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("lr: 0.02", "lr: 1000", "lr"),
        ("momentum: 0.9", "momentum: 5", "momentum"),
        ("momentum: 0.9", "momentum: 1", "momentum"),
        ("momentum: 0.9", "momentum: -1", "momentum"),
        ("weight_decay: 0.001", "weight_decay: -1", "weight_decay"),
        ("weight_decay: 0.001", "weight_decay: 2", "weight_decay"),
        ("gamma: 0.1", "gamma: -1", "gamma"),
        ("gamma: 0.1", "gamma: 0", "gamma"),
        ("gamma: 0.1", "gamma: 1.5", "gamma"),
        ("lr: 0.02", "lr: 0.02, warmup: -1", "warmup"),
        ("lr: 0.02", "lr: 0.02, warmup: 3", "warmup"),
        ("batch_size: 32", "batch_size: 2000000", "batch_size"),
        ("epochs: 3", "epochs: 1000000000", "epochs"),
        ("crop: 1", "crop: -3", "crop"),
        ("crop: 1", "crop: 1001", "crop"),
        ("digits\n    data: {train_images: 100}\n    augment: {crop: 1}", "cifar10\n    augment: {crop: 33}", "crop"),
        ("train_images: 100", "train_images: -1", "train_images"),
        ("train_images: 100", "seed: 1000000000000", "seed"),
        ("[1, 4]", "[1, 100000]", "temperatures.1"),
        ("seeds: 2", "seeds: 1000000000", "seeds"),
        ("seeds: 2", "seeds: 2\n    fresh_teachers: 1000000000", "fresh_teachers"),
        ("seeds: 2", "seeds: 2\n    control_loss_scale: 0", "control_loss_scale"),
        ("seeds: 2", "seeds: 2\n    control_loss_scale: -0.2", "control_loss_scale"),
    ],
)
def test_a_value_outside_its_range_is_refused_before_training(tmp_path, old, new, key):
    refused(tmp_path / "range.yaml", changed(old, new), key, re.findall(r"-?[\d.]+", new)[-1])


NAMES = ["../../x", "a/b", "..", ".x", "a\\b", "", " ", "a" * 81, "-rf", "a:b", "a\nb", "\x1b[31m", "a\u202eb"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["profile", "studies"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path, key, name):
    values = yaml.safe_load(TINY)
    values[key] = name if key == "profile" else {name: values["studies"]["tiny"]}
    values["artefacts"] = {}
    refused(tmp_path / "name.yaml", yaml.safe_dump(values))


@pytest.mark.parametrize("name", ["zürich", "cifar100-resnet", "a.b", "two words", "T2_on", "9"])
def test_a_name_of_any_language_is_fine(tmp_path, name):
    values = yaml.safe_load(TINY) | {"profile": name}
    (tmp_path / "name.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert load_profile(tmp_path / "name.yaml").name == name


@pytest.mark.parametrize(
    "asked", ["../x", "params/x", ".", "a\0b", "x" * 5_000, "x" * 5_000 + ".yaml", "~nobody/x.yaml"]
)
def test_a_profile_is_asked_for_by_its_name_or_as_a_file(tmp_path, monkeypatch, asked):
    make_project(tmp_path)
    for folder in (tmp_path, tmp_path / "params"):
        (folder / "x.yaml").write_text(TINY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KdlibError):
        load_profile(asked)


def test_a_folder_is_no_profile(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ProfileError, match="folder.yaml"):
        load_profile(tmp_path / "folder.yaml")


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    (tmp_path / "latin.yaml").write_bytes("# Straße".encode("latin-1"))
    assert cli.main(["status", "--profile", str(tmp_path / "latin.yaml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


TOKENS = ["1", "0", "-1", "2.5", "1e3", ".nan", ".inf", "null", "yes", "~", "0x1F", "0o7", "1:30", "9" * 24, "-1e400"]
TOKENS += [
    "2001-01-01",
    "2001-99-99",
    "!!int",
    "!!float",
    "!!set",
    "!!binary",
    "!!omap",
    "!!str",
    "&a",
    "*a",
    "<<",
    "?",
]
TOKENS += [*"|>'\"[]{},:-#%@`", "tiny", "digits", "resnet8", "sgd", "lr", "seeds"]


@st.composite
def texts(draw) -> bytes:
    """A profile in which some words are others and a bit may be flipped, or plain bytes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=300))
    words = re.split(r"(\s+|[,:{}\[\]])", TINY)
    for _ in range(draw(st.integers(1, 4))):
        other = st.sampled_from(TOKENS) | st.text(max_size=5) | st.sampled_from(TINY.splitlines())
        words[draw(st.integers(0, len(words) - 1))] = draw(other)
    found = bytearray("".join(words).encode("utf-8", "surrogatepass"))
    if kind == 1:
        found[draw(st.integers(0, len(found) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(found)


WHOLE = yaml.safe_load(TINY)
WHOLE["studies"]["tiny"] |= {"alpha": 0.8, "t_squared": True, "fresh_teachers": 1, "control_loss_scale": 0.5}


def inside(value, way=()):
    yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from inside(value[key], (*way, key))


def put(value, way, other):
    """A copy with `other` at the end of the way."""
    if not way:
        return other
    copy = value.copy()
    copy[way[0]] = put(value[way[0]], way[1:], other)
    return copy


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
SCALARS |= st.dates() | st.datetimes() | st.sampled_from([*DATASETS, *ARTEFACTS, *MODELS, "tiny", "sgd"])
KEYS = st.sampled_from(["model", "name", "teacher", "tiny", *WHOLE]) | SCALARS
VALUES = st.recursive(
    SCALARS | st.sets(st.text(max_size=3), max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def structures(draw) -> bytes:
    """A profile with values of any type in up to three of its places."""
    found = WHOLE
    for _ in range(draw(st.integers(1, 3))):
        found = put(found, draw(st.sampled_from(list(inside(found)))), draw(VALUES))
    return yaml.safe_dump(found, allow_unicode=True).encode("utf-8", "surrogatepass")


def fuzz(path, content: bytes, attack="a profile of random words and bytes") -> None:
    path.write_bytes(content)
    count, started = injected(attack), time.process_time()
    try:
        read = load_profile(path)
    except ProfileError as error:
        assert path.name in str(error)
        count["found"] += 1
    else:
        assert isinstance(read, Profile) and all(study.runs() for study in read.studies.values())
        count["harmless"] += 1
    assert time.process_time() - started < 2


relaxed = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=300, **relaxed)
@given(content=texts())
def test_any_bytes_are_a_profile_or_an_error_of_ours(tmp_path, content):
    fuzz(tmp_path / "any.yaml", content)


@pytest.mark.slow
@settings(max_examples=20_000, **relaxed)
@given(content=texts())
def test_twenty_thousand_profiles(tmp_path, content):
    fuzz(tmp_path / "any.yaml", content)


@settings(max_examples=200, **relaxed)
@given(content=structures())
def test_any_values_are_a_profile_or_an_error_of_ours(tmp_path, content):
    fuzz(tmp_path / "any.yaml", content, "a profile with values of any type in any place")


@pytest.mark.slow
@settings(max_examples=20_000, **relaxed)
@given(content=structures())
def test_twenty_thousand_structures(tmp_path, content):
    fuzz(tmp_path / "any.yaml", content, "a profile with values of any type in any place")
