"""The judge: a small classifier of our own, which gives the metrics features and classes."""

import numpy as np

from genlib import UserError
from genlib.data import checkpoints
from genlib.data.images import to_model, to_unit
from genlib.metrics.intervals import MIN_IMAGES
from genlib.training.backend import keras

layers = keras.layers


def build_classifier(image_shape, num_classes):
    """A small convolutional classifier; its layer "features" has 64 units, "logits" the classes."""
    pixels = keras.Input(image_shape)
    x = pixels
    for filters in (32, 64, 128)[: 3 if min(image_shape[:2]) >= 32 else 2]:
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    x = layers.Dense(64, activation="relu", name="features")(x)
    return keras.Model(pixels, layers.Dense(num_classes, name="logits")(x), name="classifier")


def train_classifier(data, epochs=4, seed=0):
    """Train ``build_classifier`` on the judge's part of a labelled dataset (``data.Images``).
    Returns the model.

    Labels are smoothed (Szegedy et al. 2016, section 7): the right class is to get 0.9 and its even
    share of the rest. A judge that is to be sure makes its features ever larger, until a few images
    with the largest decide a covariance; this one need not.
    """
    keras.utils.set_random_seed(seed)
    model = build_classifier(data.shape, len(data.class_names))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(data.judge_images) // 128))
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    images, labels = data.part("judge")
    targets = keras.utils.to_categorical(labels, len(data.class_names))
    model.fit(to_model(images), targets, batch_size=128, epochs=epochs, verbose=0)
    return model


def load_classifier(name):
    """Return a shipped classifier and its name with the first digits of its SHA-256."""
    line = checkpoints.manifest()[name]
    model = build_classifier(line["shape"], line["num_classes"])
    return model, f"{name}@{checkpoints.load_weights(model, name)[:8]}"


class Judge:
    """What turns images into features and, where the data has labels, into classes.

    It learns from the judge's part of a dataset, which no model is trained on and no number is
    reported on. For a dataset with a shipped classifier (digits, mnist) it is that one. For other
    labelled data it is trained here. Without labels, the features are the images' first 64
    principal components, and ``classes`` is not available. Raises ``UserError`` for data with fewer
    than 20 test images.
    """

    def __init__(self, data):
        if len(data.test_images) < MIN_IMAGES:
            raise UserError(
                f"{data.name} has {len(data.test_images)} test images; to measure quality at least "
                f"{MIN_IMAGES} are needed, so give at least {5 * MIN_IMAGES} images."
            )
        name = f"classifier_{data.name}"
        line = checkpoints.manifest().get(name, {})
        if data.labels is None:
            self._use_components(data)
        elif line.get("shape") == [*data.shape] and line["dataset"]["sha256"] == data.sha256:
            self._use(*load_classifier(name))
        else:
            self._use(train_classifier(data), f"a classifier trained here on {data.name}")

    @classmethod
    def of_pixels(cls, data):
        """A judge that knows no classes: its features are the first 64 principal components."""
        judge = cls.__new__(cls)
        judge._use_components(data)
        return judge

    @classmethod
    def shipped(cls, dataset):
        """The shipped judge of a dataset's family ("digits", "mnist"), without the dataset."""
        judge = cls.__new__(cls)
        judge._use(*load_classifier(f"classifier_{dataset}"))
        return judge

    def _use_components(self, data):
        self._outputs, self.num_classes = None, 0
        self._mean, self._axes = _principal_components(data.judge_images)
        self.name = f"64 principal components of {data.name}"

    def _use(self, model, name):
        outputs = [model.get_layer(layer).output for layer in ("features", "logits")]
        self._outputs = keras.Model(model.input, outputs)
        self.name, self.num_classes = name, model.output_shape[-1]

    def __call__(self, images):
        """Images, float (N, height, width, channels) in [0, 1] → (features, classes or None).
        Raises ``UserError`` for images out of range."""
        features, logits = self.outputs(images)
        return features, None if logits is None else logits.argmax(-1)

    def outputs(self, images):
        """Images, as above → features (N, d) and logits (N, classes), or None without classes.
        Raises ``UserError`` for images out of range."""
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
            pair = self._outputs(to_model(images[start : start + 500]), training=False)
            features.append(np.asarray(pair[0]))
            logits.append(np.asarray(pair[1]))
        return np.concatenate(features).astype("float64"), np.concatenate(logits)


def _principal_components(images, count=64):
    from sklearn.decomposition import PCA

    flat = to_unit(images.reshape(len(images), -1)[:5000]).astype("float64")
    pca = PCA(min(count, *flat.shape), random_state=0).fit(flat)
    return pca.mean_, pca.components_.T
