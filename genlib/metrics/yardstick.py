"""One yardstick for all families: every metric of images, on the same real ones, at the same n."""

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from genlib import UserError, metrics
from genlib.metrics import neighbours

COPIES = 1000  # samples looked up in the training set, pixel by pixel: enough to find copying


def measure_images(judge, data, samples, n=None, seed=0):
    """Judge samples beside a dataset's test images. Returns {name: ``metrics.Result``}.

    judge: a ``metrics.Judge``. data: ``data.Images``. samples: float (m, height, width, channels)
    in [0, 1]. n: how many of them, of the test images and (for the floors) of the training images
    are compared, the most that there are if None.

    The names: fcd, kid, precision, recall, density, coverage, memorised, and for a judge with
    classes inception_score and class_coverage.
    """
    most = min(len(samples), len(data.test_images), len(data.images))
    n = most if n is None else n
    if not neighbours.SMALLEST <= n <= most:
        raise UserError(
            f"n={n} is not possible: all metrics together need {neighbours.SMALLEST} images or "
            f"more, and there are {len(samples)} samples, {len(data.test_images)} test and "
            f"{len(data.images)} training images."
        )
    rng = np.random.default_rng(seed)
    test, train, samples = (
        part[rng.permutation(len(part))[:n]] for part in (data.test_images, data.images, samples)
    )
    test, train = test / 255.0, train / 255.0
    if np.ptp(test, axis=0).max() == 0:
        raise UserError(f"all {n} test images of {data.name} are equal: nothing can be measured.")
    judged = [judge.outputs(part) for part in (test, samples, train)]
    logits = [pair[1] for pair in judged]
    clouds, results = (*(pair[0] for pair in judged), judge.name), {}
    # Small arrays gain nothing from threads, and lose much where other processes run.
    with threadpool_limits(1 if n < 1000 else None):
        results["fcd"] = metrics.fcd(*clouds)
        results["kid"] = metrics.kid(*clouds)
        results["precision"], results["recall"] = metrics.precision_recall(*clouds)
        results["density"], results["coverage"] = metrics.density_coverage(*clouds)
        results["memorised"] = metrics.memorised(
            samples[:COPIES], data.images / np.float32(255), test[: 2 * COPIES], "pixels"
        )
    if logits[0] is not None:
        chances = [softmax(part.astype("float64"), axis=1) for part in logits]
        results["inception_score"] = metrics.inception_score(chances[1], chances[0], judge.name)
        classes = [part.argmax(1) for part in logits]
        results["class_coverage"] = metrics.class_coverage(
            classes[1], classes[0], classes[2], judge.name
        )
    return results
