"""The distillation loss: pure functions of logits."""

import math

import torch.nn.functional as F
from torch import Tensor

from kdlib.errors import InvalidInput


def distillation_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    t_squared: bool = True,
) -> tuple[Tensor, Tensor]:
    """The two terms of `distillation_loss`, weights included: (from the teacher, from the labels). Unchecked."""
    soft = F.cross_entropy(student_logits / temperature, F.softmax(teacher_logits / temperature, dim=1))
    weight = alpha * temperature**2 if t_squared else alpha
    return weight * soft, (1 - alpha) * F.cross_entropy(student_logits, labels)


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    t_squared: bool = True,
) -> Tensor:
    """alpha * [T^2] * CE(softmax(teacher / T), softmax(student / T)) + (1 - alpha) * CE(labels, student).

    A mean over the batch. Eq. 7 of the paper (6 in its first version); T^2 (Hinton et al. 2015) is not mentioned there,
    so it is a switch.

    student_logits, teacher_logits: (N, C) float
    labels       (N,) int, 0 .. C-1
    temperature  > 0
    alpha        0 .. 1, weight of the distillation term; 0 is plain cross-entropy, 1 ignores labels
    Returns a scalar >= 0. CE(teacher, student) is at least the teacher's entropy: 0 needs a certain teacher.
    Raises InvalidInput for T <= 0 or not finite, alpha outside 0 .. 1, an empty batch, or shapes that differ (one row
    or one column would broadcast silently).
    """
    _check(student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha)
    soft, hard = distillation_terms(
        student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha, t_squared=t_squared
    )
    return combined(soft, hard, alpha=alpha)


def combined(soft: Tensor, hard: Tensor, *, alpha: float) -> Tensor:
    """The sum of both terms; at alpha 0 and 1 exactly one of them: 0 * inf must not turn a fine loss into NaN."""
    return hard if alpha == 0 else soft if alpha == 1 else soft + hard


def _check(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> None:
    """Raise InvalidInput for what `distillation_loss` refuses: PyTorch would broadcast one row silently."""
    if not _is_finite_number(temperature) or temperature <= 0:
        raise InvalidInput(
            f"temperature must be a finite number above 0, not {temperature!r}; T = 1 is the ordinary softmax."
        )
    if not _is_finite_number(alpha) or not 0 <= alpha <= 1:
        raise InvalidInput(f"alpha must lie in 0 .. 1, not {alpha!r}; it is the weight of the distillation term.")
    if student_logits.ndim != 2 or len(student_logits) == 0:
        raise InvalidInput(f"student logits must be (N, C) with N >= 1, not {tuple(student_logits.shape)}.")
    if teacher_logits.shape != student_logits.shape:
        raise InvalidInput(
            f"teacher logits are {tuple(teacher_logits.shape)}, student logits {tuple(student_logits.shape)}: "
            "both need the same samples and the same classes."
        )
    if labels.shape != student_logits.shape[:1]:
        raise InvalidInput(
            f"labels are {tuple(labels.shape)} for {len(student_logits)} samples; expected one class per sample."
        )


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
