"""Sample quality for images, each number with its sample size, its floor and an interval.

The features come from our own small classifiers, so the Fréchet distance is not "FID": it is
called FCD, Fréchet classifier distance, and names the classifier by its hash.
"""

from dataclasses import asdict, dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from genlib import UserError, checkpoints
from genlib._backend import keras
from genlib.data import to_model

layers = keras.layers
MIN_IMAGES = 20  # below this, a distance between distributions says nothing


@dataclass(frozen=True)
class Result:
    """A measured number. ``interval`` is 95%, by bootstrap; ``floor`` is real against real, or None
    where there is none."""

    name: str
    value: float
    n: int
    floor: float | None
    interval: tuple
    by: str  # what measured it

    def __str__(self):
        low, high = self.interval
        floor = "" if self.floor is None else f"floor {self.floor:.2f}, real against real; "
        return (
            f"{self.name} {self.value:.2f}  (95% interval {low:.2f} to {high:.2f}; "
            f"{floor}n = {self.n:,}; by {self.by})"
        )

    def as_dict(self):
        return asdict(self)


def build_classifier(image_shape, num_classes):
    """A small convolutional classifier; its layer "features" has 64 units, "logits" the classes."""
    pixels = keras.Input(image_shape)
    x = pixels
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    x = layers.Dense(64, activation="relu", name="features")(x)
    return keras.Model(pixels, layers.Dense(num_classes, name="logits")(x), name="classifier")


def train_classifier(data, epochs=4, seed=0):
    """Train ``build_classifier`` on a labelled dataset (``data.Images``). Returns the model."""
    keras.utils.set_random_seed(seed)
    model = build_classifier(data.shape, len(data.class_names))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(data.images) // 128))
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(to_model(data.images), data.labels, batch_size=128, epochs=epochs, verbose=0)
    return model


def load_classifier(name):
    """Return a shipped classifier and its name with the first digits of its SHA-256."""
    line = checkpoints.manifest()[name]
    model = build_classifier(line["shape"], line["num_classes"])
    return model, f"{name}@{checkpoints.load_weights(model, name)[:8]}"


class Judge:
    """What turns images into features and, where the data has labels, into classes.

    For a dataset with a shipped classifier (digits, mnist) it is that one. For other labelled data
    it is trained here, on the training part. Without labels, the features are the images' first 64
    principal components, and ``classes`` is not available.
    """

    def __init__(self, data):
        if len(data.test_images) < MIN_IMAGES:
            raise UserError(
                f"{data.name} has {len(data.test_images)} test images; to measure quality at least "
                f"{MIN_IMAGES} are needed, so give at least {5 * MIN_IMAGES} images."
            )
        name = f"classifier_{data.name}"
        if checkpoints.manifest().get(name, {}).get("shape") == [*data.shape]:
            self._use(*load_classifier(name))
        elif data.labels is not None:
            self._use(train_classifier(data), f"a classifier trained here on {data.name}")
        else:
            self._outputs, self.num_classes = None, 0
            self._mean, self._axes = _principal_components(data.images)
            self.name = f"64 principal components of {data.name}"

    @classmethod
    def shipped(cls, dataset):
        """The shipped judge of a dataset's family ("digits", "mnist"), without the dataset."""
        judge = cls.__new__(cls)
        judge._use(*load_classifier(f"classifier_{dataset}"))
        return judge

    def _use(self, model, name):
        outputs = [model.get_layer(layer).output for layer in ("features", "logits")]
        self._outputs = keras.Model(model.input, outputs)
        self.name, self.num_classes = name, model.output_shape[-1]

    def __call__(self, images):
        """Images, float (N, height, width, channels) in [0, 1] → (features, classes or None)."""
        images = np.asarray(images, "float32")
        if not (images.min() >= 0 and images.max() <= 1):
            raise UserError(
                f"the images go from {images.min()} to {images.max()}; a judge needs [0, 1] "
                "without NaN."
            )
        if self._outputs is None:
            return (images.reshape(len(images), -1) - self._mean) @ self._axes, None
        features, logits = [], []
        for start in range(0, len(images), 500):
            pair = self._outputs(images[start : start + 500] * 2 - 1, training=False)
            features.append(np.asarray(pair[0]))
            logits.append(np.asarray(pair[1]))
        return np.concatenate(features).astype("float64"), np.concatenate(logits).argmax(-1)


def _principal_components(images, count=64):
    from sklearn.decomposition import PCA

    flat = images.reshape(len(images), -1)[:5000] / 255.0
    pca = PCA(min(count, *flat.shape), random_state=0).fit(flat)
    return pca.mean_, pca.components_.T


def frechet_distance(mean_1, cov_1, mean_2, cov_2):
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians (Dowson & Landau 1982).

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½). Means (d,), covariances (d, d). The symmetric
    form needs only eigenvalues of symmetric matrices, so it cannot return a complex number.
    """
    values, vectors = np.linalg.eigh(cov_1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_2 @ root), 0)).sum()
    return float(np.sum((mean_1 - mean_2) ** 2) + np.trace(cov_1 + cov_2) - 2 * cross)


def fcd(reference, samples, floor, by, bootstrap=100, seed=0):
    """Fréchet classifier distance between features of real images and of samples.

    reference: features (n, d) of held-out real images. samples: features (n, d) of generated ones.
    floor: features (n, d) of other real images; their distance to ``reference`` is the floor.
    by: name of what made the features. The estimate is biased in n, so all three n must be equal.

    The interval is that of the estimate at this n, to be read against the floor at the same n:
    resampling adds the bias once more, so the bootstrap's spread is laid around the value.
    Returns ``Result``. Raises ``UserError`` for unequal n, too few samples, or features that are
    not finite.
    """
    n = len(reference)
    if not (reference.shape == samples.shape == floor.shape) or n < MIN_IMAGES:
        raise UserError(
            f"FCD compares equal numbers of images, at least {MIN_IMAGES}; got {n} reference, "
            f"{len(samples)} generated and {len(floor)} floor images."
        )
    if not all(np.isfinite(f).all() for f in (reference, samples, floor)):
        raise UserError("FCD needs finite features; some are NaN or infinite.")

    def distance(a, b):
        return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))

    value, rng = distance(reference, samples), np.random.default_rng(seed)
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        draws = [
            distance(reference[rng.integers(0, n, n)], samples[rng.integers(0, n, n)])
            for _ in range(bootstrap)
        ]
    low, high = value + np.percentile(draws, [2.5, 97.5]) - np.mean(draws)
    interval = (float(max(low, 0.0)), float(high))
    return Result("FCD", value, n, distance(reference, floor), interval, by)


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
