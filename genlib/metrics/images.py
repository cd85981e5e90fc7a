"""Sample quality for images, each number with its sample size, its floor and an interval.

The features come from our own small classifiers, so the Fréchet distance is not "FID": it is
called FCD, Fréchet classifier distance, and names the classifier by its hash.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from genlib import UserError
from genlib.metrics.judge import MIN_IMAGES
from genlib.runs.results import Result


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


def _interval(value, draws, low=0.0, high=np.inf):
    """95%, from a bootstrap's draws. Resampling adds a statistic's bias once more, so their spread
    is laid around the value, and cut where the statistic ends."""
    ends = value + np.percentile(draws, [2.5, 97.5]) - np.mean(draws)
    return tuple(float(end) for end in np.clip(ends, low, high))


def fcd(reference, samples, floor, by, bootstrap=100, seed=0):
    """Fréchet classifier distance between features of real images and of samples.

    reference: features (n, d) of held-out real images. samples: features (n, d) of generated ones.
    floor: features (n, d) of other real images; their distance to ``reference`` is the floor.
    by: name of what made the features. The estimate is biased in n, so all three n must be equal.

    The interval is that of the estimate at this n, to be read against the floor at the same n.
    Returns ``Result``. Raises ``UserError`` for unequal n or d, too few samples, or features that
    are not finite.
    """
    reference, samples, floor = checked("FCD", reference, samples, floor)

    def distance(a, b):
        return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))

    n, rng = len(reference), np.random.default_rng(seed)
    value = distance(reference, samples)
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        draws = [
            distance(reference[rng.integers(0, n, n)], samples[rng.integers(0, n, n)])
            for _ in range(bootstrap)
        ]
    return Result("FCD", value, n, distance(reference, floor), _interval(value, draws), by)


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


def kid(reference, samples, floor, by):
    """Kernel distance (Bińkowski et al. 2018) on the judge's features: a ``Result``.

    Unlike FCD it is unbiased: equal distributions give 0 in expectation at any n, and single values
    below 0. Arguments as in ``fcd``; the interval is 1.96 standard errors to each side.
    """
    reference, samples, floor = checked("KID", reference, samples, floor)
    value, error = squared_mmd(reference, samples)
    interval = (value - 1.96 * error, value + 1.96 * error)
    return Result("KID", value, len(samples), squared_mmd(reference, floor)[0], interval, by)


def inception_score(probabilities, real, by, bootstrap=200, seed=0):
    """exp E KL(p(y | x) ‖ p(y)) (Salimans et al. 2016, section 4), by our classifier: a ``Result``.

    probabilities, real: class probabilities (n, classes) of samples, and of as many real images,
    whose score is the ``floor``. From 1 to the number of classes, the more the better. It sees
    neither a lack of variety within a class nor whether an image resembles the data.
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
    interval = _interval(value, draws, 1.0, probabilities.shape[1])
    return Result("inception score", value, n, float(score(equal, real)), interval, by)


def class_coverage(classes, reference, floor, by, bootstrap=200, seed=0):
    """What the class distributions of samples and of real images have in common: a ``Result``.

    Σ min(p, q) over the classes, from 0 to 1, that is 1 − their total variation distance. A class
    that is missing, or a wrong balance, lowers it. classes, reference (real), floor (real again):
    class numbers, n each.
    """
    clouds = checked("class coverage", classes, reference, floor)
    number = int(max(cloud.max() for cloud in clouds)) + 1
    counts = [np.bincount(cloud.astype(int), minlength=number) for cloud in clouds]
    n, rng = len(classes), np.random.default_rng(seed)
    drawn, real, other = (count / n for count in counts)
    value = float(np.minimum(drawn, real).sum())
    resampled = [rng.multinomial(n, share, bootstrap) / n for share in (drawn, real)]
    interval = _interval(value, np.minimum(*resampled).sum(1), 0.0, 1.0)
    best = float(np.minimum(other, real).sum())
    return Result("class coverage", value, n, best, interval, by)


def class_shares(classes, num_classes):
    """Share of each class relative to uniform (num_classes,): 1 everywhere is a perfect balance."""
    return np.bincount(classes, minlength=num_classes) / len(classes) * num_classes


def nearest_images(samples, images):
    """For each sample, the nearest of ``images`` by pixels (Euclidean distance).

    samples: (n, height, width, channels); images: (m, height, width, channels), both in [0, 1].
    """
    flat = images.reshape(len(images), -1).astype("float32")
    squares = (flat**2).sum(1)
    best = [np.argmin(squares - 2 * flat @ sample.ravel()) for sample in samples]
    return images[best]


def evaluate(judge, data, samples, seed=0, bootstrap=100):
    """Judge generated images beside the dataset's test images.

    samples: float (n, height, width, channels) in [0, 1]; bootstrap: of ``fcd``. Returns (FCD
    ``Result``, class shares or None). With m test images, min(n, m) of each side are compared; the
    floor takes as many training images.
    """
    rng = np.random.default_rng(seed)
    n = min(len(samples), len(data.test_images), len(data.images))
    test, train = (p[rng.permutation(len(p))[:n]] / 255.0 for p in (data.test_images, data.images))
    generated, classes = judge(samples[:n])
    result = fcd(judge(test)[0], generated, judge(train)[0], judge.name, bootstrap)
    return result, None if classes is None else class_shares(judge(samples)[1], judge.num_classes)
