"""Mean, spread and paired differences of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy import stats


class Spread(NamedTuple):
    """Number of values, their mean, and their sample standard deviation (n - 1), which needs two of them."""

    n: int
    mean: float | None
    std: float | None


class Difference(NamedTuple):
    """Number of pairs, mean difference, and the ends of its confidence interval, which need two pairs."""

    n: int
    mean: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Returns mean and sample standard deviation of `values`; None for what too few values do not tell."""
    n = len(values)
    return Spread(n, fmean(values) if n else None, stdev(values) if n > 1 else None)


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> Difference:
    """Returns how far `values` lie above `baseline`, paired by their keys (seeds).

    The interval is that of the paired t test: mean difference +- t * s / sqrt(n), with the quantile of Student's t of
    n - 1 degrees of freedom. It takes the differences for normal and independent.
    """
    differences = [values[key] - baseline[key] for key in values if key in baseline]
    n, mean, std = spread(differences)
    if std is None:
        return Difference(n, mean, None, None)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return Difference(n, mean, mean - half, mean + half)
