"""The paper's twelve claims: what each says, which studies decide, what is tested, and the rule. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
    studies: tuple[str, ...]
    tested: str
    rule: Callable[..., Finding]
    needs: str = "one"
    with_samples: bool = False
    least_classes: int = 2


TRENDS = "temperatures permuted within each teacher's students; less what a uniform shift of accuracy gives"

HARDER = ("cifar10-resnet", "svhn-resnet", "cifar100-resnet", "tiny-imagenet-resnet")

CLAIMS = (
    Claim(
        1,
        "DS is at least as accurate as NDS at most temperatures: distillation keeps generalization.",
        ("cifar100-resnet",),
        "accuracy of DS less that of NDS at T = 2 to 10 (Welch's test, independent runs): one-sided 95 % bound above "
        "−0.5 point at 7 of 9 temperatures or more, and the mean above 0",
        on_classes.accuracy_kept,
    ),
    Claim(
        2,
        "The number of classes that differ between NDS and DS (#SC) rises with T from 2 to 10.",
        ("cifar100-resnet",),
        f"Kendall's tau of #SC and T, {TRENDS}",
        partial(on_counts.count_trends, against="nds", sign=1),
        least_classes=10,
    ),
    Claim(
        3,
        "The number of classes that differ between teacher and DS (#TC) falls with T from 2 to 10.",
        ("cifar100-resnet",),
        f"Kendall's tau of #TC and T, {TRENDS}, and against teachers that taught none of the students",
        partial(on_counts.count_trends, against="teacher", sign=-1),
        least_classes=10,
    ),
    Claim(
        4,
        "On ten classes (CIFAR-10, SVHN) at most one class is affected at any T.",
        ("cifar10-resnet",),
        "#SC and #TC, each by itself: at most 3 at any T from 2 to 10 and at most 11 in sum, which is what chance "
        "gives; only where two moved classes would have passed these bounds in 80 % of studies",
        on_counts.few_classes,
    ),
    Claim(
        5,
        "Harder data sets with more classes have a larger share of affected classes.",
        HARDER,
        "slope of the share of changed classes, and of the variance of their changes, on the log of the number of "
        "classes, over four data sets of ten classes or more; equally many test images a class",
        on_classes.hardness,
        needs="data sets",
    ),
    Claim(
        6,
        "At T = 30 and 40 the trends of #SC and #TC reverse.",
        ("cifar100-resnet",),
        "#SC and #TC at T = 40 less those at T = 10, jackknife over blocks; and less what a uniform shift of accuracy "
        "gives",
        on_counts.reversal,
        least_classes=10,
    ),
    Claim(
        7,
        "DS disagrees with its teacher less often than NDS does; one pair such as cat and dog dominates.",
        ("cifar10-resnet",),
        "share of test images on which DS and its teacher disagree at T = 9, or the nearest T there is, less that of "
        "the NDS runs and the same teacher; jackknife over teachers and NDS runs; error consistency beside it",
        on_classes.disagrees_less,
    ),
    Claim(
        8,
        "EOD and DPD fall as T rises from 1 to 10; DS is below NDS at every T, and so is the teacher.",
        ("trifeature-shape",),
        "slope of EOD and DPD by color on log T in each block, also less their attribute-blind floors",
        partial(on_groups.falls_with_temperature, sensitive="color"),
        with_samples=True,
    ),
    Claim(
        9,
        "At T = 10 the student's DPD is below its teacher's.",
        ("trifeature-shape",),
        "DPD by color of the student at T = 10 less that of its own teacher",
        partial(on_groups.below_teacher, sensitive="color"),
        with_samples=True,
    ),
    Claim(
        10,
        "EOD and DPD get worse again at T = 20, 30 and 40.",
        ("trifeature-shape",),
        "EOD and DPD by color at T = 40 less those at T = 10 in each block",
        partial(on_groups.rises_again, sensitive="color"),
        with_samples=True,
    ),
    Claim(
        11,
        "Individual fairness improves with T.",
        ("trifeature-shape",),
        "slope on log T in each block of how far the output moves when the color alone changes; again after "
        "temperature scaling of every model; the paper's mean of ratios beside it",
        partial(on_groups.reacts_less, changed="color"),
        with_samples=True,
    ),
    Claim(
        12,
        "The trends at alpha = 0.6 and 0.8 agree.",
        ("cifar100-resnet", "cifar100-resnet-alpha06"),
        "Kendall's tau of #SC and T at both alphas: both significant and of one sign",
        on_counts.alphas_agree,
        needs="alpha",
    ),
)
