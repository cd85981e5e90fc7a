"""Noise goes in as the schedules say, and the samplers take it out without changing the law.

Where the data are Gaussian the best denoiser is known and linear, so the law of what a sampler
draws is known too, without drawing: ``Law`` follows the mean and what each noise contributes.
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from genlib.models import samplers
from genlib.training.backend import keras

MEAN, SD = 0.3, 0.4  # of the Gaussian data
WAYS = [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0), ("dpm", 0.0)]
WAYS += [("dpm", 0.5), ("dpm", 1.0)]
every_schedule = pytest.mark.parametrize("schedule", samplers.SCHEDULES)
every_way = pytest.mark.parametrize("sampler, eta", WAYS)


def levels(schedule, steps, timesteps=1000):
    """(α, σ) of ``steps`` + 1 timesteps from T to 0."""
    alpha, sigma = samplers.SCHEDULES[schedule](timesteps)
    times = np.linspace(timesteps, 0, steps + 1).round().astype(int)
    return list(zip(alpha[times].tolist(), sigma[times].tolist(), strict=True))


class Law(np.ndarray):
    """A Gaussian as its mean and the weight of each independent N(0, 1) in it.

    A step of a sampler is linear, so it does to this array what it does to each sample.
    """

    @classmethod
    def of(cls, mean, sd, draws=1):
        law = np.zeros(2 + draws).view(cls)
        law[:2] = mean, sd
        law.used = [2]
        return law

    def __array_finalize__(self, parent):
        self.used = getattr(parent, "used", None)

    def fresh(self):
        """A new N(0, 1)."""
        noise = np.zeros_like(self)
        noise[self.used[0]] = 1.0
        self.used[0] += 1
        return noise

    def constant(self, value):
        constant = np.zeros_like(self)
        constant[0] = value
        return constant

    @property
    def mean(self):
        return float(self[0])

    @property
    def sd(self):
        return float(np.linalg.norm(self[1:]))


def moves(count=2):
    """(α, σ) of ``count`` timesteps of some schedule, the noisiest first."""

    def pick(case):
        schedule, (timesteps, times) = case
        alpha, sigma = samplers.SCHEDULES[schedule](timesteps)
        return [(float(alpha[t]), float(sigma[t])) for t in sorted(times, reverse=True)]

    def times(timesteps):
        chosen = st.sets(st.integers(0, timesteps), min_size=count, max_size=count)
        return st.tuples(st.just(timesteps), chosen)

    schedules = st.sampled_from(list(samplers.SCHEDULES))
    return st.tuples(schedules, st.integers(2, 1000).flatmap(times)).map(pick)


# Schedules


@every_schedule
@given(timesteps=st.integers(1, 1000))
def test_a_schedule_falls_from_the_image_and_the_noise_rises(schedule, timesteps):
    alpha, sigma = samplers.SCHEDULES[schedule](timesteps)
    assert alpha.shape == sigma.shape == (timesteps + 1,)
    assert (alpha[0], sigma[0]) == (1, 0) and alpha[-1] >= 0
    assert np.all(np.diff(alpha) < 0) and np.all(np.diff(sigma) >= 0) and sigma[1] > 0
    if schedule != "flow":
        np.testing.assert_allclose(alpha**2 + sigma**2, 1)


@every_schedule
@given(timesteps=st.integers(2, 1000))
def test_a_schedule_ends_with_hardly_anything_but_noise(schedule, timesteps):
    alpha, sigma = samplers.SCHEDULES[schedule](timesteps)
    assert alpha[-1] < 0.035 and sigma[-1] > 0.999


def test_the_linear_schedule_is_that_of_ho_et_al():
    kept, alpha_bar = 1.0, [1.0]
    for t in range(1000):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        alpha_bar.append(kept)
    np.testing.assert_allclose(samplers.linear_schedule()[0] ** 2, alpha_bar)


@given(st.integers(200, 1000))
def test_the_linear_schedule_ends_alike_with_any_number_of_steps(timesteps):
    (few, _), (many, _) = map(samplers.linear_schedule, (timesteps, 1000))
    assert -np.log(few[-1]) == pytest.approx(-np.log(many[-1]), rel=0.06)


@pytest.mark.parametrize("timesteps", [1000, 50])
def test_the_cosine_schedule_is_that_of_nichol_and_dhariwal(timesteps):
    def f(t):
        return np.cos((t / timesteps + 0.008) / 1.008 * np.pi / 2) ** 2

    alpha, _ = samplers.cosine_schedule(timesteps)
    expected = f(np.arange(timesteps)) / f(0)
    np.testing.assert_allclose(alpha[:-1] ** 2, expected, rtol=1e-6)
    assert alpha[-1] ** 2 == pytest.approx(0.001 * expected[-1])  # β is at most 0.999


def test_the_flow_schedule_is_a_straight_line():
    alpha, sigma = samplers.flow_schedule(4)
    assert alpha.tolist() == [1, 0.75, 0.5, 0.25, 0] and sigma.tolist() == [0, 0.25, 0.5, 0.75, 1]


# Putting noise in


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_noise_added_step_by_step_has_the_law_of_the_closed_form(schedule):
    n, timesteps, image = 20_000, 200, 0.7
    alpha, sigma = samplers.SCHEDULES[schedule](timesteps)
    beta = 1 - alpha[1:] ** 2 / alpha[:-1] ** 2
    rng, x = np.random.default_rng(0), np.full(n, image)
    for t in range(1, timesteps + 1):
        x = np.sqrt(1 - beta[t - 1]) * x + np.sqrt(beta[t - 1]) * rng.standard_normal(n)
        if t in (1, 20, 100, 200):
            error = sigma[t] / np.sqrt(
                n
            )  # the mean's standard error; the deviation's is 1/√2 of it
            assert abs(x.mean() - alpha[t] * image) < 4 * error
            assert abs(x.std() - sigma[t]) < 4 * error / np.sqrt(2)
            assert stats.kstest(x, stats.norm(alpha[t] * image, sigma[t]).cdf).pvalue > 0.01


@given(moves(), st.floats(-1, 1))
def test_going_back_to_a_noisier_time_keeps_the_closed_form(move, image):
    now, then = move
    x = Law.of(then[0] * image, then[1])
    noisier = samplers.renoise(x, then, now, x.fresh())
    assert noisier.mean == pytest.approx(now[0] * image, abs=1e-9)
    assert noisier.sd == pytest.approx(now[1], abs=1e-9)


# What a network predicts


def test_the_targets_are_what_their_names_say():
    alpha, sigma = np.float64([0.9, 0.2]), np.float64([0.1, 0.7])
    image, noise = np.float64([0.5, -1]), np.float64([2, 0.3])
    expected = {
        "noise": noise,
        "image": image,
        "v": alpha * noise - sigma * image,
        "flow": noise - image,
    }
    assert set(expected) == set(samplers.PREDICTIONS)
    for prediction, target in expected.items():
        a, b = samplers.target_weights(prediction, alpha, sigma)
        assert a.shape == b.shape == alpha.shape
        np.testing.assert_allclose(a * noise + b * image, target)


@every_schedule
@pytest.mark.parametrize("prediction", samplers.PREDICTIONS)
def test_the_image_is_found_again_from_any_true_target(schedule, prediction):
    alpha, sigma = samplers.SCHEDULES[schedule](1000)
    a, b = samplers.target_weights(prediction, alpha, sigma)
    times = np.arange(1, 1000 if (schedule, prediction) == ("flow", "noise") else 1001)
    alpha, sigma, a, b = (each[times, None] for each in (alpha, sigma, a, b))
    image, noise = np.random.default_rng(0).standard_normal((2, 9))
    x, target = alpha * image + sigma * noise, a * noise + b * image
    found = samplers.estimate_image(x, target, alpha, sigma, a, b)
    np.testing.assert_allclose(found, np.broadcast_to(image, found.shape), atol=1e-9)


# One step


def step(sampler, eta, x, x0, now, then):
    noise = x.fresh()
    if sampler == "ddpm":
        return samplers.ddpm_step(x, x0, now, then, noise)
    if sampler == "ddim":
        return samplers.ddim_step(x, x0, now, then, noise, eta)
    return samplers.dpm_step(x, x0, now, then, None, noise, eta)


@every_way
@given(move=moves(), image=st.floats(-1, 1))
def test_with_the_true_image_a_step_keeps_the_closed_form(sampler, eta, move, image):
    now, then = move
    x = Law.of(now[0] * image, now[1])
    moved = step(sampler, eta, x, x.constant(image), now, then)
    assert moved.mean == pytest.approx(then[0] * image, abs=1e-9)
    assert moved.sd == pytest.approx(then[1], abs=1e-6)


@given(moves(), st.floats(-1, 1), st.floats(-3, 3))
def test_a_step_of_ddpm_is_the_posterior_given_the_image(move, image, x):
    now, then = move
    noisy, less = now[1] ** 2, then[1] ** 2  # the variances of x_t and x_s given the image
    shared = now[0] / then[0] * less  # their covariance
    mean = then[0] * image + shared / noisy * (x - now[0] * image)
    still, moved = (samplers.ddpm_step(x, image, now, then, noise) for noise in (0.0, 1.0))
    assert still == pytest.approx(mean, abs=1e-9)
    assert (moved - still) ** 2 == pytest.approx(less - shared**2 / noisy, abs=1e-9)


@given(moves(), st.floats(-1, 1), st.floats(-3, 3), st.floats(-3, 3))
def test_ddim_with_all_of_the_fresh_noise_is_ddpm(move, image, x, noise):
    ddim = samplers.ddim_step(x, image, *move, noise, eta=1.0)
    assert ddim == pytest.approx(samplers.ddpm_step(x, image, *move, noise), abs=1e-6)


@given(moves(), st.floats(-1, 1), st.floats(-3, 3), st.floats(0, 1))
def test_eta_is_the_share_of_the_fresh_noise_of_ddpm(move, image, x, eta):
    ddpm, ddim = (
        step(x, image, *move, 1.0) - step(x, image, *move, 0.0)
        for step in (samplers.ddpm_step, partial(samplers.ddim_step, eta=eta))
    )
    assert ddim == pytest.approx(eta * ddpm, abs=1e-6)


@given(moves(), st.floats(-1, 1), st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1))
def test_the_first_step_of_dpm_is_ddim(move, image, x, noise, eta):
    ddim = samplers.ddim_step(x, image, *move, noise, eta)
    dpm = samplers.dpm_step(x, image, *move, None, noise, eta)
    assert dpm == pytest.approx(ddim, abs=1e-9)


@pytest.mark.parametrize("eta", [0, 1])  # of the flow, and of the diffusion that undoes itself
@given(move=moves(3), last=st.floats(-1, 1), image=st.floats(-1, 1), x=st.floats(-3, 3))
def test_a_later_step_of_dpm_is_that_of_lu_et_al(eta, move, last, image, x):
    with np.errstate(divide="ignore"):
        far, now, then = np.log([alpha / np.float64(sigma) for alpha, sigma in move])
    (_, sigma_t), (alpha_s, sigma_s) = move[1:]
    h, d, noise = then - now, image, 0.7
    if np.isfinite([far, then]).all():  # else there is no span to extrapolate over
        r = (now - far) / h
        d = (1 + 1 / (2 * r)) * image - 1 / (2 * r) * last
    expected = sigma_s / sigma_t * x - alpha_s * np.expm1(-h) * d
    if eta:
        expected = sigma_s / sigma_t * np.exp(-h) * x - alpha_s * np.expm1(-2 * h) * d
        expected += sigma_s * np.sqrt(-np.expm1(-2 * h)) * noise
    found = samplers.dpm_step(x, image, *move[1:], (last, move[0]), noise, eta)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(2, 1000), st.floats(-1, 1), st.floats(-3, 3), st.data())
def test_ddim_on_the_flow_is_an_euler_step_along_it(timesteps, image, x, data):
    t = data.draw(st.integers(1, timesteps)) / timesteps
    s = data.draw(st.floats(0, t, exclude_max=True))
    noise = (x - (1 - t) * image) / t
    moved = samplers.ddim_step(x, image, (1 - t, t), (1 - s, s))
    assert moved == pytest.approx(x + (s - t) * (noise - image), abs=1e-9)


# A walk, with the best denoiser there is


def perfect(path):
    """(x, i) → E[x₀ | x] at level i of the path, for x₀ ~ N(MEAN, SD²)."""

    def denoise(x, i):
        alpha, sigma = path[i]
        mean = x.constant(MEAN) if isinstance(x, Law) else MEAN
        return mean + alpha * SD**2 / ((alpha * SD) ** 2 + sigma**2) * (x - alpha * mean)

    return denoise


def drawn(path, sampler, eta, jumps=1):
    """The law of what a walk ends with."""
    alpha, sigma = path[0]
    x = Law.of(alpha * MEAN, np.hypot(alpha * SD, sigma), 2 * jumps * len(path))
    for now, _ in samplers.walk(perfect(path), x, path, sampler, x.fresh, eta, jumps):
        last = now
    return last


@pytest.mark.parametrize(
    "sampler, eta, jumps", [(*way, 1) for way in WAYS] + [(*way, 3) for way in WAYS]
)
@every_schedule
def test_a_walk_ends_with_the_mean_and_the_deviation_of_the_data(schedule, sampler, eta, jumps):
    few, many = (drawn(levels(schedule, steps), sampler, eta, jumps) for steps in (500, 1000))
    assert many.mean == pytest.approx(MEAN, abs=1e-9)
    assert many.sd == pytest.approx(SD, rel=0.02)
    # Without the error that halves when the steps double:
    assert 2 * many.sd - few.sd == pytest.approx(SD, rel=0.003)


@every_schedule
def test_dpm_needs_fewer_steps_than_ddim_and_ddim_fewer_than_ddpm(schedule):
    def error(steps, *way):
        return abs(drawn(levels(schedule, steps), *way).sd - SD)

    assert error(50, "dpm", 0.0) < 0.01 * SD
    for steps in (20, 50):
        assert 2 * error(steps, "dpm", 0.0) < error(steps, "ddim", 0.0) < error(steps, "ddpm", 0.0)
        assert 2 * error(steps, "dpm", 1.0) < error(steps, "ddim", 1.0)


@every_way
@every_schedule
def test_a_walk_draws_data_of_two_clusters(schedule, sampler, eta):
    shares, means, sds = np.float64([[0.3, 0.7], [-0.6, 0.5], [0.2, 0.1]])[..., None]
    rng, path, n = np.random.default_rng(0), levels(schedule, 1000), 4000

    def denoise(x, i):
        alpha, sigma = path[i]
        variance = (alpha * sds) ** 2 + sigma**2
        off = x - alpha * means
        weight = shares / np.sqrt(variance) * np.exp(-0.5 * off**2 / variance)
        return np.sum(weight * (means + alpha * sds**2 / variance * off), 0) / weight.sum(0)

    def draw():
        return rng.standard_normal(n)

    for x, _ in samplers.walk(denoise, path[0][1] * draw(), path, sampler, draw, eta):
        last = x

    def cdf(x):
        return np.sum(shares * stats.norm.cdf(x, means, sds), 0)

    assert stats.kstest(last, cdf).pvalue > 0.01


def test_twice_the_steps_halve_the_error_of_ddim_and_quarter_that_of_dpm():
    errors = {}
    for steps in (32, 64):
        span = np.linspace(-3, 3, steps + 1)  # of log α/σ, evenly
        path = list(zip(*np.sqrt([expit(2 * span), expit(-2 * span)]), strict=True))
        z = np.float64([-1.2, 0.1, 0.8])  # the flow of a Gaussian keeps it
        start, end = (a * MEAN + np.hypot(a * SD, sigma) * z for a, sigma in path[::steps])
        for sampler in ("ddim", "dpm"):
            *_, (x, _) = samplers.walk(perfect(path), start, path, sampler, None)
            errors[sampler, steps] = abs(x - end).max()
    assert errors["ddim", 32] / errors["ddim", 64] == pytest.approx(2, rel=0.1)
    assert errors["dpm", 32] / errors["dpm", 64] == pytest.approx(4, rel=0.1)
    assert errors["dpm", 32] < errors["ddim", 32] / 10


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_without_fresh_noise_a_walk_draws_none(sampler):
    path = levels("cosine", 7)
    first, second = (
        [x for x, _ in samplers.walk(perfect(path), np.arange(3.0), path, sampler, None)]
        for _ in range(2)
    )
    assert np.array_equal(first, second)


@every_way
def test_a_walk_shows_each_step_and_ends_with_its_last_estimate(sampler, eta):
    path, rng, asked = levels("flow", 5), np.random.default_rng(0), []

    def denoise(x, i):
        asked.append(i)
        return perfect(path)(x, i)

    def draw():
        return rng.standard_normal(3)

    steps = list(samplers.walk(denoise, draw(), path, sampler, draw, eta, jumps=2))
    assert len(steps) == 5 and asked == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    np.testing.assert_allclose(*steps[-1], atol=1e-12)


def test_jumps_bring_what_is_drawn_to_agree_with_what_is_known():
    path, rng, known = levels("flow", 100), np.random.default_rng(0), 0.5
    covariance = np.float64([[1, 0.9], [0.9, 1]]) * SD**2

    def denoise(x, i):
        alpha, sigma = path[i]
        gain = alpha * covariance @ np.linalg.inv(alpha**2 * covariance + sigma**2 * np.eye(2))
        return np.stack([np.full(len(x), known), (x @ gain)[:, 1]], 1)

    def draw():
        return rng.standard_normal((4000, 2))

    means = []
    for jumps in (1, 4, 16):
        *_, (x, _) = samplers.walk(denoise, draw(), path, "ddpm", draw, jumps=jumps)
        assert np.all(x[:, 0] == known)
        means.append(x[:, 1].mean())
    assert means[0] < means[1] - 0.05 and means[1] < means[2] < 0.9 * known + 0.01
    assert means[2] == pytest.approx(0.9 * known, abs=0.02)


@pytest.mark.backend
@every_way
def test_tensors_walk_as_arrays_do(sampler, eta):
    path, noise = levels("cosine", 6), np.random.default_rng(0).standard_normal((30, 4, 3))

    def walk(convert):
        draw = map(convert, noise).__next__
        walked = samplers.walk(perfect(path), draw(), path, sampler, draw, eta, jumps=2)
        return [np.asarray(x) for x, _ in walked]

    tensors = walk(lambda x: keras.ops.convert_to_tensor(x, "float32"))
    assert tensors[0].dtype == np.float32
    np.testing.assert_allclose(tensors, walk(np.asarray), atol=1e-5)
