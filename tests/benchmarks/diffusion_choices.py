"""What each choice of lesson 06's recipe buys: leave one out, equal training images, MNIST.

``python tests/benchmarks/diffusion_choices.py [STEPS]`` prints a Markdown table: the time of a
training step relative to the recipe's, from rounds in turn, and the FCD after STEPS (800) steps of
64 images, on validation images. One training each: it tells nothing of other seeds.
"""

import sys
import time
from contextlib import nullcontext
from unittest import mock

import numpy as np

from genlib import data, metrics, training
from genlib.models import diffusion, unet
from genlib.training.backend import keras
from genlib.training.batches import Batches
from genlib.training.optimizers import warmup_cosine

GROUPS = {"RMSNormalization": lambda: keras.layers.GroupNormalization(8)}


def muon(rate):
    return training.Muon(rate, adam_lr_ratio=0.4)


def adam(rate):
    return keras.optimizers.Adam(rate, beta_2=0.99)


VARIANTS = {  # what differs from the recipe
    "all of them": {},
    "Muon at half the rate": {"rate": 2.5e-3},
    "Muon at twice the rate": {"rate": 1e-2},
    "Adam (2e-3) instead of Muon": {"optimizer": adam, "rate": 2e-3},
    "Adam (4e-3) instead of Muon": {"optimizer": adam, "rate": 4e-3},
    "Adam (8e-3) instead of Muon": {"optimizer": adam, "rate": 8e-3},
    "t logit-normal alone": {"density": "logit_normal"},
    "t uniform": {"density": "uniform"},
    "v on the cosine schedule instead of flow": {"schedule": "cosine", "prediction": "v"},
    "noise on the cosine schedule instead of flow": {"schedule": "cosine", "prediction": "noise"},
    "GroupNorm instead of RMSNorm": {"layers": GROUPS},
    "attention at 7×7 added": {"network": {"attention": True}},
    "no 2×2 patches": {"network": {"patch": 1}},
}


def build(steps, optimizer=muon, rate=5e-3, layers=None, **options):
    """A compiled model of one variant."""
    with mock.patch.multiple(unet.layers, **layers) if layers else nullcontext():
        model = diffusion.build_diffusion(**options)
    model.compile(optimizer=optimizer(warmup_cosine(rate, steps)))
    model.optimizer.build(model.trainable_variables)
    return model


def step_times(images, rounds=4):
    """Median time of a training step of each variant, relative to the first, rounds in turn."""
    probe = Batches(images.images[: 64 * 25], 64).stream()
    models = {name: build(1000, **variant) for name, variant in VARIANTS.items()}
    times = {name: [] for name in models}
    for _ in range(rounds + 1):  # the first compiles
        for name, model in models.items():
            began = time.perf_counter()
            model.fit(probe, shuffle=False, verbose=0)
            times[name].append(time.perf_counter() - began)
    table = np.array(list(times.values()))[:, 1:]
    return dict(zip(times, np.median(table / table[0], axis=1), strict=True))


def main(steps=800):
    images = data.load_images("mnist")
    judge, cost = metrics.Judge(images), step_times(images)

    def row(name, model, cost, **controls):
        drawn = model.generate(2000, steps=20, seed=1, **{"eta": 1.0} | controls)
        fcd = metrics.measure_fcd(drawn, images, judge=judge, part="validation")
        low, high = fcd.interval
        print(f"| {name} | {cost:.2f} | {fcd.value:.2f} ({low:.2f} to {high:.2f}) |", flush=True)

    print("| | time a step | FCD |\n|---|---|---|")
    for name, variant in VARIANTS.items():
        model = build(steps, **variant)
        stream = Batches(images.images, 64).stream().repeat()
        model.fit(stream, steps_per_epoch=steps, shuffle=False, verbose=0)
        row(name, model, cost[name])
        if name == "all of them":
            row("last weights instead of the average", model, 1, average=False)
            row("drawn without fresh noise, η = 0", model, 1, eta=0.0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
