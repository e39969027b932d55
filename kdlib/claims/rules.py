"""The paper's twelve claims: their words (rules.yaml), which studies decide, and the rule of each. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from kdlib.claims import on_classes, on_counts, on_groups
from kdlib.claims.finding import Finding


@dataclass(frozen=True)
class Claim:
    """studies   the primary study in params/paper.yaml, or the studies that are compared
    tested       what the rule tests, in words
    rule         predictions of these studies -> Finding
    needs        'one' study, several that differ in 'alpha', or several 'data sets'
    with_samples whether the rule needs probabilities and groups, not predicted classes alone
    least_classes the fewest classes for which a trend in counts is meaningful
    """

    number: int
    says: str
    studies: list[str]
    tested: str
    rule: Callable[..., Finding]
    needs: str = "one"
    with_samples: bool = False
    least_classes: int = 2


RULES = {
    1: on_classes.accuracy_kept,
    2: partial(on_counts.count_trends, against="nds", sign=1),
    3: partial(on_counts.count_trends, against="teacher", sign=-1),
    4: on_counts.few_classes,
    5: on_classes.hardness,
    6: on_counts.reversal,
    7: on_classes.disagrees_less,
    8: partial(on_groups.falls_with_temperature, sensitive="color"),
    9: partial(on_groups.below_teacher, sensitive="color"),
    10: partial(on_groups.rises_again, sensitive="color"),
    11: partial(on_groups.reacts_less, changed="color"),
    12: on_counts.alphas_agree,
}
WORDS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
CLAIMS = tuple(Claim(number, rule=rule, **WORDS[number]) for number, rule in RULES.items())
