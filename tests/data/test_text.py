"""HateXplain: labels, groups and tokens of small files in the official format, and counts of the real one.

The small files hold harmless words; tests on the real one look at counts alone.
"""

import hashlib
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from kdlib import data
from kdlib.data import text
from kdlib.errors import DataError, InvalidInput
from kdlib.paper.attainable import LABEL_COUNTS
from tests.real_data import ROOT, requires

LEARNT = {"tokenizer": "learnt", "tokens": 16, "vocabulary": 1000}
WORDS = [
    "the",
    "river",
    "runs",
    "slowly",
    "past",
    "green",
    "fields",
    "and",
    "old",
    "stone",
    "bridges",
    "while",
    "children",
    "count",
    "boats",
]


def post(post_id, votes, *targets, words=("Green", "river")):
    """votes 'nho': normal, hatespeech, offensive; targets: what each annotator names."""
    names = {"n": "normal", "h": "hatespeech", "o": "offensive"}
    named = targets or ("None",) * 3
    annotators = [
        {"label": names[vote], "annotator_id": i, "target": target.split()}
        for i, (vote, target) in enumerate(zip(votes, named, strict=True))
    ]
    return {"post_id": post_id, "annotators": annotators, "rationales": [], "post_tokens": list(words)}


def small_posts():
    rng = np.random.default_rng(0)
    train = [post(f"{i}_a", "nnn", words=rng.choice(WORDS, 8).tolist()) for i in range(200)]
    test = [
        post("9_c", "nno", "Women", "Men", "None"),
        post("1_b", "hoo", "Women African", "Women", "Arab"),
        post("5_b", "hno", "Women", "Women", "Women"),
        post("3_b", "hhn", "African African", "Islam", "None"),
        post("2_b", "ooo", "Asian Arab", "Arab", "Refugee"),
        post("4_b", "nnn", "None", "None", "Other"),
    ]
    return {"train": train, "val": [post("7_v", "nnh")], "test": test}


@pytest.fixture
def write(tmp_path):
    def write(parts):
        folder = tmp_path / "hatexplain"
        folder.mkdir(exist_ok=True)
        posts = {row["post_id"]: row for rows in parts.values() for row in rows}
        divisions = {part: [row["post_id"] for row in rows] for part, rows in parts.items()}
        for name, content in zip(text.FILES, (posts, divisions), strict=True):
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def load(tmp_path):
    return lambda part="test", **options: data.load("hatexplain", part, root=tmp_path, **LEARNT | options)


def named(split, group):
    assert set(split.groups[group]) <= {"named", "not named"}
    return split.ids[split.groups[group] == "named"].tolist()


def test_two_of_three_votes_make_the_label_and_three_different_ones_drop_the_post(write, load):
    write(small_posts())
    test = load()
    assert test.ids.tolist() == ["1_b", "2_b", "3_b", "4_b", "9_c"]  # sorted; 5_b has three different votes
    assert test.y.tolist() == [1, 1, 1, 0, 0] and test.y.dtype == np.int64
    assert test.class_names == ("normal", "toxic")
    assert [len(load(part).y) for part in ("train", "validation", "test")] == [200, 1, 5]


def test_groups_by_any_annotator_and_by_two_who_name_the_same_community(write, load):
    write(small_posts())
    test = load()
    of_each_part = ("gender", "race", "gender_majority", "race_majority")
    assert tuple(test.groups) == (*of_each_part, "gender_words", "race_words")
    assert tuple(load("train").groups) == of_each_part
    assert named(test, "gender") == ["1_b", "9_c"]
    assert named(test, "gender_majority") == ["1_b"]  # 9_c: one names women, another men
    assert named(test, "race") == ["1_b", "2_b", "3_b"]
    assert named(test, "race_majority") == ["2_b"]  # 3_b: one annotator's two namings are one


def test_tokens_start_with_cls_end_with_sep_and_are_padded_with_zero(write, load):
    parts = small_posts()
    parts["val"] = [
        post("a", "nnn", words=["RIVER"]),
        post("b", "nnn", words=WORDS * 3),
        post("c", "nnn", words=["ž"]),
        post("d", "nnn", words=["river", "[SEP]", "[PAD]"]),
    ]
    write(parts)
    split = load("validation")
    a, b, c, d = split.x.tolist()
    pad, unknown, cls, sep, _ = range(5)
    assert split.x.dtype == np.int32 and split.x.shape == (4, 16) and split.x.max() < split.vocabulary
    assert a[0] == cls and a[1] > 4 and a[2:] == [sep] + [pad] * 13
    assert b[0] == cls and b[-1] == sep and pad not in b
    assert c[:4] == [cls, unknown, sep, pad]
    assert d.count(sep) == 1 and d[1] == a[1], "a post cannot write special tokens, nor pad itself"


def test_the_vocabulary_is_learnt_from_the_training_posts_alone(write, load):
    parts = small_posts()
    write(parts)
    before = load("train")
    parts["test"] = [post(f"{i}_z", "nnn", words=["zebra", "quartz"]) for i in range(300)]
    write(parts)
    after = load("train")
    assert before.vocabulary == after.vocabulary < 1000 and np.array_equal(before.x, after.x)
    assert (load("test").x == 1).any()


def test_the_vocabulary_is_a_function_of_the_texts_as_a_set():
    texts = [" ".join(row["post_tokens"]) for row in small_posts()["train"]]
    words = text.learn_vocabulary(texts, 60)
    assert words[:5] == list(text.SPECIAL) and len(words) == len(set(words)) == 60
    assert words == text.learn_vocabulary(texts[::-1], 60)
    assert set("".join(WORDS)) <= set(words)
    assert set(WORDS) <= set(text.learn_vocabulary(texts, 1000))


def test_another_process_learns_the_same_vocabulary():
    """The trainer's hash tables are seeded anew in each process, and it breaks ties by the order in them."""
    texts = [" ".join(row["post_tokens"]) for row in small_posts()["train"]]
    script = "import sys; from kdlib.data import text; print(text.learn_vocabulary(sys.argv[1:], 60))"
    run = subprocess.run([sys.executable, "-c", script, *texts], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(text.learn_vocabulary(texts, 60))


def test_a_rare_letter_gets_no_token():
    texts = ["river"] * 20 + ["ж"] * (text.RARE - 1)
    assert "ж" not in text.learn_vocabulary(texts, 100)
    assert "ж" in text.learn_vocabulary([*texts, "ж"], 100)


def test_twins_of_the_test_part_have_the_words_of_one_feature_replaced(write, load):
    parts = small_posts()
    pairs = {  # post: its gender twin, its race twin
        "He and his Brother": ("she and her sister", "he and his brother"),
        "black men past white": ("black women past white", "white men past black"),
        "the river she saw in her boat": ("the river he saw in his boat", "the river she saw in her boat"),
        "old whites [SEP] human boyish": ("old whites [SEP] human boyish", "old blacks [SEP] human boyish"),
    }
    texts = [words for original, twins in pairs.items() for words in (original, *twins)]
    parts["test"] = [post(f"{i:02}_t", "nnn", words=words.split()) for i, words in enumerate(texts)]
    parts["train"] = [post(f"{i}_a", "nnn", words=" ".join(texts).split()) for i in range(text.RARE)]
    write(parts)
    test = load(tokens=128)
    assert list(test.twins) == ["gender", "race"]
    gender, race = (test.twins[feature] for feature in test.twins)
    assert gender.shape == test.x.shape and gender.dtype == np.int32
    assert np.array_equal(gender[::3], test.x[1::3]) and np.array_equal(race[::3], test.x[2::3])
    assert test.groups["gender_words"][::3].tolist() == ["some", "some", "some", "none"]
    assert test.groups["race_words"][::3].tolist() == ["none", "some", "none", "some"]
    assert all(not load(part).twins for part in ("train", "validation"))


def test_every_word_becomes_one_of_another_kind():
    """Replaced twice, a word is back or at a third community; it is never itself, nor a word that stays."""
    for feature, table in text.SWAPS.items():
        assert all(new != word and new in table for word, new in table.items()), feature
    race, gender = text.SWAPS["race"], text.SWAPS["gender"]
    assert text.swapped("arabs asians hispanics", "race") == "asians hispanics arabs"
    assert race["caucasian"] == race["european"] == "african" and race["african"] == "european"
    assert sorted(word for word, new in gender.items() if gender[new] != word) == ["hers", "him", "mum", "mums"]


def test_tokens_are_cached_and_a_changed_file_is_read_anew(write, load, monkeypatch):
    folder = write(small_posts())
    first = load()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    again = load()
    assert np.array_equal(first.x, again.x) and first.vocabulary == again.vocabulary
    (folder / text.FILES[0]).write_bytes((folder / text.FILES[0]).read_bytes() + b" ")
    with pytest.raises(DataError, match="tokenizers"):
        load()


# ------------------------------------------------------------------------------------------- the published vocabulary


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small vocabulary in the place, and with the checksum, of the published one."""
    path = tmp_path / "models" / "bert-base-uncased" / "vocab.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([*text.SPECIAL, "river", "gr", "##een"]) + "\n", encoding="utf-8")
    monkeypatch.setattr(text, "PUBLISHED_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def hub(monkeypatch):
    """What the hub answers instead of downloading: a path, or an error that it raises."""

    def answer(result):
        def download(repository, name):
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)

    return answer


def test_the_published_vocabulary_is_read_from_its_folder(write, load, published):
    write(small_posts())
    split = load(tokenizer="bert-base-uncased")
    assert split.vocabulary == 8
    assert split.x[0, :6].tolist() == [2, 6, 7, 5, 3, 0]  # [CLS] gr ##een river [SEP] [PAD]


def test_the_hub_gives_it_where_the_folder_is_empty(write, load, published, hub):
    write(small_posts())
    hub(str(published.rename(published.parents[2] / "elsewhere.txt")))
    assert load(tokenizer="bert-base-uncased").vocabulary == 8


def test_without_a_network_the_error_says_what_to_put_where(write, load, published, hub):
    write(small_posts())
    published.unlink()
    hub(OSError("no network"))
    with pytest.raises(DataError, match=r"vocab\.txt of google-bert/bert-base-uncased .*models/bert-base-uncased"):
        load(tokenizer="bert-base-uncased")


def test_another_vocabulary_is_not_taken_for_the_published_one(write, load, published):
    write(small_posts())
    published.write_text("<html>", encoding="utf-8")
    with pytest.raises(DataError, match="vocab.txt"):
        load(tokenizer="bert-base-uncased")


# ------------------------------------------------------------------------------------------------ damage and bad input


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_post_in_two_parts_or_twice_is_refused(write, load, part):
    posts = small_posts()
    posts[part].append(posts["train"][0])
    write(posts)
    with pytest.raises(DataError, match=posts["train"][0]["post_id"]):
        load("test")


@pytest.mark.parametrize("name", text.FILES)
def test_a_missing_file_is_named_with_the_remedy(write, load, name):
    (write(small_posts()) / name).unlink()
    with pytest.raises(DataError, match=f"hatexplain/{name}"):
        load()


@pytest.mark.parametrize("name", text.FILES)
@pytest.mark.parametrize("content", [b"", b"<html>gone</html>", b"[1, 2]", b"\xff\x00river", b"[" * 100_000, None])
def test_a_damaged_file_is_named_and_never_quoted(write, load, name, content):
    path = write(small_posts()) / name
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(DataError, match=name) as caught:
        load()
    assert "river" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"annotators": []},
        {"annotators": None},
        {"annotators": [{"label": "fine", "target": []}] * 3},
        {"annotators": [{"label": "normal"}] * 3},
        {"post_tokens": [1, 2]},
        {"post_tokens": None},
    ],
)
def test_a_post_that_is_not_as_published_is_named_by_its_id(write, load, change):
    parts = small_posts()
    parts["test"][1] |= change
    write(parts)
    with pytest.raises(DataError, match="'1_b' of .*dataset.json") as caught:
        load()
    assert "river" not in str(caught.value)


def test_divisions_that_do_not_fit_the_posts_are_refused(write, load):
    parts = small_posts()
    folder = write(parts)
    divisions = folder / "post_id_divisions.json"
    whole = json.loads(divisions.read_bytes())
    divisions.write_text(json.dumps(whole | {"test": [*whole["test"], "lost"]}), encoding="utf-8")
    with pytest.raises(DataError, match="'lost'"):
        load()
    divisions.write_text(json.dumps(whole | {"val": 3}), encoding="utf-8")
    with pytest.raises(DataError, match="'val'"):
        load()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokens": 2}, "tokens.* 2"),
        ({"tokens": 513}, "tokens.* 513"),
        ({"vocabulary": 10}, "vocabulary.* 10"),
        ({"tokenizer": "words"}, "'words'"),
    ],
)
def test_bad_options_are_refused(write, load, options, words):
    write(small_posts())
    with pytest.raises(InvalidInput, match=words):
        load(**options)


# ----------------------------------------------------------------------------------------------------- the real posts


@pytest.fixture(scope="module")
def real():
    options = {"root": ROOT, "tokenizer": "learnt", "tokens": 128, "vocabulary": 8000}
    return {part: data.load("hatexplain", part, **options) for part in text.PARTS}


@requires("hatexplain")
def test_real_posts_have_the_published_counts(real):
    assert {part: len(split.ids) for part, split in real.items()} == {"train": 15383, "validation": 1922, "test": 1924}
    ids = Counter(i for split in real.values() for i in split.ids)
    assert max(ids.values()) == 1
    for split in real.values():
        assert split.ids.tolist() == sorted(split.ids) and split.vocabulary == 8000
        assert ((split.x[:, 0] == 2) & ((split.x == 3).sum(axis=1) == 1)).all()
        assert 25 < (split.x != 0).sum(axis=1).mean() < 35 and (split.x == 1).mean() < 0.002


@requires("hatexplain")
@pytest.mark.parametrize("counts", [c for c in LABEL_COUNTS if c.dataset == "hatexplain"], ids=lambda c: c.sensitive)
def test_real_test_posts_by_label_and_group_under_both_rules(real, counts):
    test = real["test"]
    group = test.groups[counts.sensitive + ("_majority" if "majority" in counts.split else "")]
    for i, value in enumerate(("named", "not named")):
        toxic = test.y[group == value]
        assert ((toxic == 1).sum(), (toxic == 0).sum()) == (counts.positives[i], counts.negatives[i])


@requires("hatexplain")
def test_real_posts_that_hold_a_word_have_another_twin(real):
    test = real["test"]
    words = {feature: test.groups[f"{feature}_words"] == "some" for feature in test.twins}
    assert {feature: rows.sum() for feature, rows in words.items()} == {"gender": 523, "race": 448}
    for feature, rows in words.items():
        assert np.array_equal(rows, (test.twins[feature] != test.x).any(axis=1))
        assert (test.groups[feature][rows] == "named").mean() > 1.5 * (test.groups[feature][~rows] == "named").mean()
