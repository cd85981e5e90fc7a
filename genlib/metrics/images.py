"""Sample quality for images, each number with its sample size, its floor and an interval.

The features come from our own small classifiers, so the Fréchet distance is not "FID": it is
called FCD, Fréchet classifier distance, and names the classifier by its hash.
"""

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from genlib import UserError
from genlib.data.images import to_unit
from genlib.metrics.intervals import around, checked, jackknife
from genlib.metrics.neighbours import SMALLEST, density_coverage, memorised, precision_recall
from genlib.runs.results import Result

FLOORS, LOOKED_AT = 5, 10_000  # draws of real images for a floor, and images of them all at most
GROUPS = 20  # of images, left out one at a time
COPIES = 1000  # samples looked up in the training set, pixel by pixel: enough to find copying


def frechet_distance(mean_1, cov_1, mean_2, cov_2):
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians (Dowson & Landau 1982).

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½). Means (d,), covariances (d, d). The symmetric
    form needs only eigenvalues of symmetric matrices, so it cannot return a complex number.
    """
    values, vectors = np.linalg.eigh(cov_1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_2 @ root), 0)).sum()
    squared = np.sum((mean_1 - mean_2) ** 2) + np.trace(cov_1 + cov_2) - 2 * cross
    return float(max(0.0, squared))  # rounding may leave it a hair below 0


def fcd(samples, reference, *, floor, by):
    """Fréchet classifier distance between features of samples and of real images: a ``Result``.

    samples: features (n, d) of generated images. reference: features (n, d) of held-out real ones.
    floor: features (m, d) of other real images, m ≥ n; the mean distance of each n of them to
    ``reference`` is the floor. by: name of what made the features. The estimate is biased in n, so
    that all are compared at the same n.

    The interval is that of the mean of the estimate at this n, over other images: it is to be read
    against the floor, which is at the same n. It tells nothing of other trainings of the model.
    Each side is left out in ``GROUPS`` groups, one at a time; far above the floor the interval
    covers the mean as often as it says, near it more often, as it is wider there than need be.
    Raises ``UserError`` for unequal n or d, too few samples, or features that are not finite.
    """
    (samples, reference), floors = checked("FCD", samples, reference), draws(floor, len(reference))

    def distance(a, b):
        return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))

    value = distance(reference, samples)
    # At random, since samples often come in the order of their labels; from a stream of its own,
    # since a caller who shuffled them by the same one would have made each group a class.
    group = np.random.default_rng([GROUPS, 0]).permutation(len(reference)) % GROUPS
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        best = np.mean([distance(reference, other) for other in floors])
        without = [(reference[group != g], samples[group != g]) for g in range(GROUPS)]
        sides = (
            np.array([distance(real, samples) for real, _ in without]),
            np.array([distance(reference, drawn) for _, drawn in without]),
        )
    interval = jackknife(value, *sides)
    return Result("FCD", value, len(reference), float(best), interval, by, depends_on_n=True)


def squared_mmd(x, y, chunk=200):
    """Squared maximum mean discrepancy of points x and y, both (n, d), and its standard error.

    The unbiased estimate of Gretton et al. (2012, eq. 4), with KID's kernel (x·y / d + 1)³: the
    mean of h_ij = k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − k(x_j, y_i) over i ≠ j. Its variance is
    that of a U-statistic (Serfling 1980, 5.2.1); the second term counts where x and y are alike.
    """

    def kernel(a, b):
        return (a @ b.T / np.float32(a.shape[1]) + 1) ** 3

    n, squares = len(x), 0.0
    x, y, sums = x.astype("float32"), y.astype("float32"), np.zeros(len(x))
    for start in range(0, n, chunk):  # so that memory grows with n alone
        rows = slice(start, start + chunk)
        h = kernel(x[rows], x) + kernel(y[rows], y) - kernel(x[rows], y) - kernel(y[rows], x)
        np.fill_diagonal(h[:, start:], 0)  # i ≠ j
        sums[rows] = h.sum(1, dtype="float64")
        squares += np.sum(h**2, dtype="float64")
    pairs = n * (n - 1)
    value = sums.sum() / pairs
    of_pairs = squares / pairs - value**2  # ζ₂
    of_means = np.var(sums / (n - 1), ddof=1)  # ζ₁ + (ζ₂ − ζ₁) / (n − 1)
    single = max(0.0, (of_means - of_pairs / (n - 1)) * (n - 1) / (n - 2))  # ζ₁
    return float(value), float(np.sqrt((4 * (n - 2) * single + 2 * of_pairs) / pairs))


def kid(samples, reference, *, floor, by):
    """Kernel distance (Bińkowski et al. 2018) on the judge's features: a ``Result``.

    Unlike FCD it is unbiased: equal distributions give 0 in expectation at any n, and single values
    below 0. Their spread depends on n, so they too are compared at equal n. Arguments as in
    ``fcd``; the interval is 1.96 standard errors to each side. Raises ``UserError`` as that does.
    """
    (samples, reference), floors = checked("KID", samples, reference), draws(floor, len(reference))
    value, error = squared_mmd(reference, samples)
    interval = (value - 1.96 * error, value + 1.96 * error)
    best = float(np.mean([squared_mmd(reference, other)[0] for other in floors]))
    return Result("KID", value, len(samples), best, interval, by, depends_on_n=True)


def inception_score(probabilities, real, *, by, bootstrap=200, seed=0):
    """exp E KL(p(y | x) ‖ p(y)) (Salimans et al. 2016, section 4), by our classifier: a ``Result``.

    probabilities, real: class probabilities (n, classes) of samples, and of as many real images,
    whose score is the ``floor``. From 1 to the number of classes, the more the better. It sees
    neither a lack of variety within a class nor whether an image resembles the data. Raises
    ``UserError`` for unequal n, too few samples, or rows that are no probabilities.
    """
    probabilities, real = checked("the inception score", probabilities, real)
    for rows in (probabilities, real):
        if rows.min() < 0 or not np.allclose(rows.sum(1), 1, atol=1e-3):
            raise UserError("the inception score needs probabilities; these rows do not sum to 1.")

    def score(weights, rows):
        """From weights (…, n) of the rows, which sum to 1."""
        negative_entropy = np.sum(rows * np.log(rows + 1e-12), 1)
        marginal = weights @ rows
        return np.exp(weights @ negative_entropy - np.sum(marginal * np.log(marginal + 1e-12), -1))

    n, equal = len(real), np.full(len(real), 1 / len(real))
    value, rng = float(score(equal, probabilities)), np.random.default_rng(seed)
    draws = score(rng.multinomial(n, equal, bootstrap) / n, probabilities)
    interval, best = around(value, draws, 1.0, probabilities.shape[1]), float(score(equal, real))
    return Result("inception score", value, n, best, interval, by, True, depends_on_n=True)


def class_coverage(classes, reference, *, floor, by, bootstrap=200, seed=0):
    """What the class distributions of samples and of real images have in common: a ``Result``.

    Σ min(p, q) over the classes, from 0 to 1, that is 1 − their total variation distance. A class
    that is missing, or a wrong balance, lowers it. classes, reference (real), floor (real again):
    class numbers, n each. Raises ``UserError`` for unequal n or too few of them.
    """
    clouds = checked("class coverage", classes, reference, floor)
    number = int(max(cloud.max() for cloud in clouds)) + 1
    counts = [np.bincount(cloud.astype(int), minlength=number) for cloud in clouds]
    n, rng = len(classes), np.random.default_rng(seed)
    drawn, real, other = (count / n for count in counts)
    value = float(np.minimum(drawn, real).sum())
    resampled = [rng.multinomial(n, share, bootstrap) / n for share in (drawn, real)]
    interval = around(value, np.minimum(*resampled).sum(1), 0.0, 1.0)
    best = float(np.minimum(other, real).sum())
    return Result("class coverage", value, n, best, interval, by, True, depends_on_n=True)


def class_shares(classes, num_classes):
    """Share of each class relative to uniform (num_classes,): 1 everywhere is a perfect balance.

    classes: class numbers (n,), or None from a judge without classes, which has no shares: None.
    """
    if classes is None:
        return None
    return np.bincount(classes, minlength=num_classes) / len(classes) * num_classes


def nearest_images(samples, images):
    """For each sample, the nearest of ``images`` by pixels (Euclidean distance).

    samples: (n, height, width, channels); images: (m, height, width, channels), both in [0, 1].
    """
    flat = images.reshape(len(images), -1).astype("float32")
    squares = (flat**2).sum(1)
    best = [np.argmin(squares - 2 * flat @ sample.ravel()) for sample in samples]
    return images[best]


def draws(points, n):
    """Disjoint parts of n points each of the points (m, d), which are in random order, for a floor.
    Raises ``UserError`` for fewer than n."""
    if len(points) < n:
        raise UserError(f"a floor for {n} images needs as many real ones; there are {len(points)}.")
    return [checked("a floor", points[i : i + n])[0] for i in range(0, len(points) - n + 1, n)]


def _real(data, part, most, seed):
    """n, and n images of a part of the dataset and those of the floors, both in [0, 1]."""
    rng, held_out = np.random.default_rng(seed), data.part(part)[0]
    n = min(most, len(held_out), len(data.images))
    floors = max(1, min(FLOORS, LOOKED_AT // n, len(data.images) // n))
    rows = rng.permutation(len(held_out))[:n], rng.permutation(len(data.images))[: floors * n]
    return n, to_unit(held_out[rows[0]]), to_unit(data.images[rows[1]])


def measure_fcd(samples, data, *, judge, part="test", seed=0):
    """FCD of generated images beside real ones that were held out: a ``Result``.

    samples: float (n, height, width, channels) in [0, 1]. data: ``data.Images``; of the m images of
    ``part``, min(n, m) of each side are compared. part: "validation" for what is chosen by the
    number, "test" for what is reported. The floor is a mean over up to five draws of training
    images. judge: a ``metrics.Judge``. seed: of which images are taken. Raises ``UserError`` for
    too few images, samples out of [0, 1], or another part.
    """
    n, real, floor = _real(data, part, len(samples), seed)
    drawn, real, floor = (judge(images)[0] for images in (samples[:n], real, floor))
    return fcd(drawn, real, floor=floor, by=judge.name)


def measure_images(samples, data, *, judge, n=None, part="test", seed=0):
    """Every metric of images at once, on the same real ones, at the same n: {name: ``Result``}.

    samples: float (m, height, width, channels) in [0, 1]. data, judge, part, seed: as in
    ``measure_fcd``. n: how many of the samples, of the real images and (for the floors) of the
    training images are compared, the most that there are if None. The floors of FCD and KID are
    means over up to five draws of training images, the others' are those of one.

    The names: fcd, kid, precision, recall, density, coverage, memorised, and for a judge with
    classes inception_score and class_coverage. Raises ``UserError`` for an n that is too small or
    larger than what there is, and for test images that are all equal.
    """
    held_out = data.part(part)[0]
    most = min(len(samples), len(held_out), len(data.images))
    n = most if n is None else n
    if not SMALLEST <= n <= most:
        raise UserError(
            f"n={n} is not possible: all metrics together need {SMALLEST} images or more, and "
            f"there are {len(samples)} samples, {len(held_out)} {part} and "
            f"{len(data.images)} training images."
        )
    _, real, floor = _real(data, part, n, seed)
    samples = samples[np.random.default_rng(seed).permutation(len(samples))[:n]]
    if np.ptp(real, axis=0).max() == 0:
        raise UserError(f"all {n} {part} images of {data.name} are equal: nothing can be measured.")
    held_out = real[: 2 * COPIES]
    clouds, logits = zip(*map(judge.outputs, (samples, real, floor)), strict=True)
    drawn, real, other = clouds
    options, single = {"floor": other, "by": judge.name}, {"floor": other[:n], "by": judge.name}
    # Small arrays gain nothing from threads, and lose much where other processes run.
    with threadpool_limits(1 if n < 1000 else None):
        results = {
            "fcd": fcd(drawn, real, **options),
            "kid": kid(drawn, real, **options),
            **precision_recall(drawn, real, **single),
            **density_coverage(drawn, real, **single),
            "memorised": memorised(
                samples[:COPIES],
                to_unit(data.images),
                held_out=held_out,
                by="pixels",
            ),
        }
    if logits[0] is not None:
        chances = [softmax(side.astype("float64"), axis=1) for side in logits[:2]]
        results["inception_score"] = inception_score(*chances, by=judge.name)
        drawn, real, other = (side[:n].argmax(1) for side in logits)
        results["class_coverage"] = class_coverage(drawn, real, floor=other, by=judge.name)
    return results
