"""How noise is put into images and taken out again: schedules, targets, samplers. No network here.

An image x₀ in [-1, 1] and noise ε ~ N(0, I) make x_t = α_t x₀ + σ_t ε, from t = 0, the image, to
t = T, noise alone. Schedules differ in α and σ, networks in what they predict, samplers in how they
walk back; everything else is shared. The functions take NumPy arrays and tensors alike.
"""

from itertools import pairwise
from math import log, sqrt

import numpy as np

from genlib import UserError


def linear_schedule(timesteps=1000):
    """α and σ, NumPy (timesteps + 1,), where the noise's variance β rises on a line.

    ᾱ_t = Π (1 − β_s), α = √ᾱ, σ = √(1 − ᾱ); β from 1e-4 to 0.02 for 1000 steps (Ho et al. 2020).
    """
    beta = np.minimum(np.linspace(1e-4, 0.02, timesteps) * 1000 / timesteps, 0.999)
    alpha_bar = np.cumprod(np.append(1.0, 1.0 - beta))
    return np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)


def cosine_schedule(timesteps=1000):
    """α and σ, NumPy (timesteps + 1,), with α near a quarter of a cosine (Nichol & Dhariwal 2021,
    eq. 17): less time is spent where nothing is left of the image."""
    angle = (np.arange(timesteps + 1) / timesteps + 0.008) / 1.008 * np.pi / 2
    beta = np.minimum(1.0 - np.cos(angle[1:]) ** 2 / np.cos(angle[:-1]) ** 2, 0.999)
    alpha_bar = np.cumprod(np.append(1.0, 1.0 - beta))
    return np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)


def flow_schedule(timesteps=1000):
    """α and σ, NumPy (timesteps + 1,), of a straight line from image to noise (Liu et al. 2023)."""
    sigma = np.arange(timesteps + 1) / timesteps
    return 1.0 - sigma, sigma


SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule, "flow": flow_schedule}
PREDICTIONS = ("noise", "image", "v", "flow")
SAMPLERS = ("ddpm", "ddim", "dpm")


def target_weights(prediction, alpha, sigma):
    """(a, b): the network learns to output a ε + b x₀. NumPy arrays as long as alpha and sigma.

    noise: ε itself (Ho et al. 2020); image: x₀; v: α ε − σ x₀ (Salimans & Ho 2022); flow: ε − x₀,
    the speed of x along the straight line (Liu et al. 2023).
    """
    one, zero = np.ones_like(alpha), np.zeros_like(alpha)
    weights = {
        "noise": (one, zero),
        "image": (zero, one),
        "v": (alpha, -sigma),
        "flow": (one, -one),
    }
    return weights[prediction]


def check_path(schedule, prediction):
    """Raise ``UserError`` for a schedule that a network with this prediction cannot start from."""
    if prediction == "noise" and schedule == "flow":
        raise UserError(
            "prediction='noise' with schedule='flow' cannot start: x_T is noise alone, and ε says "
            "nothing about x₀; use prediction='flow', or schedule='cosine'."
        )


def estimate_image(x, output, alpha, sigma, a, b):
    """x₀ from x_t = α x₀ + σ ε and output = a ε + b x₀, two equations with two unknowns."""
    return (a * x - sigma * output) / (a * alpha - b * sigma)


def ddpm_step(x, x0, now, then, noise):
    """Draw x_s of an earlier time s from q(x_s | x_t, x₀), a Gaussian (Ho et al. 2020, eq. 6).

    x, x0, noise: of one shape; now, then: (α, σ) at t and at s, numbers.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, then
    ratio = alpha_t / alpha_s
    added = sigma_t**2 - (ratio * sigma_s) ** 2  # variance of the noise added from s to t
    mean = (ratio * sigma_s**2 * x + alpha_s * added * x0) / sigma_t**2
    return mean + sigma_s * sqrt(added) / sigma_t * noise


def ddim_step(x, x0, now, then, noise=0.0, eta=0.0):
    """Go to an earlier time with the share ``eta`` of DDPM's fresh noise (Song et al. 2021, (12)).

    eta: 0 keeps the noise that x holds, and nothing is random; 1 is ``ddpm_step``.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, then
    held = (x - alpha_t * x0) / sigma_t  # the noise in x
    fresh = eta**2 * (1.0 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2)  # share of variance
    return alpha_s * x0 + sigma_s * (sqrt(1.0 - fresh) * held + sqrt(fresh) * noise)


def dpm_step(x, x0, now, then, before=None, noise=0.0, eta=0.0):
    """DPM-Solver++(2M) (Lu et al. 2022): DDIM with x₀ extrapolated from the last two estimates.

    before: (x₀, (α, σ)) of the step before, or None at the first. eta: of ``ddim_step``.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, then
    if before is not None and sigma_s > 0 and before[1][0] > 0:
        last, (alpha_r, sigma_r) = before
        span = log(alpha_s * sigma_t / (sigma_s * alpha_t))  # of λ = log α/σ, in this step
        x0 = x0 + 0.5 * span / log(alpha_t * sigma_r / (sigma_t * alpha_r)) * (x0 - last)
    return ddim_step(x, x0, now, then, noise, eta)


def renoise(x, now, then, noise):
    """Go back from x at ``now``'s (α, σ) to a later, noisier ``then``."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = now, then
    ratio = alpha_t / alpha_s
    return ratio * x + sqrt(sigma_t**2 - (ratio * sigma_s) ** 2) * noise


def walk(denoise, x, levels, sampler, draw, eta=0.0, jumps=1):
    """Walk from noise to an image, and yield (x, x₀'s estimate) after each step.

    denoise: (x, index of the level) → estimate of x₀. levels: list of (α, σ), the first noise, the
    last (1, 0). draw: () → fresh noise of x's shape. jumps: times that each step is walked, with
    noise added again in between (RePaint, Lugmayr et al. 2022).
    """
    before = None
    for i, (now, then) in enumerate(pairwise(levels)):
        for jump in range(jumps):
            if jump:
                x = renoise(x, then, now, draw())
            x0 = denoise(x, i)
            noise = draw() if eta or sampler == "ddpm" else 0.0
            if sampler == "ddpm":
                x = ddpm_step(x, x0, now, then, noise)
            elif sampler == "ddim":
                x = ddim_step(x, x0, now, then, noise, eta)
            else:
                x = dpm_step(x, x0, now, then, None if jump else before, noise, eta)
        before = (x0, now)
        yield x, x0
