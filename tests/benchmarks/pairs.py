"""Time ways to train on the same images, in turn, on one machine."""

import sys
import time

import numpy as np


def compare(epochs, count):
    """Print images/s of the functions of ``epochs`` {name: train once on ``count`` images}, and the
    ratio, first to second, within each round. The command's argument is the number of rounds.
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
            speed[name] = count / (time.perf_counter() - began)
        first, second, *_ = speed.values()
        ratios.append(first / second)
        said = "  ".join(f"{name} {value:,.0f} images/s" for name, value in speed.items())
        print(f"round {number + 1}: {said}  ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
