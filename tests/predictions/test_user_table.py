"""Anyone's table becomes the right predictions, or one line that names column, value and row."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from kdlib import fairness, read_table
from kdlib.errors import InvalidInput, KdlibError, KdlibWarning
from kdlib.predictions.user_table import parse_columns

TEXT = """\
sample_id,model,seed,y_true,y_pred,sex
a,v1,0,cow,cow,f
b,v1,0,ant,cow,m
c,v1,0,bee,bee,f
c,v2,0,bee,ant,f
a,v2,0,cow,cow,f
b,v2,0,ant,ant,m
"""
BINARY = """\
sample_id,model,y_true,prob_no,prob_yes
a,v1,no,0.9,0.1
b,v1,yes,0.25,0.75
"""


def frame(text=TEXT, **changes):
    """The table with cells changed: frame(y_true={3: 'cow'}), or whole columns."""
    table = pd.read_csv(io.StringIO(text), dtype=object, keep_default_na=False)
    for name, cells in changes.items():
        if isinstance(cells, dict):
            table[name] = table[name].astype(object)
            for row, value in cells.items():
                table.loc[row, name] = value
        else:
            table[name] = cells
    return table


def refused(source, *words, **options):
    with pytest.raises(InvalidInput) as caught:
        read_table(source, **options)
    message = str(caught.value)
    assert "\n" not in message and [word for word in words if word not in message] == [], message


# --- the right values -------------------------------------------------------------------------------------------------


def test_rows_are_aligned_by_id():
    p = read_table(frame())
    assert p.class_names == ("ant", "bee", "cow") and p.sample_ids.tolist() == ["a", "b", "c"]
    assert p.labels.tolist() == [2, 0, 1] and p.predicted.tolist() == [[2, 2, 1], [2, 0, 0]]
    assert p.accuracy.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert p.groups["sex"].tolist() == ["f", "m", "f"] and p.probabilities is None
    assert p.runs["run_id"].tolist() == ["v1 seed 0", "v2 seed 0"]
    assert p.runs["temperature"].isna().all() and p.runs["teacher_id"].tolist() == [None, None]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-given"])
def test_csv_dialects(tmp_path, separator, encoding):
    text = TEXT.replace("cow", "Kühe").replace(",", separator)
    given = encoding.removesuffix("-given") if encoding.endswith("-given") else None
    (tmp_path / "p.csv").write_bytes(text.encode(given or encoding))
    p = read_table(tmp_path / "p.csv", encoding=given)
    assert p.class_names == ("Kühe", "ant", "bee") and p.labels.tolist() == [0, 1, 2]


def test_latin_1_is_read_and_said(tmp_path):
    (tmp_path / "p.csv").write_bytes(TEXT.replace("cow", "Kühe").encode("latin-1"))
    with pytest.warns(KdlibWarning, match=r"p\.csv is not UTF-8"):
        p = read_table(tmp_path / "p.csv")
    assert p.class_names == ("Kühe", "ant", "bee")
    refused(tmp_path / "p.csv", "p.csv", encoding="utf-8")
    refused(tmp_path / "p.csv", "p.csv", "klingon", encoding="klingon")


def test_decimal_commas(tmp_path):
    text = BINARY.replace(",", ";").replace(".", ",").replace("v1", "v1;2,5").replace("model", "model;temperature")
    (tmp_path / "p.csv").write_text(text)
    p = read_table(tmp_path / "p.csv")
    assert p.probabilities[0][:, 1].tolist() == pytest.approx([0.1, 0.75]) and p.temperatures == [2.5]


def test_compressed_csv_parquet_and_several_of_them(tmp_path):
    table = frame()
    table.to_csv(tmp_path / "p.csv.gz", index=False)
    table.to_csv(tmp_path / "index.csv", sep="\t")  # with the column that pandas adds
    table.to_parquet(tmp_path / "p.parquet")
    table[:2].to_parquet(tmp_path / "a.parquet")
    table[2:].to_parquet(tmp_path / "b.parquet")
    right = read_table(table)
    parts = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    for source in (
        tmp_path / "p.csv.gz",
        tmp_path / "index.csv",
        tmp_path / "p.parquet",
        parts,
        [table[:3], table[3:]],
    ):
        p = read_table(source)
        assert np.array_equal(p.predicted, right.predicted) and p.runs.equals(right.runs)
        assert p.groups["sex"].tolist() == right.groups["sex"].tolist()


def test_an_index_with_a_name_is_a_column():
    assert read_table(frame().set_index("sample_id")).sample_ids.tolist() == ["a", "b", "c"]


def test_columns_of_other_names(tmp_path):
    table = frame().rename(columns={"y_true": "label", "sample_id": "id"}).assign(y_pred2=frame()["y_true"])
    table.to_csv(tmp_path / "p.csv", sep=";", index=False)
    columns = {"y_true": "label", "sample_id": "id", "y_pred": "y_pred2"}
    p = read_table(tmp_path / "p.csv", columns=columns)
    assert p.accuracy.tolist() == [1, 1] and "y_pred" not in p.groups
    table.loc[4, "label"] = ""
    refused(table, "'label' (y_true)", "row 4", columns=columns)
    refused(table, "lable", "Did you mean 'label'", columns={"y_true": "lable"})
    refused(table, "ytrue", "Did you mean 'y_true'", columns={"ytrue": "label"})
    refused(table, "one meaning", columns={"y_true": "label", "y_pred": "label"})
    refused(table, "no column sample_id and no y_true", "'label'")


def test_columns_as_text():
    assert parse_columns('y_true=label, prob_1=s=core,"seed=a,b"') == {
        "y_true": "label",
        "prob_1": "s=core",
        "seed": "a,b",
    }
    for text in ("", "y_true", "y_true=", "=label", "y_true=a,y_true=b", "y_true=a,,y_pred=b"):
        if text:
            with pytest.raises(InvalidInput, match="y_true=label"):
                parse_columns(text)
        else:
            assert parse_columns(text) == {}


@pytest.mark.parametrize(
    ("true", "predicted", "names"),
    [
        (["1", "2", "10"], ["10", "2", "1"], ("1", "2", "10")),
        ([1, 2, 10], [10.0, 2.0, 1.0], ("1", "2", "10")),  # as pandas has it after a merge
        (["-1", "1", "1"], ["1.0", "-1.0", "1.0"], ("-1", "1")),
        (np.array([1, 2, 2], np.uint8), [2, 2, 1], ("1", "2")),
        ([True, False, True], [False, False, True], ("False", "True")),
        (["7", "a", "b"], ["a", "a", "7"], ("7", "a", "b")),  # digits and letters
        ([0, 0, 0], [0, 0, 0], ("0",)),
        ([5, 5, 5], [6, 6, 7], ("5", "6", "7")),
        (["None", "mild", "None"], ["mild", "mild", "None"], ("None", "mild")),
        ([2**64, 2**64 + 1, 2**64], [2**64, 2**64, 2**64], (str(2**64), str(2**64 + 1))),
        (["1.000e+00", "0.000e+00", "0.000e+00"], [1, 0, 1], ("0", "1")),  # numpy.savetxt
    ],
)
def test_classes(true, predicted, names):
    table = pd.DataFrame({"sample_id": [1, 2, 3], "model": "m", "y_true": true, "y_pred": predicted})
    p = read_table(table)
    assert p.class_names == names
    by_name = {str(v).removesuffix(".0"): v for v in [*true, *predicted]}
    assert [names[i] for i in p.labels] == [read_name(v) for v in true] and by_name
    assert [names[i] for i in p.predicted[0]] == [read_name(v) for v in predicted]


def read_name(value):
    try:
        return (
            str(int(value))
            if isinstance(value, int | np.integer) and value is not True and value is not False
            else (str(value) if isinstance(value, bool | np.bool_) else str(int(float(value))))
        )
    except ValueError:
        return str(value)


def test_the_positive_class_can_be_named():
    table = frame(y_pred=["approved", "denied", "approved"] * 2)
    table["y_true"] = table["sample_id"].map({"a": "approved", "b": "denied", "c": "approved"})
    assert read_table(table).class_names == ("approved", "denied")
    p = read_table(table, classes=["denied", "approved"])
    assert p.class_names == ("denied", "approved") and p.labels.tolist() == [1, 0, 1]
    assert read_table(table, classes=["denied", "approved", "later"]).n_classes == 3
    refused(table, "'approved'", "row 0", classes=["denied", "later"])
    refused(table, "list", classes="approved")
    numbers = frame(y_true=["1", "0", "1", "1", "1", "0"], y_pred=["0", "0", "1", "1", "1", "1"])
    assert read_table(numbers, classes=[1, 0]).labels.tolist() == [0, 1, 0]


def test_probabilities_of_columns_in_any_order():
    p = read_table(frame(BINARY)[["prob_yes", "y_true", "sample_id", "prob_no", "model"]])
    assert p.probabilities[0].tolist() == [pytest.approx([0.9, 0.1]), pytest.approx([0.25, 0.75])]
    assert p.predicted.tolist() == [[0, 1]] and p.runs["seed"].tolist() == [0]


def test_one_probability_of_two_classes_is_enough():
    p = read_table(
        frame(BINARY).drop(columns="prob_no").rename(columns={"prob_yes": "score"}), columns={"prob_yes": "score"}
    )
    assert p.probabilities[0][:, 0].tolist() == pytest.approx([0.9, 0.25]) and p.predicted.tolist() == [[0, 1]]


def test_one_class_alone_leaves_nothing_to_predict():
    table = frame(BINARY, y_true="yes").drop(columns="prob_no")
    refused(table, "'prob_yes' of the DataFrame", "only class", "classes=['other', 'yes']", "--classes other,yes")
    refused(table.rename(columns={"prob_yes": "logit_yes"}), "'logit_yes'", "only class")
    assert read_table(table, classes=["no", "yes"]).labels.tolist() == [1, 1]


def test_logits():
    table = frame(BINARY).rename(columns={"prob_no": "logit_no", "prob_yes": "logit_yes"})
    p = read_table(table.assign(logit_no=[0.0, -3.0], logit_yes=[np.log(3), -3.0 - np.log(4)]))
    assert p.probabilities[0][:, 1].tolist() == pytest.approx([0.75, 0.2]) and p.predicted.tolist() == [[1, 0]]


def test_a_class_that_only_a_column_has():
    p = read_table(frame(BINARY).assign(prob_maybe=0.0))
    assert p.class_names == ("maybe", "no", "yes") and p.labels.tolist() == [1, 2]
    numbers = frame(BINARY, y_true=["0", "1"]).rename(columns={"prob_no": "prob_0", "prob_yes": "prob_1.0"})
    assert read_table(numbers).class_names == ("0", "1")


def test_runs_are_told_apart_by_what_is_given():
    arms = [("t", 0, "", "", ""), ("ds", 0, 4, 0.8, "t seed 0"), ("ds", 0, 10, 0.8, "t seed 0"), ("ds", 1, 10, 0.8, "")]
    names = ["model", "seed", "temperature", "alpha", "teacher_id"]
    rows = [(s, y, s % 2, i, *arm) for s, y in ((1, 0), (2, 1), (3, 1)) for i, arm in enumerate(arms)]
    table = pd.DataFrame(rows, columns=["sample_id", "y_true", "y_pred", "layers", *names])
    with pytest.warns(KdlibWarning, match="same class"):
        p = read_table(table)
    assert p.runs["run_id"].tolist() == [
        "t seed 0",
        "ds T=4 alpha=0.8 seed 0 of t seed 0",
        "ds T=10 alpha=0.8 seed 0 of t seed 0",
        "ds T=10 alpha=0.8 seed 1",
    ]
    assert p.temperatures == [4, 10] and p.runs["teacher_id"].tolist()[::3] == [None, None]
    assert p.runs["layers"].tolist() == [0, 1, 2, 3] and not p.groups  # a number of the run


def test_run_ids_that_are_given_are_kept():
    table = frame().assign(run_id=lambda t: "run of " + t["model"], study="mine")
    assert read_table(table).runs[["run_id", "study"]].values.tolist() == [["run of v1", "mine"], ["run of v2", "mine"]]
    refused(table.assign(run_id="r"), "'r'", "row 0", "row 3")


def test_ids_do_not_pass_through_floats(tmp_path):
    big = 2**63 + np.arange(6, dtype=np.uint64) % 3  # equal as floats
    for ids in (big, [int(i) * 10**9 for i in big], big.astype(str)):
        table = frame(y_pred=frame()["y_true"], y_true=frame()["y_true"]).sort_values(["model", "sample_id"])
        table = table.assign(sample_id=ids)
        assert read_table(table).sample_ids.tolist() == [str(i) for i in ids[:3]]
        table.to_csv(tmp_path / "p.csv", index=False)
        assert read_table(tmp_path / "p.csv").sample_ids.tolist() == [str(i) for i in ids[:3]]


def test_what_varies_with_sample_and_run_is_left_out():
    with pytest.warns(KdlibWarning, match=r"column 'loss' is 0\.1 in row 0 .* 0\.5 in row 4"):
        p = read_table(frame(loss=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert "loss" not in p.groups and "loss" not in p.runs


def test_missing_groups_are_for_fairness_to_judge():
    p = read_table(frame(sex={0: None, 4: ""}))
    assert p.groups["sex"].tolist() == ["", "m", "f"]
    with pytest.raises(InvalidInput, match="missing for 1 of 3"):
        fairness.group_fairness(p, sensitive="sex")


def test_long_text_is_not_as_wide_as_the_longest():
    p = read_table(frame(sex=["x" * 5000 if i in "a" else "y" for i in frame()["sample_id"]]))
    assert p.groups["sex"].dtype == object and len(p.groups["sex"][0]) == 5000


def test_equal_to_scikit_learn():
    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(x[::2], y[::2])
    probabilities = model.predict_proba(x[1::2])
    table = pd.DataFrame(probabilities, columns=[f"prob_{c}" for c in model.classes_])
    table = table.assign(sample_id=range(75), model="lr", y_true=y[1::2], y_pred=model.predict(x[1::2]))
    p = read_table(table.sample(frac=1, random_state=0))
    order = np.argsort(p.sample_ids.astype(int))
    assert p.accuracy[0] == pytest.approx(model.score(x[1::2], y[1::2]), abs=1e-12)
    assert np.allclose(p.probabilities[0][order], probabilities, atol=1e-7)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample_id": {1: "a"}}, ["'a'", "'v1 seed 0'", "row 0", "row 1", "'y_true'", "seed or model"]),
        ({"sample_id": {5: "d"}}, ["'v1 seed 0'", "'d'", "row 5"]),
        ({"sample_id": {5: ""}}, ["'sample_id'", "row 5"]),
        ({"sample_id": [1, 2, "3", 3, 1, 2]}, ["'sample_id'", "'3'", "1"]),
        ({"y_true": {4: "ant"}}, ["'a'", "'cow' in row 0", "'ant' in row 4"]),
        ({"y_true": {2: ""}}, ["'y_true'", "row 2"]),
        ({"y_pred": {3: None}}, ["'y_pred'", "row 3"]),
        ({"y_pred": {3: "NaN"}}, ["'y_pred'", "'NaN'", "row 3"]),
        ({"y_pred": [0.0, 1.0, np.nan, 1.0, 0.0, 1.0]}, ["'y_pred'", "nan", "row 2"]),
        ({"y_pred": [0.5, 1, 0, 1, 1, 0]}, ["'y_pred'", "0.5", "row 0", "prob_<class>"]),
        ({"y_pred": "0,75"}, ["'y_pred'", "0,75", "row 0"]),
        ({"y_true": 1, "y_pred": "1,000"}, ["'y_pred'", "'1,000'", "row 0", "digits alone"]),  # 1 or 1000
        ({"y_true": 1, "y_pred": "9007199254740993.0"}, ["'y_pred'", "9007199254740993.0", "digits alone"]),
        ({"seed": "9007199254740993"}, ["'seed'", "9007199254740993", "row 0"]),  # as a float it is 2^53
        ({"y_true": ["1,000", "2.0", "2"] * 2}, ["'y_true'", "'1,000' in row 0", "'2.0' in row 1", "alike"]),
        ({"temperature": ["1,234"] * 3 + ["1.5"] * 3}, ["'temperature'", "'1,234' in row 0", "'1.5' in row 3"]),
        ({"sparsity": ["1,234"] * 3 + ["1.5"] * 3}, ["'sparsity'", "'1,234' in row 0", "'1.5' in row 3", "alike"]),
        ({"y_pred": [np.inf, 1, 0, 1, 1, 0]}, ["'y_pred'", "inf", "row 0"]),
        ({"y_pred": [1, 0, 1, 0, 1, 0]}, ["'y_true'", "'cow'", "'y_pred'", "1", "in common"]),
        ({"y_pred": ["ANT", "BEE", "COW"] * 2}, ["'ant'", "'ANT'", "two spellings"]),
        ({"y_pred": {3: "Ant"}}, ["'ant'", "'Ant'", "row 3", "two spellings"]),
        ({"model": {2: ""}}, ["'model'", "row 2"]),
        ({"seed": {2: "x"}}, ["'seed'", "'x'", "row 2", "whole"]),
        ({"seed": {2: 0.5}}, ["'seed'", "0.5", "row 2", "whole"]),
        ({"seed": 2**60}, ["'seed'", str(2**60)]),
        ({"temperature": "warm"}, ["'temperature'", "'warm'", "row 0"]),
        ({"temperature": np.inf}, ["'temperature'", "inf"]),
        ({"sex": [0, "0", 1, 1, 0, "0"]}, ["'sex'", "'0'", "0"]),
        ({"sex": [["f"], ["m"], ["f"]] * 2}, ["'sex'", "list"]),
    ],
)
def test_wrong_cells_are_named(changes, words):
    refused(frame(**changes), *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prob_no": {1: ""}}, ["'prob_no'", "''", "row 1"]),
        ({"prob_no": {1: "x"}}, ["'prob_no'", "'x'", "row 1"]),
        ({"prob_no": [0.5, np.nan]}, ["'prob_no'", "nan", "row 1"]),
        ({"prob_no": {1: "inf"}}, ["'prob_no'", "'inf'", "row 1"]),
        ({"prob_no": {0: "-3.5"}}, ["'prob_no'", "-3.5", "row 0", "logit_<class>"]),
        ({"prob_no": {0: "1.5"}}, ["'prob_no'", "1.5", "row 0", "logit_<class>"]),
        ({"prob_no": {1: "0.5"}}, ["'prob_no'", "'prob_yes'", "1.25", "row 1"]),
        ({"prob_no": ["0,9", "0.25"]}, ["'prob_no'", "'0,9' in row 0", "'0.25' in row 1"]),
        ({"y_true": ["no", "perhaps"]}, ["'prob_perhaps'", "'prob_yes'"]),
        ({"y_pred": ["no", "no"]}, ["run v1", "'no'", "'yes'", "'b'"]),
        ({"prob_ no": 0.0}, ["'prob_ no'", "another column"]),
        ({"logit_no": 1.0, "prob_no": {0: "x"}}, ["'prob_no'", "'x'"]),
    ],
)
def test_wrong_probabilities_are_named(changes, words):
    refused(frame(BINARY, **changes), *words)


def test_logits_need_all_their_columns():
    table = frame(BINARY).drop(columns="prob_no").rename(columns={"prob_yes": "logit_yes"})
    refused(table, "'logit_no'", "'logit_yes'")
    table["logit_no"] = [1, "?"]
    refused(table, "'logit_no'")
    refused(frame(BINARY), "'yes'", classes=["no", "perhaps"])
    refused(frame(BINARY).assign(prob_perhaps=0), "'perhaps'", classes=["no", "yes"])


def test_the_row_is_that_of_the_file(tmp_path):
    frame()[:2].to_csv(tmp_path / "a.csv", index=False)
    frame(y_true={4: ""})[2:].to_csv(tmp_path / "b.csv", index=False)
    refused([tmp_path / "a.csv", tmp_path / "b.csv"], "'y_true'", "row 4 of b.csv")  # the header is row 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["p.csv"]),
        (b"\n\n", ["p.csv"]),
        (TEXT.splitlines()[0].encode(), ["p.csv", "no rows"]),
        (b"PAR1 and no more", ["p.csv"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0", ["p.csv"]),
        (b"PK\x03\x04" + bytes(range(256)), ["p.csv"]),
        (TEXT.replace("y_pred,", "y_true,", 1).encode(), ["p.csv", "two columns called 'y_true'"]),
        (TEXT.replace("cow,cow,f", "cow,cow,f,x", 1).encode(), ["p.csv"]),
        (TEXT.replace("\n", ",x\n").replace("sex,x", "sex").encode(), ["p.csv", "6 column names"]),
        (TEXT.replace("bee,bee,f", "bee", 1).encode(), ["'y_pred'", "row 4"]),
        (TEXT.replace(",", "+").encode(), ["sample_id", "model", "y_true"]),
    ],
)
def test_what_is_no_table(tmp_path, content, words):
    (tmp_path / "p.csv").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        refused(tmp_path / "p.csv", *words)


def test_other_sources(tmp_path):
    refused(tmp_path / "none.csv", "none.csv", "no such file")
    refused(tmp_path, str(tmp_path))
    refused(5, "a int")
    refused(frame()["sex"], "a Series")
    refused(pd.concat({"a": frame()}, axis=1), "('a', 'y_true')")
    refused([], "no rows")
    refused(frame()[:0], "no rows")
    refused([frame(), frame().drop(columns="sex")], "'sex'")
    refused(pd.concat([frame(), frame()["sex"]], axis=1), "'sex'")


def test_a_run_for_every_sample_fills_no_memory():
    n = 20_000
    table = pd.DataFrame({"sample_id": range(n), "model": "m", "seed": range(n), "y_true": 0, "y_pred": 0})
    refused(table, "'m seed 0'", "lacks 19999 samples", "'1'", "row 1")


def test_identical_probabilities_are_no_two_seeds():
    table = pd.concat([frame(BINARY).assign(seed=seed) for seed in (0, 1)])
    refused(table, "v1 seed 0", "v1 seed 1", "identical")


# --- properties -------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=6)


@st.composite
def tables(draw):
    ids = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    names = draw(st.lists(NAMES.map(lambda name: f"c{name}"), min_size=2, max_size=4, unique_by=str.casefold))
    true = draw(st.lists(st.sampled_from(names), min_size=len(ids), max_size=len(ids)))
    group = draw(st.lists(NAMES, min_size=len(ids), max_size=len(ids)))
    rows = [
        {
            "sample_id": i,
            "model": model,
            "seed": seed,
            "y_true": y,
            "y_pred": draw(st.sampled_from(names)),
            "my group": g,
        }
        for model in draw(st.lists(NAMES.map(lambda name: f"m{name}"), min_size=1, max_size=2, unique=True))
        for seed in range(draw(st.integers(1, 2)))
        for i, y, g in zip(ids, true, group, strict=True)
    ]
    return pd.DataFrame(draw(st.permutations(rows)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), separator=st.sampled_from(",;\t|"), kind=st.sampled_from(["csv", "parquet", "frame"]))
def test_write_then_read_is_the_identity(tmp_path, table, separator, kind):
    path = tmp_path / "p"
    if kind == "csv":
        table.to_csv(path, sep=separator, index=False)
    elif kind == "parquet":
        table.to_parquet(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)  # runs that happen to agree
        p = read_table(table if kind == "frame" else path)
    names = np.array(p.class_names)
    found = {
        (str(i), run.model, run.seed): (names[y], names[predicted], str(g))
        for r, run in enumerate(p.runs.itertuples())
        for i, y, predicted, g in zip(p.sample_ids, p.labels, p.predicted[r], p.groups["my group"], strict=True)
    }
    assert found == {(r.sample_id, r.model, r.seed): (r.y_true, r.y_pred, r[6]) for r in table.itertuples()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"PAR1", b"\xff\xfe", TEXT.encode()]))
def test_random_bytes_raise_our_errors_alone(tmp_path, content, start):
    (tmp_path / "p.csv").write_bytes(start + content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KdlibWarning)
        try:
            read_table(tmp_path / "p.csv")
        except KdlibError as error:
            assert "\n" not in str(error)
