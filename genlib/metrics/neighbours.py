"""Sample quality by nearest neighbours: are samples like real images, are all real images covered,
and are the samples copies?

A ball around each point, out to its k-th nearest neighbour, stands for the part of the space where
such points lie. Points are features (n, d), or pixels.
"""

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from genlib.metrics.intervals import MIN_IMAGES, checked, percentiles
from genlib.runs.results import Result

FOLDS = 10  # disjoint parts, whose spread tells the error
SMALLEST = FOLDS * (5 + 2)  # points; a fold needs some more than density's 5 neighbours


def radii(points, k):
    """Distance of each point to its k-th nearest other one: (n,)."""
    return _nearest(points, None, k)


def _nearest(points, queries, k=1):
    """Distance of each query to the k-th nearest of the points; without queries, of each point to
    the others."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points)
    return found.kneighbors(queries)[0][:, -1]


def balls(points, centres, radius, chunk=500):
    """How many balls hold each point (n,), and whether each ball holds a point (m,) booleans.

    points (n, d), centres (m, d), radius (m,); a ball's edge belongs to it.
    """
    counts, held = np.zeros(len(points), int), np.zeros(len(centres), bool)
    squares = (centres**2).sum(1) - radius**2 * (1 + 1e-6)  # equal distances round differently
    for start in range(0, len(points), chunk):
        part = points[start : start + chunk]
        inside = (part**2).sum(1)[:, None] + squares - 2 * part @ centres.T <= 0
        counts[start : start + chunk] = inside.sum(1)
        held |= inside.any(0)
    return counts, held


def precision_recall(samples, reference, *, floor, by, k=3):
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2): {name: ``Result``}.

    Precision is the share of samples inside a real image's ball: are they realistic? Recall is the
    share of real images inside a sample's ball: does the model make all there is? Both are 0 to 1
    and depend on n. Arguments as in ``metrics.fcd``; real against real is the best to be expected.
    Raises ``UserError`` as that does, for fewer than 10 (k + 2) points too.
    """

    def shares(real, drawn):
        precise = balls(drawn, real, radii(real, k))[0] > 0
        recalled = balls(real, drawn, radii(drawn, k))[0] > 0
        return np.array([precise.mean(), recalled.mean()])

    return _results(("precision", "recall"), shares, samples, reference, floor, by, k)


def density_coverage(samples, reference, *, floor, by, k=5):
    """Density and coverage (Naeem et al. 2020, eq. 3 and 5): {name: ``Result``}.

    Density counts in how many real balls a sample lies, over k: about 1 where samples are spread as
    the real images are, and one outlier among those does not help the samples near it. Coverage is
    the share of real balls that hold a sample, 0 to 1. Arguments and errors as in
    ``precision_recall``.
    """

    def numbers(real, drawn):
        counts, held = balls(drawn, real, radii(real, k))
        return np.array([counts.mean() / k, held.mean()])

    return _results(("density", "coverage"), numbers, samples, reference, floor, by, k)


def _results(names, statistic, samples, reference, floor, by, k):
    """{name: ``Result``} for each number of ``statistic(real, drawn)``.

    Resampling would put copies of a point into each other's balls. So the error comes from disjoint
    folds, each judged alone: their spread over √folds, times Student's t.
    """
    least = FOLDS * (k + 2)
    clouds = checked(names[0], samples, reference, floor, at_least=least)
    samples, reference, floor = (cloud.astype("float32") for cloud in clouds)
    value, best = statistic(reference, samples), statistic(reference, floor)
    with threadpool_limits(1 if len(samples) < 5000 else None):  # small parts gain nothing by two
        folds = [statistic(reference[i::FOLDS], samples[i::FOLDS]) for i in range(FOLDS)]
    error = np.std(folds, 0, ddof=1) / np.sqrt(FOLDS)
    reach = stats.t.ppf(0.975, FOLDS - 1) * error
    results, n = {}, len(samples)
    for name, v, b, r in zip(names, value, best, reach, strict=True):
        highest = np.inf if name == "density" else 1.0
        if highest == 1:  # a share of n has at least a share's error, if all folds agree by chance
            share = (v * n + 2) / (n + 4)  # Agresti & Coull (1998)
            r = max(r, 1.96 * np.sqrt(share * (1 - share) / n))
        interval = (float(max(0.0, v - r)), float(min(highest, v + r)))
        results[name] = Result(name, float(v), n, float(b), interval, by, True, depends_on_n=True)
    return results


def memorised(samples, train, *, held_out, by, tail=0.01, bootstrap=200, seed=0):
    """Share of samples that are suspiciously near to an image of the training set: a ``Result``.

    A distance alone means little: blurred images are near to everything. So each sample's distance
    to the training set is divided by that to held-out images that the model never saw. The same
    ratio for other held-out images, which cannot be copies, says how small it gets by chance: a
    sample counts when its ratio is below that of all but ``tail`` of them, which is the floor.

    samples, train, held_out: (n, …), numbers of any equal shape, pixels or features; half of
    ``held_out`` is the yardstick, the other half is compared with it. Raises ``UserError`` for
    fewer than 40 of any, unequal shapes, or numbers that are not finite.
    """
    flat = [np.reshape(part, (len(part), -1)) for part in (samples, train, held_out)]
    samples, train, held_out = checked("memorised", *flat, at_least=2 * MIN_IMAGES, equal=False)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(held_out))
    yardstick, others = np.array_split(held_out[order], 2)

    def ratio(points):
        return _nearest(train, points) / (_nearest(others, points) + 1e-12)

    honest, found = ratio(yardstick), ratio(samples)

    def share(honest, found):
        return np.mean(found < np.quantile(honest, tail))

    value = float(share(honest, found))
    draws = [
        share(rng.choice(honest, len(honest)), rng.choice(found, len(found)))
        for _ in range(bootstrap)
    ]
    return Result("memorised", value, len(samples), tail, percentiles(draws), by)
