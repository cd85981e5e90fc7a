"""The loss is a bound on −log p(x) to the nat: against SciPy's densities, and PCA's likelihood."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numerics import ON_CPU, assert_same, gradients
from scipy import stats
from scipy.special import expit
from sklearn.decomposition import PCA

from genlib import UserError, data, runs, training
from genlib.data import checkpoints
from genlib.models import vae
from genlib.training.backend import keras

pytestmark = pytest.mark.backend
SIZES = {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 4}


def build(**options):
    return vae.build_vae(**SIZES | options)


def train(model, digits, epochs, batch_size=32, folder=None, resume=False):
    """Train on the digits. Returns the history, of a run in ``folder`` the run's."""
    model.compile(optimizer=keras.optimizers.Adam(5e-3))
    batches = training.Batches(digits.images, batch_size)
    if folder:
        run = runs.Run("04_vae", {"run_dir": str(folder), "resume": resume, "epochs": epochs})
        return training.fit(model, batches, run, epochs).history
    return model.fit(batches.stream(), shuffle=False, epochs=epochs, verbose=0).history


@pytest.fixture(scope="module")
def trained(digits):
    """A Bernoulli VAE after a few epochs on the digits."""
    model = build(width=16, warmup=500)
    train(model, digits, 14)
    return model


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def standard_error(values):
    return np.std(values) / np.sqrt(len(values))


# The terms of the loss


def test_the_kl_divergence_of_each_latent_is_the_integral_that_defines_it():
    mean, deviation = np.float32([[[0, -2, 1.5], [0.3, 4, 0]], [[0.1, 0.5, 3], [1, 2, 1]]])
    found = np.asarray(vae.kl_divergence(mean, 2 * np.log(deviation)))
    assert found.shape == (2, 3)
    for place, kl in np.ndenumerate(found):
        q, p = stats.norm(mean[place], deviation[place]), stats.norm()
        integral = q.expect(lambda z, q=q, p=p: q.logpdf(z) - p.logpdf(z))
        assert kl == pytest.approx(integral, rel=1e-4, abs=1e-6)


@given(st.floats(-50, 50), st.floats(-20, 20))
def test_the_kl_divergence_is_zero_for_the_prior_alone(mean, log_variance):
    found = float(vae.kl_divergence(np.float32(mean), np.float32(log_variance)))
    assert found >= -1e-6 and (found > 0 or max(abs(mean), abs(log_variance)) < 0.01)
    assert float(vae.kl_divergence(np.float32(0), np.float32(0))) == 0


def test_the_bernoulli_term_is_the_sum_of_the_pixels_log_probabilities():
    bits, logits = np.arange(120).reshape(5, 4, 3, 2) % 7 < 3, 3 * normal(0, 5, 4, 3, 2)
    expected = -stats.bernoulli.logpmf(bits, expit(logits)).sum((1, 2, 3))
    np.testing.assert_allclose(vae.bernoulli_nll(2.0 * bits - 1, logits), expected, rtol=1e-5)


def test_extreme_logits_cost_what_they_are_worth():
    x, logits = np.float32([[-1], [1], [1], [-1]]), np.float32([[-1e4], [1e4], [-1e4], [1e4]])
    np.testing.assert_array_equal(vae.bernoulli_nll(x, logits), [0, 0, 1e4, 1e4])


def test_the_gaussian_term_is_the_sum_of_the_pixels_log_densities():
    x, mean = normal(0, 2, 5, 4, 3, 2)
    expected = -stats.norm.logpdf(x, mean, np.exp(-1.5)).sum((1, 2, 3))
    np.testing.assert_allclose(vae.gaussian_nll(x, mean, np.float32(-1.5)), expected, rtol=1e-5)


# What the model observes


@pytest.mark.once
def test_a_pixel_is_one_as_often_as_it_is_bright(images):
    share, model = np.linspace(0, 1, 5), build()
    pixels = np.repeat(2 * share - 1, images.size // 5).reshape(images.shape)
    for x in (model.observe(pixels), np.asarray(model(pixels)[0])):  # to measure, to train
        assert set(np.unique(x)) == {-1, 1}
        ones = (x > 0).reshape(5, -1).mean(1)
        assert np.all(np.abs(ones - share) <= 4 * np.sqrt(share * (1 - share) / (x.size / 5)))
    ends = np.float32([0, np.nextafter(np.float32(1), np.float32(0))])  # of the random numbers
    for pixel in np.float32([-1, 1]):
        assert np.asarray(vae.binarise(pixel, ends)).tolist() == [pixel, pixel]


@pytest.mark.once
def test_what_is_observed_repeats_with_its_seed(images):
    model = build()
    models = [vae.VAE(model.encoder, model.decoder, seed=seed) for seed in (1, 1, 2)]
    measured = [model.observe(images, seed=seed) for seed in (1, 1, 2)]
    for first, second, third in (measured, [np.asarray(m(images)[0]) for m in models]):
        assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_training_binarises_anew_each_time_and_encodes_what_it_observes(images):
    model = build()
    (first, *_), (second, _, mean, _) = (map(np.asarray, model(images)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(mean, model.encode(second)[0], atol=1e-5)


def test_a_gaussian_likelihood_observes_the_images_themselves(images):
    model = build(likelihood="gaussian")
    for x in (model.observe(images), model(images)[0]):
        assert np.array_equal(np.asarray(x), images)


# The loss


def by_hand(y_pred):
    """−log p(x|z) (batch,) and the KL of each latent (batch, latent_dim), by SciPy and NumPy."""
    x, logits, mean, log_variance = map(np.asarray, y_pred)
    nll = -stats.bernoulli.logpmf((x + 1) / 2, expit(logits)).sum((1, 2, 3))
    return nll, (mean**2 + np.exp(log_variance) - log_variance - 1) / 2


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_the_negative_elbo_with_the_kl_weighted_by_beta(images, beta):
    model = build(beta=beta)
    y_pred = model(images)
    nll, kl = by_hand(y_pred)
    loss = (nll + beta * kl.sum(1)).mean()
    assert float(model.compute_loss(y_pred=y_pred)) == pytest.approx(loss, rel=1e-5)
    expected = {"loss": loss, "reconstruction": nll.mean(), "kl": kl.sum(1).mean()}
    assert {m.name: float(m.result()) for m in model.metrics} == pytest.approx(expected, rel=1e-5)


@pytest.mark.once
def test_free_bits_are_paid_by_each_latent_that_uses_fewer(images):
    x, logits, *_ = build()(images[:320])
    mean = np.tile(np.float32([[0, 0.5, 0, 3], [0, 0.5, 2, 3]]), (160, 1))
    y_pred = x, logits, mean, np.zeros_like(mean)  # in the mean a KL of 0, 1/8, 1 and 9/2 nats
    paid = by_hand(y_pred)[0].mean() + 0.5 + 0.5 + 1 + 4.5
    loss = build(free_bits=0.5).compute_loss(y_pred=y_pred)
    assert float(loss) == pytest.approx(paid, rel=1e-5)


def pull(model, images, weights):
    return gradients(lambda: model.compute_loss(y_pred=model(images)), weights)


@pytest.mark.once
def test_a_free_kl_pulls_at_no_weight(images):
    models = build(beta=0.0), build(free_bits=100.0), build()
    without, free, paid = (pull(m, images, m.encoder.trainable_variables) for m in models)
    for one, other in zip(without, free, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    for one, other in zip(without[-4:], paid[-4:], strict=True):  # the two heads
        assert abs(one - other).max() > 1e-3


@pytest.mark.parametrize("likelihood", vae.LIKELIHOODS)
def test_the_networks_train_and_the_scale_if_the_likelihood_has_one(images, likelihood):
    model = build(likelihood=likelihood)
    weights = [*model.encoder.weights, *model.decoder.weights]
    weights += [model.log_scale] if likelihood == "gaussian" else []
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in weights}
    for variable, gradient in zip(weights, pull(model, images, weights), strict=True):
        assert abs(gradient).max() > 1e-4, variable.path


@pytest.mark.once
def test_the_weight_of_the_kl_warms_up_to_beta_in_training_alone(images):
    model = build(beta=2.0, warmup=4)
    y_pred = model(images)
    nll, kl = by_hand(y_pred)
    losses = np.array([float(model.compute_loss(y_pred=y_pred)) for _ in range(7)])
    weights = (losses - nll.mean()) / kl.sum(1).mean()
    np.testing.assert_allclose(weights, [0, 0.5, 1, 1.5, 2, 2, 2], atol=1e-3)
    model.updates.assign(0)
    model.compile()
    shown = model.evaluate(images, return_dict=True, verbose=0)
    assert shown["loss"] == pytest.approx(shown["reconstruction"] + 2 * shown["kl"], rel=1e-5)


# A linear VAE is probabilistic PCA (Tipping & Bishop 1999; Lucas et al. 2019), whose likelihood is
# known, and whose posterior is N(M⁻¹Wᵀ(x − μ), σ²M⁻¹) with M = WᵀW + σ²I.


@pytest.fixture(scope="module")
def cloud():
    return 1 + normal(0, 3000, 2) @ normal(1, 2, 6) + 0.5 * normal(2, 3000, 6)


@pytest.fixture(scope="module")
def pca(cloud):
    return PCA(2).fit(cloud)


@pytest.fixture
def linear():
    keras.utils.set_random_seed(0)
    x, z = keras.Input((6,)), keras.Input((2,))
    heads = [keras.layers.Dense(2, name=name)(x) for name in ("mean", "log_variance")]
    decoder = keras.Model(z, keras.layers.Dense(6)(z))
    return vae.VAE(keras.Model(x, heads), decoder, likelihood="gaussian")


@pytest.fixture
def solved(linear, pca):
    """The linear VAE with the weights that PCA finds; M is diagonal."""
    noise, m = pca.noise_variance_, pca.explained_variance_
    w = pca.components_.T * np.sqrt(m - noise)  # (6, 2)
    linear.encoder.get_layer("mean").set_weights([w / m, -pca.mean_ @ w / m])
    linear.encoder.get_layer("log_variance").set_weights([np.zeros((6, 2)), np.log(noise / m)])
    linear.decoder.set_weights([w.T, pca.mean_])
    linear.log_scale.assign(np.log(noise) / 2)
    return linear


@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.once
def test_with_the_exact_posterior_the_bound_is_the_likelihood_of_each_point(solved, pca, cloud, k):
    found = solved.log_likelihood(cloud, k=k)
    tolerance = 1e-3 if ON_CPU else 0.1  # a GPU may multiply in fewer bits
    np.testing.assert_allclose(found, pca.score_samples(cloud), atol=tolerance)


@pytest.mark.once
def test_with_the_exact_posterior_the_elbo_is_the_likelihood_in_the_mean(solved, pca, cloud):
    nll, kl = solved.elbo_terms(cloud)
    x, mean, *heads = solved(cloud)  # as in training
    trained_on = solved.nll(x, mean), vae.kl_divergence(*heads)
    for first, second in ((nll, kl), map(np.asarray, trained_on)):
        assert first.shape == (3000,) and second.shape == (3000, 2)
        gap = pca.score_samples(cloud) + first + second.sum(1)
        assert abs(gap.mean()) < 4 * standard_error(gap) < 0.1


@pytest.mark.once
def test_with_too_wide_a_posterior_many_samples_close_the_gap(solved, pca, cloud):
    head = solved.encoder.get_layer("log_variance")
    head.set_weights([np.zeros((6, 2)), head.get_weights()[1] + 1])
    nll, kl = solved.elbo_terms(cloud)
    gap = pca.score_samples(cloud) + nll + kl.sum(1)
    # Each of two latents has a KL of ½(e − 1 − 1) to its true posterior.
    assert abs(gap.mean() - (np.e - 2)) < 4 * standard_error(gap)
    found = solved.log_likelihood(cloud[:20], k=2000)
    np.testing.assert_allclose(found, pca.score_samples(cloud[:20]), atol=0.15)


@pytest.mark.once
def test_training_a_linear_vae_finds_the_likelihood_of_pca(linear, pca, cloud):
    rate = keras.optimizers.schedules.CosineDecay(0.1, 1800)
    linear.compile(optimizer=keras.optimizers.Adam(rate))
    linear.fit(cloud, batch_size=50, epochs=30, verbose=0)
    nll, kl = linear.elbo_terms(cloud)
    gap = pca.score_samples(cloud) + nll + kl.sum(1)  # no linear model is likelier than PCA's
    assert -4 * standard_error(gap) < gap.mean() < 0.1
    assert float(linear.log_scale) == pytest.approx(np.log(pca.noise_variance_) / 2, abs=0.05)


# Learning


def test_training_explains_unseen_digits_better_than_independent_pixels_do(trained, digits, images):
    ones = np.clip(digits.images.mean(0) / 255, 1e-3, 1 - 1e-3)
    alone = stats.bernoulli.logpmf(trained.observe(images) > 0, ones).sum((1, 2, 3))
    nll, kl = trained.elbo_terms(images)
    assert np.mean(-nll - kl.sum(1)) > alone.mean() + 1.5
    drawn, real = trained.reconstruct(images), data.to_unit(images)
    of_others = np.mean((drawn - np.roll(real, 1, axis=0)) ** 2)
    assert np.mean((drawn - real) ** 2) < of_others / 2


@pytest.mark.once
def test_training_with_a_gaussian_likelihood_beats_one_gaussian_for_all_images(digits):
    real = data.to_model(digits.images)
    alone = 32 * (np.log(2 * np.pi * np.mean((real - real.mean(0)) ** 2)) + 1)  # −E log p
    history = train(build(likelihood="gaussian", width=16), digits, 10)
    assert history["loss"][-1] < alone - 8


@pytest.mark.once
def test_more_samples_raise_the_bound_and_one_gives_the_elbo(trained, images):
    nll, kl = trained.elbo_terms(images[:320])
    one, few, many = (trained.log_likelihood(images[:320], k=k) for k in (1, 5, 50))
    same = one + nll + kl.sum(1)
    assert abs(same.mean()) < 4 * standard_error(same) < 1
    for less, more in ((one, few), (few, many)):
        assert np.mean(more - less) > 2 * standard_error(more - less)


def test_a_killed_run_that_resumes_ends_with_the_weights_of_one_that_was_not(tmp_path, digits):
    straight, killed, resumed = (build(warmup=10) for _ in range(3))
    few, size = digits.take(256), 64
    history = train(straight, few, 4, size, tmp_path / "straight")
    train(killed, few, 2, size, tmp_path / "killed")  # within the warm-up
    continued = train(resumed, few, 4, size, tmp_path / "killed", resume=True)
    assert [float(m.updates) for m in (straight, killed, resumed)] == [16, 8, 16]
    names = ("epoch", "loss", "reconstruction", "kl")
    assert_same(straight, resumed, (history, continued), names)


# Generating


@pytest.mark.once
@pytest.mark.parametrize("likelihood", vae.LIKELIHOODS)
def test_what_is_drawn_are_float_images_from_0_to_1(images, likelihood):
    model = build(likelihood=likelihood)
    model.decoder.set_weights([3 * w for w in model.decoder.get_weights()])  # beyond [-1, 1]
    for drawn, n in ((model.generate(7), 7), (model.reconstruct(images[:5]), 5)):
        assert drawn.shape == (n, 8, 8, 1) and drawn.dtype == np.float32
        assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.std() > 0


def test_generate_repeats_with_its_seed_and_differs_with_another():
    first, second, third = (build().generate(4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.allclose(first, third)


@pytest.mark.once
def test_generate_draws_the_latents_that_it_is_given_in_any_number():
    model, z = build(), normal(0, 600, 4)
    mean = expit(np.asarray(model.decoder(z)))
    np.testing.assert_allclose(model.generate(latents=z, pixels="mean"), mean, atol=1e-5)
    likelier = model.generate(latents=z)
    assert set(np.unique(likelier)) == {0, 1} and abs(likelier - mean).max() < 0.5 + 1e-5
    model = build(likelihood="gaussian")
    assert np.array_equal(model.decode(z, pixels="mean"), model.decode(z, pixels="mode"))


@pytest.mark.once
def test_draws_are_samples_of_the_pixels_distribution_and_repeat_with_their_seed():
    z = np.repeat(normal(0, 1, 4), 3000, axis=0)
    model, other = build(), build(likelihood="gaussian")
    other.log_scale.assign(-2)
    for vae_, deviation in ((model, None), (other, np.exp(-2) / 2)):
        mean, drawn = vae_.decode(z[:1])[0], vae_.decode(z, "draw")
        expected = np.sqrt(mean * (1 - mean)) if deviation is None else deviation
        assert np.abs(drawn.mean(0) - mean).max() < 5 * np.max(expected) / np.sqrt(len(z))
        np.testing.assert_allclose(drawn.std(0), expected * np.ones_like(mean), rtol=0.1)
    assert set(np.unique(model.decode(z, "draw"))) == {0, 1}
    first, second, third = (model.generate(9, seed=seed, pixels="draw") for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_the_temperature_scales_the_latents(trained):
    latents = np.random.default_rng(0).standard_normal((3, 4), "float32")
    warm, cold = (trained.generate(3, temperature=t, pixels="mean") for t in (0.5, 0))
    np.testing.assert_allclose(warm, trained.decode(latents / 2), atol=1e-6)
    assert not np.allclose(warm[0], warm[1]) and all(np.array_equal(cold[0], c) for c in cold)


# Refusing


@pytest.mark.parametrize("method", ["fit", "encode", "log_likelihood", "elbo_terms"])
def test_images_out_of_range_are_refused(digits, images, method):
    dark = images[:9] < 0
    for bad, words in (
        (digits.images[:9], r"from 0 to 255; .*\[-1, 1\], as data\.to_model gives\.$"),
        (1.01 * images[:9], r"from -1\.01 to 1\.01"),
        (np.where(dark, np.nan, images[:9]), "NaN or infinite"),
        (np.where(dark, -np.inf, images[:9]), "NaN or infinite"),
    ):
        with pytest.raises(UserError, match=words):
            getattr(build(), method)(bad)


def test_a_gaussian_likelihood_takes_any_finite_values(images):
    model = build(likelihood="gaussian")
    assert all(np.isfinite(head).all() for head in model.encode(300 * images))
    with pytest.raises(UserError, match="NaN or infinite"):
        model.fit(np.inf * images[:9])


def test_an_unknown_option_names_those_there_are():
    with pytest.raises(UserError, match=r"one of bernoulli, gaussian\. Did you mean 'bernoulli'\?"):
        build(likelihood="bernouli")
    with pytest.raises(UserError, match=r"pixels='mod' .*one of mean, mode, draw"):
        build().generate(1, pixels="mod")


@pytest.mark.parametrize("shape, words", [((30, 28, 1), "30×28.*32"), ((4, 4, 1), "image_size=8")])
def test_images_that_two_doublings_cannot_draw_are_refused(shape, words):
    with pytest.raises(UserError, match=words):
        vae.build_vae(shape)


# Building and keeping


@pytest.mark.once
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 12, 3)])
def test_the_networks_fit_the_images(shape):
    model = vae.build_vae(shape, 5, 4)
    assert model.decoder.output_shape == (None, *shape) == model.encoder.input_shape
    assert model.encoder.output_shape == [(None, 5), (None, 5)] and model.latent_dim == 5


def test_the_first_weights_are_a_function_of_the_seed():
    one, two, three = (build(seed=seed).generate(2) for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.allclose(one, three)


def test_a_saved_model_measures_and_draws_the_same_and_keeps_its_options(tmp_path, images):
    options = {"likelihood": "gaussian", "beta": 2.0, "free_bits": 0.1, "warmup": 7, "seed": 5}
    model = build(**options)
    model.log_scale.assign(-0.7)
    model.updates.assign(3.0)
    model.save(tmp_path / "vae.keras")
    loaded = keras.models.load_model(tmp_path / "vae.keras")
    assert {name: getattr(loaded, name) for name in options} == options
    assert np.array_equal(loaded.generate(4), model.generate(4))
    assert np.array_equal(loaded.log_likelihood(images[:9]), model.log_likelihood(images[:9]))
    y_pred = model(images)  # its loss depends on beta, free bits, and how far the warm-up is
    assert float(loaded.compute_loss(y_pred=y_pred)) == float(model.compute_loss(y_pred=y_pred))


def test_a_published_vae_loads_and_draws_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    model = build(likelihood="gaussian")
    model.log_scale.assign(-0.7)
    checkpoints.publish(model, "vae_toy", parameters=SIZES | {"likelihood": "gaussian"})
    loaded = vae.load_vae("vae_toy", (8, 8, 1))
    assert np.array_equal(loaded.generate(3), model.generate(3))
    assert float(loaded.log_scale) == float(model.log_scale)
    with pytest.raises(UserError, match="draws images of"):
        vae.load_vae("vae_toy", (28, 28, 1))
