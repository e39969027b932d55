"""Individual fairness: how far a model's outputs lie apart for inputs that should be treated alike.

D is the total variation between two outputs at T = 1, 0 .. 1. Four measures, each smaller the more alike they are:
mean_ratio (D over distance, the mean over pairs), counterfactual (an input against its twin with only the sensitive
attribute changed), lipschitz and inconsistency (an input against its nearest neighbors of the same label). Softer
outputs lower D whatever the model does, so the table also shows D after temperature scaling and relative to random
pairs. The paper's measure is a mean of ratios, E |f(x) - f(x')| / d(x, x'); its pairs, norm and distance are not public
(the Lipschitz condition of Dwork et al. 2012). No torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdlib.errors import InvalidInput, UndefinedMetric
from kdlib.measure.group_counts import encode_groups
from kdlib.predictions import as_array, check_probabilities, real_numbers, softmax, whole_numbers

CLOSEST = 0.05  # pairs at less than this distance are left out of mean_ratio: near-duplicates would rule it
RANDOM_PAIRS = 20_000
TIE = 1e-12  # squared distances that differ by less, in spreads of the embedding, differ by rounding alone
MOST_PAIRS = 20_000_000


class Neighbors(NamedTuple):
    """Each of n samples with its nearest others, as P pairs: positions `of` and `near`, distance and weight, all (P,).

    The weights of a sample sum to 1. Samples that are tied at the k-th distance share what nearer ones leave, so the
    order of rows decides nothing. Distance 1 is the median random pair. embedding (n, d): the samples at that scale.
    """

    n: int
    of: np.ndarray
    near: np.ndarray
    distance: np.ndarray
    weight: np.ndarray
    embedding: np.ndarray | None = None

    def pairs(self, a: np.ndarray, b: np.ndarray) -> Neighbors:
        """Other pairs of the same samples, positions (P,) each, all of one weight."""
        distance = np.linalg.norm(self.embedding[a] - self.embedding[b], axis=1)
        return Neighbors(self.n, a, b, distance, np.full(len(a), self.n / len(a)))


# --- distances between outputs ---------------------------------------------------------------------------------------


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D = half the sum of |p - q| over classes, the last axis; 0 (the same output) .. 1 (nothing in common)."""
    return np.abs(p - q).sum(axis=-1) / 2


def counterfactual(probabilities: np.ndarray, twins: np.ndarray | Neighbors) -> float:
    """Mean D between each input and its twin(s), in which only the sensitive attribute differs; 0 .. 1, 0: no reaction.

    probabilities (N, C); twins: their probabilities (N, C), or (N, M, C) for M twins of each, in the same order of
    samples; or what stands in for them, `nearest_of_another_group`.
    Raises InvalidInput for other shapes and for what are no probabilities.
    """
    p = _probabilities(probabilities, "probabilities")
    if isinstance(twins, Neighbors):
        return _mean_apart(p, twins)
    q = real_numbers(twins, "twins").astype(float)
    if q.ndim not in (2, 3) or q.shape[0] != p.shape[0] or q.shape[-1] != p.shape[1]:
        raise InvalidInput(
            f"twins {q.shape} do not fit probabilities {p.shape}; (N, C) or (N, M, C) is wanted, in the same order of "
            "samples."
        )
    _probabilities(q.reshape(-1, q.shape[-1]), "twins")
    return float(total_variation(p if q.ndim == 2 else p[:, None], q).mean())


def mean_ratio(probabilities: np.ndarray, near: Neighbors) -> float:
    """Mean of D over distance, over the pairs that are not nearer than CLOSEST: the paper's form; 0: no change at all.

    probabilities (N, C) at T = 1. Its scale hangs on the distance. The paper calls smaller fairer.
    Raises InvalidInput for shapes that do not fit, UndefinedMetric if every pair is nearer.
    """
    far = near.distance >= CLOSEST
    if not far.any():
        raise UndefinedMetric(f"every pair is nearer than {CLOSEST} of the median distance. Use another embedding.")
    weight = np.where(far, near.weight / np.where(far, near.distance, 1), 0)
    apart = _mean_apart(_probabilities(probabilities, "probabilities"), near._replace(weight=weight))
    return apart * near.n / near.weight[far].sum()


def lipschitz(probabilities: np.ndarray, near: Neighbors) -> float:
    """Mean D over mean distance, distance 1 being the median random pair; 0: no change at all, not bounded above.

    A ratio of means, since near-duplicates rule a mean of ratios. Raises as `mean_ratio`.
    """
    if near.distance.max() == 0:
        raise UndefinedMetric(
            "every neighbor is an exact duplicate, so D over distance is undefined. Use another embedding, or "
            "inconsistency."
        )
    return _mean_apart(_probabilities(probabilities, "probabilities"), near) / (near.weight @ near.distance / near.n)


def inconsistency(probabilities: np.ndarray, near: Neighbors) -> float:
    """Share of neighbors with another predicted class, 0 .. 1; does not depend on confidence."""
    p = _probabilities(probabilities, "probabilities")
    return _mean_apart(np.eye(p.shape[1])[p.argmax(axis=1)], near)


def share_too_near(near: Neighbors) -> float:
    """Share of the pairs that mean_ratio leaves out because they are nearer than CLOSEST, 0 .. 1."""
    return float(near.weight[near.distance < CLOSEST].sum() / near.weight.sum())


def _mean_apart(p: np.ndarray, near: Neighbors) -> float:
    """Mean over samples of D to their neighbors."""
    if near.n != len(p):
        raise InvalidInput(f"neighbors of {near.n} samples, probabilities of {len(p)}.")
    parts = np.array_split(np.arange(len(near.of)), 1 + len(near.of) // 100_000)  # of all pairs at once: (P, C) memory
    return float(sum(near.weight[i] @ total_variation(p[near.of[i]], p[near.near[i]]) for i in parts) / near.n)


def _probabilities(values: np.ndarray, place: str) -> np.ndarray:
    """`values` as (N, C) float64; raises InvalidInput for logits, NaN or another shape."""
    values = as_array(values, place)
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise InvalidInput(f"{place} has shape {values.shape} and type {values.dtype}; (N, C) real numbers are wanted.")
    check_probabilities(values, values.shape, what=place)
    return values.astype(float)


# --- neighbors -------------------------------------------------------------------------------------------------------


def neighbors(embedding: np.ndarray, *, k: int = 10, labels: np.ndarray | None = None) -> Neighbors:
    """The k nearest samples by Euclidean distance, among those of the same label where labels (N,) are given.

    embedding (N, d) of one frozen model, shared by all that are compared, never a model's own. Distances are divided by
    the median over random pairs of all samples. A sample is not its own neighbor; a duplicate of it is.
    Raises InvalidInput if a label has k samples or fewer, UndefinedMetric if most samples are alike.
    """
    x = _check_embedding(embedding)
    labels = np.zeros(len(x), int) if labels is None else check_length(labels, len(x), "labels")
    found = []
    for label in pd.unique(labels):
        same = np.flatnonzero(labels == label)
        if not isinstance(k, Integral) or not 1 <= k < len(same):
            raise InvalidInput(f"k is {k}, but label {label} has {len(same)} samples; k must be 1 .. {len(same) - 1}.")
        found += _nearest(x, same, same, k)
    near, unit = _neighbors(len(x), found, k), _median_distance(x)
    return near._replace(distance=near.distance / unit, embedding=x / unit)


def nearest_of_another_group(embedding: np.ndarray, groups: np.ndarray, *, labels: np.ndarray) -> Neighbors:
    """The nearest sample of another group with the same label: a stand-in for a counterfactual twin.

    Use: counterfactual(p, nearest_of_another_group(...)). The twin differs in more than the attribute. Distances are in
    spreads of the embedding, not in median random pairs: mean_ratio and lipschitz want those of `neighbors`.
    Raises UndefinedMetric for a label that only one group has.
    """
    x = _check_embedding(embedding)
    labels, (codes, names) = check_length(labels, len(x), "labels"), encode_groups(groups, "groups")
    check_length(codes, len(x), "groups")
    found = []
    for label in pd.unique(labels):
        for code, name in enumerate(names):
            own, other = (np.flatnonzero((labels == label) & here) for here in (codes == code, codes != code))
            if len(own) and not len(other):
                raise UndefinedMetric(
                    f"all samples of label {label} are of group {name!r}: no twin of another group. "
                    "Leave the label out."
                )
            found += _nearest(x, own, other, 1) if len(own) else []
    return _neighbors(len(x), found, 1)


def _nearest(x: np.ndarray, rows: np.ndarray, among: np.ndarray, k: int) -> list[tuple[np.ndarray, ...]]:
    """Positions of rows and of others, their distance and the row's k-th: what is as near as that, ties included."""
    from sklearn.neighbors import NearestNeighbors

    search, asked, found = NearestNeighbors().fit(x[among]), k + 1, []
    while len(rows):  # twice as many at a time, until one lies beyond the ties
        asked = min(2 * asked, len(among))
        if len(rows) * asked > MOST_PAIRS:
            raise InvalidInput(
                f"{len(rows)} samples have more than {asked // 2} others that are equally near: this embedding is too "
                "coarse to tell neighbors. Use one with more values."
            )
        distance, index = search.kneighbors(x[rows], asked)
        other = among[index] != rows[:, None]
        kth = np.sort(np.where(other, distance, np.inf), axis=1)[:, k - 1]
        whole = (distance[:, -1] ** 2 > kth**2 + TIE) | (asked == len(among))
        at, place = np.nonzero(other & whole[:, None] & (distance**2 <= kth[:, None] ** 2 + TIE))
        found.append((rows[at], among[index[at, place]], distance[at, place], kth[at]))
        rows = rows[~whole]
    return found


def _neighbors(n: int, found: Iterable[tuple[np.ndarray, ...]], k: int) -> Neighbors:
    of, near, distance, kth = (np.concatenate(part) for part in zip(*found, strict=True))
    tied = distance**2 >= kth**2 - TIE
    room = k - np.bincount(of[~tied], minlength=n)
    shared = room / np.maximum(np.bincount(of[tied], minlength=n), 1)
    return Neighbors(n, of, near, np.where(distance**2 <= TIE, 0.0, distance), np.where(tied, shared[of], 1.0) / k)


def _median_distance(x: np.ndarray) -> float:
    x = x[np.lexsort(x.T)]  # the same pairs in whatever order the rows come
    a, b = random_pairs(len(x))
    median = float(np.median(np.linalg.norm(x[a] - x[b], axis=1)))
    if median**2 <= TIE:
        raise UndefinedMetric("more than half of all pairs have the same embedding. Use another embedding.")
    return median


def random_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of up to RANDOM_PAIRS pairs of two different samples, always the same."""
    rng = np.random.default_rng(0)
    a = rng.integers(n, size=min(RANDOM_PAIRS, 20 * n))
    return a, (a + rng.integers(1, n, size=len(a))) % n


def _check_embedding(embedding: np.ndarray) -> np.ndarray:
    """In float64, centered (less rounding) and divided by its spread."""
    x = as_array(embedding, "embedding")
    if x.ndim != 2 or len(x) < 2 or x.dtype.kind not in "fiub":
        raise InvalidInput(f"embedding has shape {x.shape} and type {x.dtype}; (N, d) numbers, N of 2 or more, wanted.")
    x = x.astype(float)
    if not np.isfinite(x).all():
        raise InvalidInput(f"embedding is not finite in row {int(np.argwhere(~np.isfinite(x))[0][0])}.")
    x -= x.mean(axis=0)
    return x / (np.sqrt((x**2).sum(axis=1).mean()) or 1)


def check_length(values, n: int, place: str) -> np.ndarray:
    values = as_array(values, place)
    if values.shape != (n,):
        raise InvalidInput(f"{place} has shape {values.shape}; one value for each of {n} samples is wanted.")
    return values


# --- the two controls for softness -----------------------------------------------------------------------------------


def halves(n: int) -> np.ndarray:
    """(N,) bool: a random half of the samples, always the same."""
    if n < 4:
        raise InvalidInput(f"{n} samples cannot be split in two halves to calibrate on; 4 are the least.")
    return np.random.default_rng(0).permutation(n) < n // 2


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """T > 0 that gives softmax(log p / T) the least negative log-likelihood; above 1 softens. Within exp(-4) .. exp(4).

    Guo et al. (2017). If every sample is right there is no minimum, and the lower limit is returned.
    """
    from scipy.optimize import minimize_scalar

    z = _log(_probabilities(probabilities, "probabilities"))
    own = z[np.arange(len(z)), whole_numbers(check_length(labels, len(z), "labels"), "labels", z.shape[1])]

    def loss(log_t: float) -> float:
        return float(np.mean(np.log(np.exp(z / np.exp(log_t)).sum(axis=1)) - own / np.exp(log_t)))

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-4}).x))


def rescale(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """softmax(log p / T) over the last axis, T a number or one a sample (broadcast); same shape."""
    probabilities = as_array(probabilities, "probabilities")
    check_probabilities(probabilities, probabilities.shape, what="probabilities")
    return softmax(_log(probabilities) / temperature)


def cross_fitted_temperature(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) the temperature for each sample, fitted on the half of the samples that it is not in."""
    p = _probabilities(probabilities, "probabilities")
    labels = check_length(labels, len(p), "labels")
    first = halves(len(p))
    return np.where(first, fit_temperature(p[~first], labels[~first]), fit_temperature(p[first], labels[first]))


def _log(probabilities: np.ndarray) -> np.ndarray:
    """log p less its maximum (exp stays in range); a probability that underflowed to 0 counts as the smallest float."""
    z = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny).astype(float))
    return z - z.max(axis=-1, keepdims=True)
