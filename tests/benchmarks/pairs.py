"""Two ways to do the same work, timed in turn on one machine: the ratio in a round counts."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genlib.training import Batches

HEAD = "| | ours | theirs | ratio | of rounds | unit |\n|---|---|---|---|---|---|"


@dataclass
class Pair:
    """ours, theirs: functions that each do work. counts: how much one call of each does, such that
    divided by its seconds it is in ``unit``."""

    name: str
    unit: str
    counts: tuple
    ours: Callable
    theirs: Callable

    def row(self, rounds):
        """Time both in turn, and return a row of the table: medians, and the ratio's spread."""
        speeds = []
        for _ in range(rounds + 1):
            speeds.append([])
            for work, count in zip((self.ours, self.theirs), self.counts, strict=True):
                began = time.perf_counter()
                work()
                speeds[-1].append(count / (time.perf_counter() - began))
        speeds = np.array(speeds[1:])  # the first compiles
        ratios, (ours, theirs) = speeds[:, 0] / speeds[:, 1], np.median(speeds, axis=0)
        spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
        told = f"{ours:,.0f} | {theirs:,.0f} | {np.median(ratios):.2f} | {spread}"
        return f"| {self.name} | {told} | {self.unit} |"


def random_images(count):
    """uint8 (count, 28, 28, 1), as MNIST is stored."""
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), "uint8")


def by_fit(model, images, batch_size):
    """A function that trains a compiled model once on the images, as the lessons do."""
    batches = Batches(images, batch_size)
    return lambda: model.fit(batches.stream(), shuffle=False, epochs=1, verbose=0)


def by_step(step, images, batch_size):
    """A function that calls a tutorial's training step on each batch of a pass over ``images``."""
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images))
    options = tf.data.Options()
    options.autotune.enabled = False  # its idle waits between epochs would flatter our side
    batches = batches.batch(batch_size, drop_remainder=True).with_options(options)

    def epoch():
        for batch in batches:
            step(batch)

    return epoch
