"""The distillation loss against hand figures, against PyTorch's own KL, and at its edges."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.errors import InvalidInput
from kdlib.losses import distillation_loss, distillation_terms

STUDENT = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
TEACHER = torch.tensor([[4.0, 0.0], [1.0, 3.0]])
LABELS = torch.tensor([0, 1])


def test_loss_by_hand():
    """One sample, two classes, T = 2: teacher (ln 9, 0) -> (3/4, 1/4); student (0, 0) -> (1/2, 1/2)."""
    loss = distillation_loss(
        torch.zeros(1, 2), torch.tensor([[math.log(9.0), 0.0]]), torch.tensor([0]), temperature=2, alpha=0.75
    )
    assert loss.item() == pytest.approx(0.75 * 4 * math.log(2) + 0.25 * math.log(2))
    plain = distillation_loss(
        torch.zeros(1, 2),
        torch.tensor([[math.log(9.0), 0.0]]),
        torch.tensor([0]),
        temperature=2,
        alpha=0.75,
        t_squared=False,
    )
    assert plain.item() == pytest.approx(math.log(2))


def test_it_is_kl_divergence_plus_the_teachers_entropy():
    t = 3.0
    p = F.softmax(TEACHER / t, dim=1)
    kl = F.kl_div(F.log_softmax(STUDENT / t, dim=1), p, reduction="batchmean")
    entropy = -(p * p.log()).sum(1).mean()
    loss = distillation_loss(STUDENT, TEACHER, LABELS, temperature=t, alpha=1, t_squared=False)
    assert loss.item() == pytest.approx((kl + entropy).item(), abs=1e-6)


def test_alpha_zero_is_cross_entropy_exactly_and_one_ignores_labels():
    wild = TEACHER * 1e30
    assert (
        distillation_loss(STUDENT, wild, LABELS, temperature=4, alpha=0).item()
        == F.cross_entropy(STUDENT, LABELS).item()
    )
    one = distillation_loss(STUDENT, TEACHER, LABELS, temperature=4, alpha=1)
    assert one.item() == distillation_loss(STUDENT, TEACHER, 1 - LABELS, temperature=4, alpha=1).item()


def test_terms_add_up():
    soft, hard = distillation_terms(STUDENT, TEACHER, LABELS, temperature=4.0, alpha=0.8)
    assert (soft + hard).item() == distillation_loss(STUDENT, TEACHER, LABELS, temperature=4.0, alpha=0.8).item()


@pytest.mark.parametrize(("t_squared", "power"), [(True, 1), (False, -1)])
def test_the_gradient_scales_with_temperature_as_stated(t_squared, power):
    """d loss / d z = alpha * T^(+-1) * (softmax(z / T) - softmax(teacher / T)) / N."""
    for t in (1.0, 2.0, 10.0):
        z = STUDENT.clone().requires_grad_()
        distillation_loss(z, TEACHER, LABELS, temperature=t, alpha=1.0, t_squared=t_squared).backward()
        expected = t**power * (F.softmax(STUDENT / t, dim=1) - F.softmax(TEACHER / t, dim=1)) / 2
        assert torch.allclose(z.grad, expected, atol=1e-6)


@pytest.mark.parametrize("temperature", [0, -1, -0.5, math.nan, math.inf, "4", None, True])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(InvalidInput, match=f"temperature .*{temperature!r}"):
        distillation_loss(STUDENT, TEACHER, LABELS, temperature=temperature, alpha=0.8)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf, "0.8", None])
def test_bad_alphas_are_refused(alpha):
    with pytest.raises(InvalidInput, match=f"alpha .*{alpha!r}"):
        distillation_loss(STUDENT, TEACHER, LABELS, temperature=2, alpha=alpha)


@pytest.mark.parametrize("teacher", [TEACHER[:1], TEACHER[:, :1], torch.zeros(2, 3), torch.zeros(2)])
def test_teacher_logits_that_would_broadcast_are_refused(teacher):
    with pytest.raises(InvalidInput, match=re.escape(str(tuple(teacher.shape)))):
        distillation_loss(STUDENT, teacher, LABELS, temperature=2, alpha=0.8)


def test_empty_batches_and_wrong_labels_are_refused():
    with pytest.raises(InvalidInput, match=r"\(0, 2\)"):
        distillation_loss(STUDENT[:0], TEACHER[:0], LABELS[:0], temperature=2, alpha=0.8)
    with pytest.raises(InvalidInput, match=r"\(2, 2\)"):
        distillation_loss(STUDENT, TEACHER, F.one_hot(LABELS), temperature=2, alpha=0.8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 50), alpha=st.floats(0, 1))
def test_a_student_equal_to_its_teacher_has_the_least_distillation_loss(seed, temperature, alpha):
    g = torch.Generator().manual_seed(seed)
    teacher, other = torch.randn(5, 4, generator=g), torch.randn(5, 4, generator=g)
    labels = torch.randint(4, (5,), generator=g)
    same = distillation_terms(teacher, teacher, labels, temperature=temperature, alpha=alpha)[0]
    assert same <= distillation_terms(other, teacher, labels, temperature=temperature, alpha=alpha)[0] + 1e-5


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64, int])
def test_numbers_of_any_kind_are_taken(kind):
    right = distillation_loss(STUDENT, TEACHER, LABELS, temperature=4.0, alpha=1.0).item()
    assert distillation_loss(STUDENT, TEACHER, LABELS, temperature=kind(4), alpha=kind(1)).item() == right


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_whole_labels_of_any_width_are_taken(kind):
    right = distillation_loss(STUDENT, TEACHER, LABELS, temperature=4, alpha=0.5)
    assert torch.equal(distillation_loss(STUDENT, TEACHER, LABELS.to(kind), temperature=4, alpha=0.5), right)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_where_the_value_is(kind):
    z = torch.zeros(2, 3, dtype=kind, requires_grad=True)
    loss = distillation_loss(z, z.detach(), LABELS, temperature=300.0, alpha=1.0)
    assert loss.item() == pytest.approx(300**2 * math.log(3)) and loss.dtype == torch.float32
    loss.backward()
    assert z.grad.dtype == kind and torch.isfinite(z.grad).all()


@pytest.mark.parametrize("temperature", [0.1, 4.0, 1e4])
@pytest.mark.parametrize("scale", [1, 1000])
def test_a_class_masked_in_both_is_left_out(temperature, scale):
    options = dict(temperature=temperature, alpha=0.8)
    short = (scale * STUDENT).requires_grad_()
    right = distillation_loss(short, scale * TEACHER, LABELS, **options)
    right.backward()
    nothing = torch.full((2, 1), -torch.inf)
    student = torch.cat([scale * STUDENT, nothing], 1).requires_grad_()
    loss = distillation_loss(student, torch.cat([scale * TEACHER, nothing], 1), LABELS, **options)
    loss.backward()
    assert loss.item() == pytest.approx(right.item(), rel=1e-5)
    assert torch.allclose(student.grad[:, :2], short.grad, rtol=1e-4) and (student.grad[:, 2] == 0).all()
    with pytest.raises(InvalidInput, match="label 2 of sample 1"):
        distillation_loss(student, torch.cat([TEACHER, nothing], 1), torch.tensor([0, 2]), **options)


def test_the_teacher_gets_no_gradient():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    distillation_loss(student, teacher, LABELS, temperature=2, alpha=0.8).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


@pytest.mark.parametrize("alpha", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("label", [-100, -1, 2])
def test_labels_that_are_no_class_are_refused(alpha, label):
    with pytest.raises(InvalidInput, match=f"label {label} of sample 1"):
        distillation_loss(STUDENT, TEACHER, torch.tensor([0, label]), temperature=2, alpha=alpha)


@pytest.mark.parametrize("labels", [LABELS.float(), LABELS.bool()])
def test_labels_that_are_not_whole_numbers_are_refused(labels):
    with pytest.raises(InvalidInput, match=str(labels.dtype)):
        distillation_loss(STUDENT, TEACHER, labels, temperature=2, alpha=0.5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"student_logits": STUDENT.tolist()}, "student_logits .* list"),
        ({"teacher_logits": TEACHER.numpy()}, "teacher_logits .* ndarray"),
        ({"labels": LABELS.numpy()}, "labels .* ndarray"),
        ({"teacher_logits": TEACHER.to(torch.complex64)}, "teacher_logits.*complex64"),
        ({"labels": LABELS.to(torch.uint16)}, "uint16"),
        ({"temperature": 10**400}, "temperature .* 1000"),
    ],
)
def test_what_is_no_tensor_or_no_number_of_ours_is_refused(changes, word):
    given = {"student_logits": STUDENT, "teacher_logits": TEACHER, "labels": LABELS, "temperature": 4, "alpha": 0.5}
    with pytest.raises(InvalidInput, match=word):
        distillation_loss(**given | changes)
