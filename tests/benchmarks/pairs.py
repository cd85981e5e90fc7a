"""Time ways to train on the same images, in turn, on one machine."""

import sys
import time

import numpy as np

from genlib.training.batches import Batches

STORED = np.random.default_rng(0).integers(0, 256, (12_800, 28, 28, 1), "uint8")


def by_fit(model, batch_size):
    """A function that trains a compiled model once on the images, as the lessons do."""
    batches = Batches(STORED, batch_size)
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


def compare(epochs):
    """Print images/s of the functions of ``epochs`` {name: train once on the images}, and the
    ratio, first to second, within each round. The argument of the command: the number of rounds.
    """
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for epoch in epochs.values():
        epoch()  # warm-up: compilation
    ratios = []
    for number in range(rounds):
        speed = {}
        for name, epoch in epochs.items():
            began = time.perf_counter()
            epoch()
            speed[name] = len(STORED) / (time.perf_counter() - began)
        first, second, *_ = speed.values()
        ratios.append(first / second)
        said = "  ".join(f"{name} {value:,.0f} images/s" for name, value in speed.items())
        print(f"round {number + 1}: {said}  ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
