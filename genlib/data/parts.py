"""A dataset cut into parts that do not overlap, each with a use of its own."""

import numpy as np

# Where the source has no test part of its own: how much of each class goes to which part.
SHARES = {"train": 0.5, "validation": 0.1, "test": 0.2, "judge": 0.2}


def deduplicate(images):
    """Return the indices, ascending, of the first occurrence of each distinct image."""
    flat = images.reshape(len(images), -1)
    _, first = np.unique(flat, axis=0, return_index=True)
    return np.sort(first)


def split(images, fraction, seed=0):
    """Split the indices of ``images`` into (rest, held out), equal images on the same side.

    ``fraction``, between 0 and 1, is the share of the *distinct* images that is held out.
    """
    flat = images.reshape(len(images), -1)
    _, group = np.unique(flat, axis=0, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(group.max() + 1)
    held_out = np.isin(group, shuffled[: round(fraction * len(shuffled))])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def shuffled(count):
    """The numbers below ``count`` in a random order, always the same one: NumPy (count,).

    A file's order is not random: the later half of MNIST's test images is by other hands, so that
    a slice of it stands for nothing. Shipped judges were trained on a part that this order gives;
    NumPy promises the numbers of ``RandomState``, and not those of its newer generators.
    """
    return np.random.RandomState(0).permutation(count)


def cut(images, labels):
    """Cut a dataset without a test part: {part of ``SHARES``: indices, in random order}.

    Each class is cut in the same shares, and equal images stay in one part. labels: (N,) or None.
    """
    flat = images.reshape(len(images), -1)
    _, first, group = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    order = shuffled(len(images))
    classes = np.zeros(len(images), int) if labels is None else labels
    place = np.empty(len(images))  # from 0 to 1, of an image among those of its class
    for number in np.unique(classes):
        rows = order[classes[order] == number]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    ends = np.cumsum([*SHARES.values()])
    part = np.searchsorted(ends, place)[first[group]][order]  # of each image, in random order
    rows = {name: order[part == number] for number, name in enumerate(SHARES)}
    # Once more: a class that came early in the order would come first in every part.
    return {name: found[shuffled(len(found))] for name, found in rows.items()}
