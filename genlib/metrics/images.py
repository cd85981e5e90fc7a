"""Sample quality for images, each number with its sample size, its floor and an interval.

The features come from our own small classifiers, so the Fréchet distance is not "FID": it is
called FCD, Fréchet classifier distance, and names the classifier by its hash.
"""

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from genlib import UserError
from genlib.data.images import to_unit
from genlib.metrics.intervals import around, checked
from genlib.metrics.neighbours import SMALLEST, density_coverage, memorised, precision_recall
from genlib.runs.results import Result

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


def fcd(samples, reference, *, floor, by, bootstrap=100, seed=0):
    """Fréchet classifier distance between features of samples and of real images: a ``Result``.

    samples: features (n, d) of generated images. reference: features (n, d) of held-out real ones.
    floor: features (n, d) of other real images; their distance to ``reference`` is the floor.
    by: name of what made the features. The estimate is biased in n, so all three n must be equal.

    The interval is that of the estimate at this n, to be read against the floor at the same n.
    Raises ``UserError`` for unequal n or d, too few samples, or features that are not finite.
    """
    samples, reference, floor = checked("FCD", samples, reference, floor)

    def distance(a, b):
        return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))

    n, rng = len(reference), np.random.default_rng(seed)
    value = distance(reference, samples)
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        draws = [
            distance(reference[rng.integers(0, n, n)], samples[rng.integers(0, n, n)])
            for _ in range(bootstrap)
        ]
    return Result(
        "FCD", value, n, distance(reference, floor), around(value, draws), by, depends_on_n=True
    )


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
    samples, reference, floor = checked("KID", samples, reference, floor)
    value, error = squared_mmd(reference, samples)
    interval = (value - 1.96 * error, value + 1.96 * error)
    best = squared_mmd(reference, floor)[0]
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


def measure_fcd(samples, data, *, judge, seed=0, bootstrap=100):
    """FCD of generated images beside the dataset's test images: a ``Result``.

    samples: float (n, height, width, channels) in [0, 1]. data: ``data.Images``; of its m test
    images, min(n, m) of each side are compared, and the floor takes as many training images.
    judge: a ``metrics.Judge``. seed: of which images are taken. bootstrap: as in ``fcd``. Raises
    ``UserError`` for too few images, or samples out of [0, 1].
    """
    rng = np.random.default_rng(seed)
    n = min(len(samples), len(data.test_images), len(data.images))
    test, train = (
        to_unit(part[rng.permutation(len(part))[:n]]) for part in (data.test_images, data.images)
    )
    drawn, real, floor = (judge(part)[0] for part in (samples[:n], test, train))
    return fcd(drawn, real, floor=floor, by=judge.name, bootstrap=bootstrap)


def measure_images(samples, data, *, judge, n=None, seed=0):
    """Every metric of images at once, on the same real ones, at the same n: {name: ``Result``}.

    samples: float (m, height, width, channels) in [0, 1]. data: ``data.Images``. judge: a
    ``metrics.Judge``. n: how many of the samples, of the test images and (for the floors) of the
    training images are compared, the most that there are if None.

    The names: fcd, kid, precision, recall, density, coverage, memorised, and for a judge with
    classes inception_score and class_coverage. Raises ``UserError`` for an n that is too small or
    larger than what there is, and for test images that are all equal.
    """
    most = min(len(samples), len(data.test_images), len(data.images))
    n = most if n is None else n
    if not SMALLEST <= n <= most:
        raise UserError(
            f"n={n} is not possible: all metrics together need {SMALLEST} images or more, and "
            f"there are {len(samples)} samples, {len(data.test_images)} test and "
            f"{len(data.images)} training images."
        )
    rng = np.random.default_rng(seed)
    test, train, samples = (
        part[rng.permutation(len(part))[:n]] for part in (data.test_images, data.images, samples)
    )
    test, train = to_unit(test), to_unit(train)
    if np.ptp(test, axis=0).max() == 0:
        raise UserError(f"all {n} test images of {data.name} are equal: nothing can be measured.")
    clouds, logits = zip(*map(judge.outputs, (samples, test, train)), strict=True)
    drawn, real, other = clouds
    options = {"floor": other, "by": judge.name}
    # Small arrays gain nothing from threads, and lose much where other processes run.
    with threadpool_limits(1 if n < 1000 else None):
        results = {
            "fcd": fcd(drawn, real, **options),
            "kid": kid(drawn, real, **options),
            **precision_recall(drawn, real, **options),
            **density_coverage(drawn, real, **options),
            "memorised": memorised(
                samples[:COPIES],
                to_unit(data.images),
                held_out=test[: 2 * COPIES],
                by="pixels",
            ),
        }
    if logits[0] is not None:
        chances = [softmax(part.astype("float64"), axis=1) for part in logits[:2]]
        results["inception_score"] = inception_score(*chances, by=judge.name)
        drawn, real, other = (part.argmax(1) for part in logits)
        results["class_coverage"] = class_coverage(drawn, real, floor=other, by=judge.name)
    return results
