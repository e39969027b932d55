"""The distillation loss: pure functions of logits."""

from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.errors import InvalidInput

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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
    Numbers and labels of any width, numpy's too; in half precision it is computed and returned as float32. A class
    that is -inf in both logits is left out. The teacher gets no gradient.
    Returns a scalar >= 0. CE(teacher, student) is at least the teacher's entropy: 0 needs a certain teacher.
    Raises InvalidInput for T <= 0 or not finite, alpha outside 0 .. 1, an empty batch, shapes that differ (one row or
    one column would broadcast silently), and labels outside 0 .. C-1, -100 among them, or of a class left out.
    """
    _check(student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha)
    temperature, alpha = float(temperature), float(alpha)
    student_logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    teacher_logits, labels = teacher_logits.detach().to(student_logits.dtype), labels.long()
    masked = torch.isneginf(student_logits) & torch.isneginf(teacher_logits)
    if masked.any():  # so far below the others that its probability is 0, but finite: 0 * inf would be NaN
        rows = masked.gather(1, labels[:, None]).flatten().nonzero().flatten().tolist()
        if rows:
            raise InvalidInput(f"label {labels[rows[0]].item()} of sample {rows[0]} is a class whose logits are -inf.")
        lowest = student_logits.detach()[torch.isfinite(student_logits)].min().item()
        student_logits = student_logits.masked_fill(masked, lowest - 1e4 * max(temperature, 1.0))
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
        raise InvalidInput(f"temperature must be a finite number above 0, not {temperature!r}; 1 is plain softmax.")
    if not _is_finite_number(alpha) or not 0 <= alpha <= 1:
        raise InvalidInput(f"alpha must lie in 0 .. 1, not {alpha!r}; it is the weight of the distillation term.")
    given = {"student_logits": student_logits, "teacher_logits": teacher_logits, "labels": labels}
    for name, value in given.items():
        if not isinstance(value, Tensor) or value.is_complex():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise InvalidInput(f"{name} must be a tensor of real numbers, not {kind}.")
    if student_logits.ndim != 2 or len(student_logits) == 0:
        raise InvalidInput(f"student logits must be (N, C) with N >= 1, not {tuple(student_logits.shape)}.")
    if teacher_logits.shape != student_logits.shape:
        raise InvalidInput(
            f"teacher logits are {tuple(teacher_logits.shape)}, student logits {tuple(student_logits.shape)}: "
            "both need the same samples and the same classes."
        )
    if labels.shape != student_logits.shape[:1]:
        raise InvalidInput(f"labels are {tuple(labels.shape)} for {len(student_logits)} samples; give one for each.")
    if labels.dtype not in WHOLE:
        raise InvalidInput(f"labels are {labels.dtype}; expected whole numbers: {', '.join(map(str, WHOLE))}.")
    classes = student_logits.shape[1]
    if rows := ((labels < 0) | (labels >= classes)).nonzero().flatten().tolist():
        raise InvalidInput(f"label {labels[rows[0]].item()} of sample {rows[0]} is not in 0 .. {classes - 1}.")


def _is_finite_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < 1e38  # of float32
