"""What all metrics share: which points can be compared, and 95% intervals."""

import numpy as np
from scipy import stats

from genlib import UserError

MIN_IMAGES = 20  # below this, a distance between distributions says nothing


def checked(name, *clouds, at_least=MIN_IMAGES, equal=True):
    """Points (n, d) as float64. Raises ``UserError`` for fewer than ``at_least``, unequal n (where
    they must be ``equal``) or d, or numbers that are not finite."""
    clouds = [np.asarray(cloud, "float64") for cloud in clouds]
    counts = [len(cloud) for cloud in clouds]
    if min(counts) < at_least or (equal and len(set(counts)) > 1):
        kind = "equal numbers of points" if equal else "clouds of points"
        found = " and ".join(map(str, counts))
        raise UserError(f"{name} compares {kind}, at least {at_least} each; got {found}.")
    if len({cloud.shape[1:] for cloud in clouds}) > 1:
        widths = " and ".join(str(cloud.shape[1:]) for cloud in clouds)
        raise UserError(f"{name} compares points of one kind; these have the shapes {widths}.")
    if not all(np.isfinite(cloud).all() for cloud in clouds):
        raise UserError(f"{name} needs finite features; some are NaN or infinite.")
    return clouds


def percentiles(draws):
    """95%: between the 2.5% and the 97.5% percentile of a bootstrap's draws (n,)."""
    return tuple(np.percentile(draws, [2.5, 97.5]).tolist())


def around(value, draws, low=0.0, high=np.inf):
    """95%, from a bootstrap's draws. Resampling adds a statistic's bias once more, so their spread
    is laid around the value, and cut where the statistic ends."""
    ends = value + np.percentile(draws, [2.5, 97.5]) - np.mean(draws)
    return tuple(np.clip(ends, low, high).tolist())


def jackknife(value, without, highest):
    """95%, from a statistic's values without each one of n texts (Tukey 1958).

    The variance is (n − 1)/n Σ (θ₋ᵢ − mean)², with Student's t; cut to 0 … ``highest``.
    """
    n = len(without)
    error = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    reach = stats.t.ppf(0.975, n - 1) * error
    return float(max(value - reach, 0)), float(min(value + reach, highest))
