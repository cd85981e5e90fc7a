"""Images by name or by path: found, hash-checked, never unpickled; and the ranges of pixels.

``load_images`` and ``load_text`` look in this order: a path that is given; ``$GENLIB_DATA``;
``data/cache``; Keras's own cache; a download. ``GENLIB_OFFLINE=1`` never opens a socket.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from genlib import UserError, check_choice, nearest
from genlib.data.parts import SHARES, cut, shuffled
from genlib.data.readers import ARRAYS, read_folder, read_npz
from genlib.data.sources import DATASETS, NotAtHand, content_hash, fetch, find, verify

PARTS = tuple(SHARES)


@dataclass(frozen=True)
class Images:
    """A dataset of images.

    Four parts that do not overlap, each in random order, always the same one:

    - ``images``, ``labels``: what models are trained on;
    - ``validation_images``, ``validation_labels``: what choices are made on;
    - ``test_images``, ``test_labels``: what is reported, once the choices are made;
    - ``judge_images``, ``judge_labels``: what the judge of ``metrics`` learns from, and no other.

    Images are uint8 (N, height, width, channels), values 0 to 255; labels int32 (N,), or None where
    the source has none. An official test part is halved into validation and test, and the judge's
    share is taken from the official training part (``judge`` in ``DATASETS``, else a fifth);
    without one, the four are 50, 10, 20 and 20% of each class.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    validation_images: np.ndarray
    validation_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray | None
    judge_images: np.ndarray
    judge_labels: np.ndarray | None
    class_names: tuple
    source: str
    licence: str
    sha256: str

    @property
    def shape(self):
        """(height, width, channels) of one image."""
        return self.images.shape[1:]

    def __len__(self):
        return len(self.images)

    def __str__(self):
        size = "×".join(str(side) for side in self.shape)
        labels = f"{len(self.class_names)} classes" if self.class_names else "no labels"
        return (
            f"{self.name}: {len(self.images):,} training, {len(self.validation_images):,} "
            f"validation and {len(self.test_images):,} test images, {len(self.judge_images):,} for "
            f"the judge, {size}, {labels} (from {self.source})"
        )

    def take(self, limit):
        """The same dataset with only the first ``limit`` training images (0 keeps all)."""
        if not limit:
            return self
        labels = None if self.labels is None else self.labels[:limit]
        return replace(self, images=self.images[:limit], labels=labels)

    def part(self, name):
        """(images, labels) of the part "train", "validation", "test" or "judge".
        Raises ``UserError`` for another."""
        check_choice("part", name, PARTS)
        before = "" if name == "train" else f"{name}_"
        return getattr(self, f"{before}images"), getattr(self, f"{before}labels")


def to_model(images):
    """Images, uint8 or floats in [0, 1] → float32 in [-1, 1], the range of every model here."""
    if np.issubdtype(images.dtype, np.integer):
        return images.astype("float32") / 127.5 - 1.0
    return images.astype("float32") * 2.0 - 1.0


def to_unit(images):
    """Images, uint8 or floats in [-1, 1] (a tensor too) → float32 NumPy in [0, 1], as shown."""
    images = np.asarray(images)
    if np.issubdtype(images.dtype, np.integer):
        return images.astype("float32") / 255.0
    return np.clip((images.astype("float32") + 1.0) / 2.0, 0.0, 1.0)


def to_uint8(images):
    """Images in [0, 1] → uint8, 0 to 255."""
    return np.round(np.clip(images, 0.0, 1.0) * 255).astype("uint8")


def load_images(source="auto", image_size=0, channels=0):
    """Load a dataset of images by name or by path.

    source: a name of ``DATASETS``; a folder of images (its subfolders are classes); an ``.npz``
        with ``images`` (and ``labels``) or ``x_train``, ``y_train``, ``x_test``, ``y_test``; or
        "auto": MNIST where it is at hand or can be downloaded, else the bundled digits.
    image_size: resize to this many pixels square; 0 keeps the size.
    channels: 1 converts to grey, 3 to colour; 0 keeps them.

    Returns ``Images``. Raises ``UserError``, one sentence, for anything that cannot be loaded.
    """
    if image_size < 0 or channels not in (0, 1, 3):
        raise UserError(
            f"image_size={image_size} and channels={channels} do not fit: image_size is 0 (keep) or"
            " a number of pixels, channels 0 (keep), 1 (grey) or 3 (colour)."
        )
    path = Path(str(source)).expanduser()
    if source == "auto":
        data = _auto()
    elif source in DATASETS:
        data = _by_name(source)
    elif os.path.isdir(path):
        arrays, classes = read_folder(path, image_size, channels)
        data = replace(
            _from_arrays(f"{path.name}/", arrays, f"folder {path.name}"), class_names=classes
        )
    elif os.path.isfile(path) and path.suffix == ".npz":
        data = _from_arrays(path.name, read_npz(path), path.name)
    else:
        raise UserError(
            f"dataset {str(source)!r} is no known name ({', '.join(DATASETS)}, auto), no folder of "
            f"images and no .npz file.{nearest(source, [*DATASETS, 'auto'])}"
        )
    names = ("images", "validation_images", "test_images", "judge_images")
    return replace(
        data, **{name: _resize(getattr(data, name), image_size, channels) for name in names}
    )


def _auto():
    try:
        return _by_name("mnist")
    except NotAtHand as error:
        print(f"▶ MNIST is not at hand ({error.why}). Using the bundled 8×8 digits instead.")
        return _by_name("digits")


def _by_name(name):
    if name == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()  # values 0 to 16
        arrays = {"images": np.round(bunch.images * 255 / 16).astype("uint8")}
        return _from_arrays(name, arrays | {"labels": bunch.target}, "scikit-learn")
    path = find(name) or fetch(name)
    arrays = read_npz(path)
    verify(name, path, arrays)
    return _from_arrays(name, arrays, path.name)


def _from_arrays(name, arrays, source):
    keys = ARRAYS if "x_train" in arrays else ("images", "labels", "test_images", "test_labels")
    images, labels, test_images, test_labels = (arrays.get(key) for key in keys)
    if images is None:
        raise UserError(
            f"{source} holds {sorted(arrays)}, but neither 'images' nor 'x_train'; save the images "
            "under one of these names."
        )
    sha256 = content_hash(array for array in arrays.values())
    images, labels = _check_images(images, source), _check_labels(labels, len(images), source)
    known = DATASETS.get(name, {})
    if test_images is None:
        rows = cut(images, labels)
        classes = {0} if labels is None else set(labels)
        if labels is not None and min(np.bincount(labels)[list(classes)]) < 5:
            raise UserError(f"{source} needs at least 5 images of each class: some have fewer.")
        known_classes = classes if labels is None else set(labels[rows["train"]])
        if not all(map(len, rows.values())) or known_classes != classes:
            raise UserError(
                f"{source} holds too few different images to cut it into four parts; "
                "leave copies out, or give more."
            )
        held, held_labels = images, labels
    else:
        held = _check_images(test_images, source)
        if held.shape[1:] != images.shape[1:]:
            raise UserError(
                f"the training images in {source} are {images.shape[1:]}, its test images "
                f"{held.shape[1:]} (height, width, channels); make them equal."
            )
        held_labels = _check_labels(test_labels, len(held), source)
        first, second = shuffled(len(images)), shuffled(len(held))
        of_judge = round(len(images) * known.get("judge", SHARES["judge"]))
        rows = {"judge": first[:of_judge], "train": first[of_judge:]}
        rows |= {"validation": second[: len(held) // 2], "test": second[len(held) // 2 :]}
    classes = known.get("classes") or (
        () if labels is None else tuple(str(i) for i in range(labels.max() + 1))
    )
    pairs = {"train": (images, labels), "judge": (images, labels)}
    parts = []
    for part in PARTS:
        for array in pairs.get(part, (held, held_labels)):
            parts.append(None if array is None else array[rows[part]])
    return Images(name, *parts, classes, source, known.get("licence", "your own"), sha256)


def _check_images(images, source):
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or len(images) < 10:
        raise UserError(
            f"the images in {source} have shape {images.shape}; at least 10 images are needed, of "
            "shape (N, height, width), (N, height, width, 1) or (N, height, width, 3)."
        )
    if images.dtype == np.uint8:
        return images
    low, high = np.min(images), np.max(images)
    if not (np.issubdtype(images.dtype, np.floating) and low >= 0 and high <= 1):
        raise UserError(  # NaN fails the comparison too
            f"the images in {source} are {images.dtype} from {low} to {high}; give uint8 from 0 to "
            "255, or floats from 0 to 1 without NaN."
        )
    return to_uint8(images)


def _check_labels(labels, count, source):
    if labels is None:
        return None
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != count or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise UserError(
            f"the labels in {source} do not fit: one whole number from 0 up is needed for each of "
            f"the {count} images."
        )
    return labels.astype("int32")


def _resize(images, image_size, channels):
    """Resize to square images and convert their colours, with Pillow."""
    height, width, depth = images.shape[1:]
    size = (image_size, image_size) if image_size else (width, height)
    if size == (width, height) and channels in (0, depth):
        return images
    mode = "L" if (channels or depth) == 1 else "RGB"
    squeezed = images[..., 0] if depth == 1 else images
    resized = [
        Image.fromarray(image).convert(mode).resize(size, Image.Resampling.LANCZOS)
        for image in squeezed
    ]
    return np.stack([np.atleast_3d(np.asarray(image)) for image in resized])
