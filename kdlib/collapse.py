"""A run that collapsed: it learned nothing, and must be named wherever it enters. The one definition. No torch."""

from __future__ import annotations

import numpy as np

DEVIATIONS, SHARE = 3, 0.1  # of the binomial distribution; of what lies between chance and all right


def collapsed(
    predicted: np.ndarray, labels: np.ndarray, *, n_classes: int, probabilities: np.ndarray | None = None
) -> str | None:
    """Why a run counts as collapsed, in words that follow its name, or None. The first that holds:

    not finite   one of its probabilities (or logits) is not
    one class    it predicts a single class for every sample, where the labels have more
    chance       its share of right answers is at most chance + 3 binomial standard deviations over N, or + a tenth of
                 the way from chance to 1, whichever is less. Chance is sum_c P(predicted = c) P(label = c): what the
                 same predictions would reach if they had nothing to do with the labels, as in Cohen's kappa. A run
                 that gives the largest class to nearly all is at chance, however large that class.

    predicted, labels: (N,) int, 0 .. C-1. probabilities: (N, C), or (N,) of the predicted class.
    """
    if probabilities is not None and (bad := ~np.isfinite(probabilities)).any():
        return f"has probabilities that are not finite, the first for sample {np.argwhere(bad)[0][0]}"
    of_predicted, of_labels = (np.bincount(values, minlength=n_classes) / len(labels) for values in (predicted, labels))
    if of_labels.max() == 1:  # nothing to tell apart
        return None
    if of_predicted.max() == 1:
        return f"predicts class {predicted[0]} alone"
    right, chance = np.mean(predicted == labels), of_predicted @ of_labels
    margin = min(DEVIATIONS * np.sqrt(chance * (1 - chance) / len(labels)), SHARE * (1 - chance))
    return f"is right for {right:.1%}, and chance gives {chance:.1%}" if right <= chance + margin else None
