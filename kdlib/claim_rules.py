"""The rules that decide the paper's claims: predictions of a study in, a `Finding` out.

The unit is the block: a teacher, its students, and the non-distilled student of the same seed. Tests are over blocks, or
permute temperatures within them. The rules know neither profiles nor the paper's numbers; `verdicts` joins them. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from kdlib import stats
from kdlib.class_arms import Arm, class_totals, compared_arms, complete_blocks, paired_by_seed
from kdlib.class_bias import compare_arms, disagreement, n_significant
from kdlib.class_checks import count_trend
from kdlib.class_effects import class_change_sd
from kdlib.class_tests import least_p
from kdlib.errors import InvalidInput
from kdlib.fairness import group_fairness, permuted_groups
from kdlib.fairness_intervals import paired_differences
from kdlib.fidelity import fidelity, teacher_rows
from kdlib.group_counts import differences, prepare, rates
from kdlib.individual import individual_runs
from kdlib.predictions import Predictions
