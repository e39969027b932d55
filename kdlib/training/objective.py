"""What a run minimises, and how strongly each term of it pulls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib import losses
from kdlib.studies import Run


def loss_of(run: Run, logits: Tensor, answers: Tensor | None, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """(the loss, its terms by where they come from). answers: the teacher's logits; None of a run without one."""
    if run.teacher is None:
        loss = F.cross_entropy(logits, labels)
        return run.loss_scale * loss, {"labels": loss}
    soft, hard = losses.distillation_terms(
        logits, answers, labels, temperature=run.temperature, alpha=run.alpha, t_squared=run.t_squared
    )
    return run.loss_scale * losses.combined(soft, hard, alpha=run.alpha), {"teacher": soft, "labels": hard}


def gradient_norms(terms: dict[str, Tensor], logits: Tensor) -> dict[str, Tensor]:
    """Norm of the gradient of each term of the loss with respect to a batch's logits (B, C)."""
    return {
        f"gradient_{name}": torch.autograd.grad(term, logits, retain_graph=True)[0].norm()
        for name, term in terms.items()
    }
