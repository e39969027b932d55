"""Released files at the hands of chance: whatever stands in them is right, or refused by an error of ours."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlib import files
from kdlib.errors import KdlibError, KdlibWarning, StoreError
from kdlib.predictions import released
from kdlib.predictions.collect import collect, collect_parts
from kdlib.studies import load_profile
from tests.conftest import TINY
from tests.faults.ledger import injected
from tests.predictions.test_released import changed, fill, write

FEW, MANY = (settings(max_examples=n, deadline=None, suppress_health_check=[HealthCheck.too_slow]) for n in (25, 1_000))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
COLUMNS = st.sampled_from(
    [
        lambda n: pa.nulls(n),
        lambda n: pa.array([True] * n),
        lambda n: pa.array(["a"] * n),
        lambda n: pa.array([b"\xff"] * n),
        lambda n: pa.array([[1]] * n),
        lambda n: pa.array(np.arange(n, dtype=np.uint64) + 2**63),
        lambda n: pa.array(np.full(n, -1)),
        lambda n: pa.array(np.full(n, 10**6)),
        lambda n: pa.array(np.full(n, 0.5)),
        lambda n: pa.array(np.full(n, np.nan, np.float16)),
        lambda n: pa.array(np.full(n, np.inf, np.float16)),
        lambda n: pa.array(np.full(n, -0.7, np.float16)),
        lambda n: pa.array(np.full(n, -np.inf, np.float16)),
        lambda n: pa.array([None, *[1] * (n - 1)]),
        lambda n: pa.array(np.zeros(n, "datetime64[ns]")),
    ]
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return load_profile(path).study("tiny")


KINDS = {
    "every probability": (2, True),
    "of the predicted class": (12, True),
    "every probability, before content": (2, False),
    "of the predicted class, before content": (12, False),
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def whole(request, study, tmp_path_factory):
    """A released file: its path, its bytes, its table, and what is read of it; None where it has no `content`."""
    folder, (classes, content) = tmp_path_factory.mktemp("released"), request.param
    fill(folder / "runs", study, classes=classes, n=24, validation=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        path = write(study, folder / "runs", folder / "out")
    if not content:
        changed(path)
    return path, path.read_bytes(), pq.read_table(path), values(read(study, path)) if content else None


def read(study, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        places = {"runs_dir": path / "none", "released": path.parent}
        parts = collect_parts([study], **places)[study.name]
        return [parts["test"], parts.get("validation") or collect(study, part="validation", **places)]


def values(found):
    """All that is read of both parts, as JSON."""
    parts = []
    for p in found:
        arrays = {"predicted": p.predicted, "labels": p.labels, "ids": p.sample_ids, "confidence": p.confidence}
        arrays |= {"probabilities": p.probabilities, **p.groups, **p.twins}
        parts.append([p.class_names, {k: None if v is None else np.asarray(v).tolist() for k, v in arrays.items()}])
    return json.dumps([parts, [p.runs.to_json() for p in found]])


def flipped(study, whole, place, bit):
    """One bit in any place: the sum finds it."""
    path, raw, *_ = whole
    data = bytearray(raw)
    data[place % len(raw)] ^= 1 << bit
    path.write_bytes(data)
    count = injected("a flipped bit in a released file")
    with pytest.raises(StoreError, match="tiny.parquet"):
        released.read(path.parent, study)
    count["found"] += 1


def flipped_and_sealed(study, whole, place, bit):
    """One bit, and a sum that fits: what is read is whole predictions, or refused."""
    _, raw, *_ = whole
    data = bytearray(raw)
    data[place % len(raw)] ^= 1 << bit
    sealed(study, whole, bytes(data))


def sealed(study, whole, data):
    """Refused, or what was written; of a file without `content` only whole predictions can be asked for."""
    path, _, _, right = whole
    path.write_bytes(data)
    files.write_sum(path)
    count = injected(f"a released file made anew with a sum that fits{', from before content' * (right is None)}")
    try:
        found = read(study, path)
    except KdlibError:
        count["found"] += 1
        return
    for p in found:
        assert p.confidence is not None or np.isfinite(p.probabilities).all()
    assert right in (None, values(found))
    count["harmless"] += 1


def other_column(study, whole, number, make):
    table = whole[2]
    name = table.column_names[number % table.num_columns]
    rewrite(study, whole, table.set_column(number % table.num_columns, name, make(len(table))))


def other_shape(study, whole, number, what):
    table = whole[2]
    name = table.column_names[number % table.num_columns]
    changes = {
        "without a column": lambda: table.drop_columns([name]),
        "a column twice": lambda: table.append_column(name, table[name]),
        "renamed": lambda: table.rename_columns([n + "0" if n == name else n for n in table.column_names]),
        "without rows": lambda: table.slice(0, 0),
        "some rows": lambda: table.slice(0, number % len(table)),
        "rows twice": lambda: pa.concat_tables([table, table]),
        "no metadata": lambda: table.replace_schema_metadata({}),
        "metadata that is no text": lambda: table.replace_schema_metadata({"kdlib": b"\xff{"}),
        "deep metadata": lambda: table.replace_schema_metadata({"kdlib": "[" * 100_000}),
    }
    rewrite(study, whole, changes[what]())


SHAPES = ("without a column", "a column twice", "renamed", "without rows", "some rows", "rows twice", "no metadata")
SHAPES += ("metadata that is no text", "deep metadata")


def other_metadata(study, whole, number, value):
    """Any value in any place of the metadata."""
    table = whole[2]
    about = json.loads(table.schema.metadata[b"kdlib"])
    places = list(inside(about))
    owner, key = places[number % len(places)]
    owner[key] = value
    rewrite(study, whole, table.replace_schema_metadata({"kdlib": json.dumps(about)}))


def inside(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from inside(value[key])


def rewrite(study, whole, table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    sealed(study, whole, sink.getvalue().to_pybytes())


NUMBERS = st.integers(0, 10**6)
ATTACKS = {
    "flipped": (flipped, NUMBERS, st.integers(0, 7)),
    "flipped and sealed": (flipped_and_sealed, NUMBERS, st.integers(0, 7)),
    "another column": (other_column, NUMBERS, COLUMNS),
    "another shape": (other_shape, NUMBERS, st.sampled_from(SHAPES)),
    "other metadata": (other_metadata, NUMBERS, JSON),
}


def attack(name, study, whole, bound):
    act, *strategies = ATTACKS[name]
    path, raw, *_ = whole

    @bound
    @given(st.tuples(*strategies))
    def act_on(drawn):
        act(study, whole, *drawn)

    try:
        act_on()
    finally:
        path.write_bytes(raw)
        files.write_sum(path)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_released_file_is_right_or_refused(name, study, whole):
    attack(name, study, whole, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_released_file_is_right_or_refused_a_thousand_times(name, study, whole):
    attack(name, study, whole, MANY)


def test_any_bytes_are_refused(study, whole):
    path, raw, *_ = whole

    @FEW
    @given(st.binary(max_size=200))
    def act(data):
        path.write_bytes(data)
        files.write_sum(path)
        with pytest.raises(StoreError, match="tiny.parquet"):
            released.read(path.parent, study)

    try:
        act()
    finally:
        path.write_bytes(raw)
        files.write_sum(path)
