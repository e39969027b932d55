"""HateXplain: posts with the votes of three annotators, from its two official JSON files.

The posts hold hate speech. No message repeats a word of them: errors name post ids, and the vocabulary learnt from them
stays in the cache below the data folder.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlib import files, places
from kdlib.data import Root, Split, cache, damaged, required
from kdlib.errors import DataError, library

VERSION = 2  # of what is cached
PARTS = {"train": "train", "validation": "val", "test": "test"}  # ours: theirs
FILES = ("dataset.json", "post_id_divisions.json")
TOXIC = {"normal": 0, "offensive": 1, "hatespeech": 1}
COMMUNITIES = {"gender": ("Men", "Women"), "race": ("African", "Arab", "Asian", "Caucasian", "Hispanic")}
RULES = {"": 1, "_majority": 2}  # ending of the group's name: annotators who have to name the same community
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
RARE = 10  # a character seen less often gets no token: its words are [UNK]
PUBLISHED = "google-bert/bert-base-uncased"
PUBLISHED_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # of its vocab.txt


# {feature: {word: what it becomes in the twin of a post}}. Most are pairs that change places; "black" and "white" do so
# where they mean a color, too. Some become a third word: "her" stands for "his" and for "him", and of five communities
# African and Caucasian change places, while Arab becomes Asian, Asian Hispanic, and Hispanic Arab.
_PAIRS = pd.read_csv(Path(__file__).with_name("swaps.csv"), dtype=str, keep_default_na=False)
SWAPS = {name: dict(zip(rows["word"], rows["becomes"], strict=True)) for name, rows in _PAIRS.groupby("feature")}


def load_hatexplain(part: str, /, *, root: Root, tokens: int, tokenizer: str, vocabulary: int) -> Split:
    """15,383 / 1,922 / 1,924 posts of Mathew et al. 2021: 'normal' or 'toxic' (offensive or hateful; the positive one).

    The label is the vote of at least two of three annotators; posts with three different votes are dropped before
    offensive and hateful are merged, as in the data set's own code. ids are the official ones; sorted by id.
    x           (N, tokens) int32: [CLS], the post's word pieces in lower case, [SEP], then 0; longer posts are cut
    tokenizer   'bert-base-uncased': the published vocabulary, from `models/bert-base-uncased/vocab.txt` in the data
                folder or from the hub. 'learnt': `vocabulary` word pieces learnt from the training posts alone
    groups      'gender' and 'race', 'named' or 'not named': whether any annotator names any of their COMMUNITIES;
                'gender_majority', 'race_majority': whether two annotators name the same one
    twins       'gender' and 'race', of the test part: the posts with that feature's neutral words replaced before word
                pieces are cut (`swapped`); a post without any is its own twin. Groups 'gender_words' and 'race_words',
                'some' or 'none', of the test part too: whether the twin is another
    Tokens are cached in `hatexplain/.kdlib/`, where no library for text is needed to read them.
    Raises InvalidInput for a bad part or size, DataError for files that are missing or damaged, or no library for text.
    """
    data_dir = places.data_dir(root)
    folder = data_dir / "hatexplain"
    paths = [required(folder / name, "hatexplain") for name in FILES]
    key = {"version": VERSION, "files": cache.stamps(paths), "tokenizer": tokenizer, "tokens": tokens}
    if tokenizer == "learnt":
        key["vocabulary"] = vocabulary
    kept = cache.prepared(folder, key, lambda: _prepared(paths, data_dir, tokens, key.get("vocabulary")))
    ids, x, y = (kept[f"{part}:{name}"] for name in ("ids", "x", "y"))
    groups = {name: np.where(kept[f"{part}:{name}"], "named", "not named") for name in _group_names()}
    twins = {feature: kept[f"test:twin:{feature}"] for feature in SWAPS if part == "test"}
    groups |= {f"{feature}_words": np.where((twin != x).any(axis=1), "some", "none") for feature, twin in twins.items()}
    return Split(ids, x, y, groups, ("normal", "toxic"), twins, vocabulary=len(kept["vocabulary"]))


def swapped(post: str, feature: str) -> str:
    """A post with the neutral words for one gender, or community, replaced by another's, in lower case, all at once.

    Counterfactual token fairness, Garg et al. 2019 (arXiv:1809.10610). Only words of SWAPS are replaced: a post that
    names a community in another way is its own twin, and so is one that names none. Grammar is not mended.
    """
    return " ".join(SWAPS[feature].get(word.lower(), word) for word in post.split(" "))


def _group_names() -> list[str]:
    return [feature + ending for ending in RULES for feature in COMMUNITIES]


def _prepared(paths: list[Path], data_dir: Path, tokens: int, vocabulary: int | None) -> dict[str, np.ndarray]:
    """All that is cached: the vocabulary, "part:name" for ids, x, y and groups (bool) of each part, and twins.

    vocabulary: how many word pieces to learn; None takes the published ones.
    """
    from kdlib.data import fetch

    fetch.verify("hatexplain", paths[0].parent, paths)
    texts, arrays, kinds = {}, {}, {"ids": str, "y": np.int64, **dict.fromkeys(_group_names(), bool)}
    for part, posts in _read(*paths).items():
        rows = [_labeled(post_id, post, paths[0]) for post_id, post in sorted(posts.items())]
        decided = pd.DataFrame(rows, columns=["text", *kinds], dtype=object).dropna(subset="y")
        texts[part] = decided["text"].tolist()
        arrays |= {f"{part}:{name}": decided[name].to_numpy(kind) for name, kind in kinds.items()}
    words = learn_vocabulary(texts["train"], vocabulary) if vocabulary else published_vocabulary(data_dir)
    arrays |= {f"{part}:x": encode(posts, words, tokens=tokens) for part, posts in texts.items()}
    for feature in SWAPS:
        posts = [swapped(text, feature) for text in texts["test"]]
        arrays[f"test:twin:{feature}"] = encode(posts, words, tokens=tokens)
    return arrays | {"vocabulary": np.array(words)}


def _read(dataset: Path, divisions: Path) -> dict[str, dict[str, Any]]:
    """{part: {post id: post}}. Raises DataError for files that are no JSON, or do not belong together."""
    posts, parts = _json(dataset), _json(divisions)
    for name in PARTS.values():
        if not isinstance(parts.get(name), list) or not all(isinstance(post_id, str) for post_id in parts[name]):
            raise damaged(f"{divisions} has no list of post ids {name!r}", "hatexplain")
        if absent := [post_id for post_id in parts[name] if post_id not in posts]:
            what = f"{dataset} lacks {len(absent)} posts that {divisions.name} names, first {absent[0]!r}"
            raise damaged(what, "hatexplain")
    listed = Counter(post_id for name in PARTS.values() for post_id in parts[name])
    if twice := [post_id for post_id, times in listed.items() if times > 1]:
        raise damaged(f"{divisions} has the post {twice[0]!r} in two parts, or twice", "hatexplain")
    return {ours: {post_id: posts[post_id] for post_id in parts[theirs]} for ours, theirs in PARTS.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # the reader's own message would quote the file
        found = None
    if not isinstance(found, dict):
        raise damaged(f"{path} is not whole, or no JSON object ({path.stat().st_size:,} bytes)", "hatexplain")
    return found


def _labeled(post_id: str, post: dict[str, Any], dataset: Path) -> dict[str, Any]:
    """text, ids (its own), y (None: no two annotators agree) and groups (bool) of a post."""
    try:
        votes = [annotator["label"] for annotator in post["annotators"]]
        vote, count = Counter(votes).most_common(1)[0]
        named = Counter(name for annotator in post["annotators"] for name in set(annotator["target"]))
        label = TOXIC[vote] if count > 1 else None
        text = " ".join(post["post_tokens"])
    except (KeyError, TypeError, IndexError):
        raise damaged(f"post {post_id!r} of {dataset} lacks words, votes or targets", "hatexplain") from None
    groups = {
        feature + ending: max(named[name] for name in names) >= least
        for ending, least in RULES.items()
        for feature, names in COMMUNITIES.items()
    }
    return {"ids": post_id, "text": text, "y": label, **groups}


def published_vocabulary(data_dir: Path) -> list[str]:
    """The 30,522 tokens of bert-base-uncased. Raises DataError where they are not to be had, or are others."""
    path = published_file(data_dir, PUBLISHED, "vocab.txt")
    raw = path.read_bytes()
    if files.sha256(raw) != PUBLISHED_SHA256:
        raise DataError(f"{path} is not the published vocabulary of {PUBLISHED} (sha256 differs). Get it again.")
    return raw.decode().splitlines()


def published_file(data_dir: Path, repository: str, name: str) -> Path:
    """A file of 'owner/model' on the hub: in `models/<model>/` of the data folder, in the hub's cache, or downloaded.

    Raises DataError, which says what to put where, if there is none.
    """
    folder = data_dir / "models" / repository.split("/")[1]
    if (folder / name).is_file():
        return folder / name
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(repository, name)
        return Path(cached if isinstance(cached, str) else hf_hub_download(repository, name))
    except Exception as error:  # its kinds differ between versions and transports
        raise DataError(
            f"{name} of {repository} is neither in {folder} nor in the hub's cache, and cannot be downloaded "
            f"({type(error).__name__}). Put it into {folder}."
        ) from error


def learn_vocabulary(texts: list[str], size: int) -> list[str]:
    """`size` word pieces (fewer from few texts), SPECIAL first; a function of the texts as a set.

    The trainer numbers '##a', '##b', ... in the order of a hash table, which differs between processes, and breaks ties
    by these numbers; so they are given to it as special tokens, in order (huggingface/tokenizers issue 1794).
    """
    tokenizers = library("tokenizers", of="kdlib[text]")
    untrained = _tokenizer(list(SPECIAL))
    seen = Counter(c for text in texts for c in untrained.normalizer.normalize_str(text) if not c.isspace())
    letters = sorted(c for c, count in seen.items() if count >= RARE)
    alphabet = {"initial_alphabet": letters, "limit_alphabet": len(letters)}
    special = [*SPECIAL, *(f"##{c}" for c in letters)]
    make = tokenizers.trainers.WordPieceTrainer
    trainer = make(vocab_size=size, special_tokens=special, **alphabet, show_progress=False)
    untrained.train_from_iterator(texts, trainer)
    number = untrained.get_vocab()
    return sorted(number, key=number.__getitem__)


def encode(texts: list[str], vocabulary: list[str], *, tokens: int) -> np.ndarray:
    """(N, tokens) int32: [CLS], word pieces, [SEP], zeros. `vocabulary` has [PAD] first."""
    tokenizers = library("tokenizers", of="kdlib[text]")
    tokenizer = _tokenizer(vocabulary)
    first, last = ((name, vocabulary.index(name)) for name in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = tokenizers.processors.BertProcessing(last, first)
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens)
    encoded = tokenizer.encode_batch_fast(texts)
    return np.array([post.ids for post in encoded], dtype=np.int32).reshape(len(texts), tokens)


def _tokenizer(vocabulary: list[str]):
    """BERT's, in lower case. Nothing in a text can become a special token: the brackets are split off."""
    tokenizers = library("tokenizers", of="kdlib[text]")
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return tokenizer
