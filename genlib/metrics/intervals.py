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


def jackknife(value, *without, highest=np.inf):
    """95%, from a statistic's values without each of n texts, or of n groups of images (Tukey
    1958); ``without``: such values (n,), one array for each side that is left out from.

    The variance is (n − 1)/n Σ (θ₋ᵢ − mean)², added over the sides, with Student's t; cut to
    0 … ``highest``. It is never too small on average (Efron & Stein 1981).
    """
    variance = sum((len(side) - 1) * np.var(side) for side in without)
    reach = stats.t.ppf(0.975, min(map(len, without)) - 1) * np.sqrt(variance)
    return float(max(value - reach, 0)), float(min(value + reach, highest))
