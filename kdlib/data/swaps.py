"""Counterfactual twins of posts: the same words, but those for one gender, or community, replaced by another's.

Counterfactual token fairness, Garg et al. 2019 (arXiv:1809.10610). Only neutral words of the dictionary are replaced: a
post that names a community in another way is its own twin, and so is one that names none. Grammar is not mended.
"""

from __future__ import annotations

# Pairs of words that change places. "black" and "white" do so where they mean a color, too.
EXCHANGED = {
    "gender": "man woman, men women, male female, males females, boy girl, boys girls, he she, himself herself, "
    "his her, husband wife, husbands wives, boyfriend girlfriend, boyfriends girlfriends, father mother, "
    "fathers mothers, dad mom, dads moms, grandfather grandmother, grandfathers grandmothers, son daughter, "
    "sons daughters, brother sister, brothers sisters, uncle aunt, uncles aunts, nephew niece, nephews nieces, "
    "gentleman lady, gentlemen ladies",
    "race": "black white, blacks whites, african european, africans europeans",
}
# Words that become another, which may become a third: "her" stands for "his" and for "him", and of five communities
# African and Caucasian change places, while Arab becomes Asian, Asian Hispanic, and Hispanic Arab.
BECOMING = {
    "gender": "him her, hers his, mum dad, mums dads",
    "race": "caucasian african, caucasians africans, arab asian, arabs asians, arabic asian, arabian asian, "
    "asian hispanic, asians hispanics, hispanic arab, hispanics arabs, latino arab, latinos arabs, latina arab, "
    "latinas arabs",
}


def _pairs(text: str) -> list[tuple[str, str]]:
    return [tuple(pair.split()) for pair in text.split(",")]


SWAPS = {
    feature: dict(_pairs(BECOMING[feature])) | {a: b for pair in _pairs(text) for a, b in (pair, pair[::-1])}
    for feature, text in EXCHANGED.items()
}


def swapped(post: str, feature: str) -> str:
    """A post, its words apart by spaces, with those of `feature` replaced by SWAPS, in lower case, all at once."""
    return " ".join(SWAPS[feature].get(word.lower(), word) for word in post.split(" "))
