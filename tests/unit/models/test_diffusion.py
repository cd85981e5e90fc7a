"""One model learns to take noise out; what it draws follows from that.

Networks whose answer is known stand in for trained ones wherever the promise is exact.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numerics import assert_same
from scipy import stats
from scipy.special import logit
from sklearn.neighbors import KNeighborsClassifier

from genlib import UserError, data, metrics, runs, training
from genlib.data import checkpoints
from genlib.models import diffusion, samplers, unet
from genlib.training.backend import compiled, keras

pytestmark = pytest.mark.backend
layers, ops = keras.layers, keras.ops
SHAPE = (8, 8, 1)
PATHS = [(s, p) for s in samplers.SCHEDULES for p in samplers.PREDICTIONS]
COSINE = {"schedule": "cosine", "prediction": "v", "density": "uniform"}
PATHS.remove(("flow", "noise"))  # refused
every_path = pytest.mark.parametrize("schedule, prediction", PATHS)
every_density = pytest.mark.parametrize("density", diffusion.DENSITIES)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def inputs(shape, num_classes):
    label = [keras.Input((), dtype="int32")] if num_classes else []
    return [keras.Input(shape), keras.Input(()), *label]


def everywhere(number):
    """(batch,) → (batch, 1, 1, 1), to be added to images."""
    return ops.reshape(ops.cast(number, "float32"), (-1, 1, 1, 1))


def toy(shape=SHAPE, num_classes=0, **options):
    """A diffusion model with a small network, whose answers are not zero."""
    keras.utils.set_random_seed(0)
    image, time, *label = told = inputs(shape, num_classes)
    x = layers.Conv2D(8, 3, padding="same")(image)
    x += layers.Dense(8)(layers.Reshape((1, 1, 1))(time))
    for each in label:
        x += layers.Reshape((1, 1, 8))(layers.Embedding(num_classes + 1, 8)(each))
    output = layers.Conv2D(shape[-1], 3, padding="same")(ops.tanh(x))
    network = keras.Model(told, output)
    return diffusion.DiffusionModel(network, num_classes=num_classes, **options)


def echo(num_classes=0, **options):
    """A diffusion model whose network answers with the label that it is told, or with the time."""
    told = inputs((2, 2, 1), num_classes)
    network = keras.Model(told, everywhere(told[-1]) + 0.0 * told[0])
    return diffusion.DiffusionModel(network, num_classes=num_classes, **options)


@pytest.fixture(scope="module")
def plain():
    return toy()


@pytest.fixture(scope="module")
def told():
    return toy(num_classes=10)


def train(model, digits, epochs, folder=None, resume=False, batch_size=32):
    """Train on the digits. Returns the history, of a run in ``folder`` the run's."""
    model.compile(optimizer=training.Muon(1e-2))
    labels = digits.labels if model.num_classes else None
    batches = training.Batches(digits.images, batch_size, labels=labels)
    if folder:
        run = runs.Run("06_diffusion", {"run_dir": str(folder), "resume": resume})
        return training.fit(model, batches, run, epochs).history
    return model.fit(batches.stream(), shuffle=False, epochs=epochs, verbose=0).history


def build(num_classes=10, **options):
    network = {"width": 16, "patch": 1, "levels": 1}
    return diffusion.build_diffusion(SHAPE, num_classes, network=network, **options)


@pytest.fixture(scope="module")
def taught(digits):
    """A class-conditional model after a few epochs on the digits, and the losses on the way."""
    model = build()
    return model, train(model, digits, 8)["loss"]


@pytest.fixture(scope="module")
def trained(taught):
    return taught[0]


# What training draws


def rates(model):
    """α, σ, a and b by timestep, each (T + 1,), from the formulas."""
    alpha, sigma = samplers.SCHEDULES[model.schedule](model.timesteps)
    return alpha, sigma, *samplers.target_weights(model.prediction, alpha, sigma)


def timesteps(model, time):
    t = np.asarray(time) * model.timesteps
    np.testing.assert_allclose(t, t.round(), rtol=1e-6)
    return t.round().astype(int)


@pytest.mark.once
@every_path
def test_training_mixes_in_the_noise_that_the_target_is_made_of(schedule, prediction):
    model = echo(schedule=schedule, prediction=prediction, timesteps=50)
    images = np.random.default_rng(0).uniform(-1, 1, (2000, 2, 2, 1)).astype("float32")
    noisy, time, target = map(np.asarray, model(images))
    assert noisy.shape == target.shape == images.shape and time.shape == (2000,)
    alpha, sigma, a, b = (r[timesteps(model, time), None, None, None] for r in rates(model))
    noise = (noisy - alpha * images) / sigma
    np.testing.assert_allclose(target, a * noise + b * images, atol=1e-4)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise.reshape(-1, 4).T) - np.eye(4)).max() < 0.1


@pytest.mark.once
def test_training_draws_anew_each_time_and_repeats_with_its_seed():
    images = np.zeros((9, 2, 2, 1), "float32")
    models = [echo(seed=seed) for seed in (1, 1, 2)]
    one, two, three = ([np.asarray(v) for v in model(images)] for model in models)
    assert all(map(np.array_equal, one, two))
    for other in (three, [np.asarray(v) for v in models[0](images)]):
        assert not any(map(np.array_equal, one, other))


@every_density
@pytest.mark.parametrize("count", [2, 7])
def test_training_covers_the_timesteps_from_1_to_the_last(density, count):
    model = echo(density=density, timesteps=count)
    _, time, _ = model(np.zeros((1000, 2, 2, 1), "float32"))
    assert set(timesteps(model, time)) == set(range(1, count + 1))


def test_a_batch_spreads_evenly_over_the_timesteps_at_random_within_each_share():
    model = echo(density="uniform", timesteps=100_000)
    _, time, _ = model(np.zeros((1000, 2, 2, 1), "float32"))
    within = (timesteps(model, time) - 0.5) / 100 - np.arange(1000)
    assert stats.kstest(within, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(within[1:], within[:-1])[0, 1]) < 0.1


def test_a_single_image_meets_all_timesteps_alike():
    model = echo(density="uniform", timesteps=4)
    image = np.zeros((1, 2, 2, 1), "float32")
    found = [timesteps(model, model(image)[1])[0] for _ in range(200)]
    assert stats.chisquare(np.bincount(found, minlength=5)[1:]).pvalue > 0.01


def test_the_logit_normal_density_trains_on_the_middle_more_often():
    model = echo(density="logit_normal", timesteps=100_000)
    _, time, _ = model(np.zeros((2000, 2, 2, 1), "float32"))
    found = stats.norm.cdf(logit((timesteps(model, time) - 0.5) / 100_000))
    np.testing.assert_allclose(found, (np.arange(2000) + 0.5) / 2000, atol=1e-3)


@pytest.mark.once
def test_the_mixed_density_leaves_a_tenth_of_the_times_uniform():
    model = echo(density="mixed", timesteps=1000)
    image = np.zeros((20_000, 2, 2, 1), "float32")
    found = timesteps(model, model(image)[1])
    edges = np.array([0, 20, 100, 500, 900, 980, 1000])
    middle = np.diff(stats.norm.cdf(logit(edges / 1000)))
    expected = 20_000 * (0.1 * np.diff(edges) / 1000 + 0.9 * middle)
    counts = np.histogram(found, edges + 0.5)[0]
    assert np.all(abs(counts - expected) < 4 * np.sqrt(expected))


# The loss


@every_path
def test_the_loss_is_the_mean_squared_error_of_the_prediction(images, schedule, prediction):
    model = echo(schedule=schedule, prediction=prediction)
    _, time, target = y_pred = model(images[:64, :2, :2])
    answer = np.asarray(time)[:, None, None, None]
    loss = np.mean((answer - np.asarray(target)) ** 2)
    assert float(model.compute_loss(y_pred=y_pred)) == pytest.approx(loss, rel=1e-5)
    assert {m.name: float(m.result()) for m in model.metrics} == pytest.approx({"loss": loss})


def answers(model, labels):
    """The mean square of what the network, an echo, is told in place of ``labels``."""
    nothing = ops.zeros((len(labels), 2, 2, 1))
    y_pred = nothing, ops.full((len(labels),), 0.5), nothing
    return float(model.compute_loss(y=labels, y_pred=y_pred))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_training_hides_the_stated_share_of_the_labels(share):
    n, model = 20_000, echo(num_classes=1, label_dropout=share)
    hidden = answers(model, np.zeros(n, "int32"))  # each a 1, which means "not told"
    assert abs(hidden - share) <= 4 * np.sqrt(share * (1 - share) / n)


def test_labels_that_are_not_hidden_reach_the_network_as_they_are():
    labels = np.arange(40, dtype="int32") % 10
    assert answers(echo(10, label_dropout=0.0), labels) == pytest.approx(np.mean(labels**2.0))
    assert answers(echo(10, label_dropout=1.0), labels) == pytest.approx(100)


# The average


def test_a_step_of_training_moves_the_average_towards_the_network(images):
    model = toy()
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    model.train_on_batch(images[:32])
    slow, fast = model.average.get_weights(), model.network.get_weights()
    model.train_on_batch(images[:32])
    kept = 3 / 12  # at the second step
    for now, old, new in zip(model.average.get_weights(), slow, fast, strict=True):
        assert abs(old - new).max() > 1e-4
        np.testing.assert_allclose(now, kept * old + (1 - kept) * new, rtol=1e-4, atol=1e-6)


def shaken(network):
    """Move the weights of a network; returns them as they were."""
    before = network.get_weights()
    network.set_weights([w + normal(i, *w.shape) for i, w in enumerate(before)])
    return before


@pytest.mark.once
@pytest.mark.parametrize("ema", [0.5, 0.9])
def test_the_average_keeps_no_more_than_its_decay(images, ema):
    model = toy(ema=ema)
    slow = shaken(model.network)
    model.updates.assign(1000.0)
    model.compute_loss(y_pred=model(images[:32]))
    moved = zip(model.average.get_weights(), slow, model.network.get_weights(), strict=True)
    for now, old, new in moved:
        np.testing.assert_allclose(now, ema * old + (1 - ema) * new, rtol=1e-4, atol=1e-6)


def test_to_evaluate_changes_no_weight(images):
    model = toy()
    shaken(model.network)
    model.compile()
    before = [*model.network.get_weights(), *model.average.get_weights(), model.updates.numpy()]
    loss = model.evaluate(images[:64], verbose=0)
    after = [*model.network.get_weights(), *model.average.get_weights(), model.updates.numpy()]
    assert loss > 0 and all(map(np.array_equal, before, after))


def test_the_network_trains_and_nothing_else(told):
    found = {id(v) for v in told.trainable_variables}
    assert found == {id(v) for v in told.network.trainable_variables}


# Drawing, with the best network there is


def perfect(schedule, prediction, mean=0.2, sd=0.2):
    """A diffusion model whose network knows that each pixel is N(mean, sd²), and answers best."""
    image, time = told = inputs(SHAPE, 0)
    table = layers.Embedding(1001, 4)
    found = ops.reshape(table(ops.cast(1000 * time + 0.5, "int32")), (-1, 1, 1, 4))
    alpha, sigma, a, b = (found[..., i : i + 1] for i in range(4))
    off = (image - alpha * mean) / ((alpha * sd) ** 2 + sigma**2)
    network = keras.Model(told, a * sigma * off + b * (mean + alpha * sd**2 * off))
    options = {"schedule": schedule, "prediction": prediction}
    table.set_weights([np.stack(rates(diffusion.DiffusionModel(network, **options)), 1)])
    return diffusion.DiffusionModel(network, **options)


@every_path
def test_with_the_best_network_what_is_drawn_has_the_law_of_the_data(schedule, prediction):
    drawn = perfect(schedule, prediction).generate(150, steps=60).ravel()
    assert stats.kstest(drawn, stats.norm(0.6, 0.1).cdf).pvalue > 0.01


@pytest.mark.parametrize("controls", [{"sampler": "ddpm"}, {"sampler": "ddim", "eta": 0.5}])
def test_the_samplers_with_fresh_noise_draw_it_too(controls):
    drawn = perfect("flow", "flow").generate(150, steps=1000, **controls).ravel()
    assert stats.kstest(drawn, stats.norm(0.6, 0.1).cdf).pvalue > 0.01


# Guidance


def by_hand(model, x, labels, t, scale):
    """The estimate of x₀ at timestep t, from the averaged network's own answers."""
    alpha, sigma, a, b = (float(r[t]) for r in rates(model))
    time = np.full(len(x), t / model.timesteps, "float32")
    nobody = np.full(len(x), model.num_classes)
    yes, no = (np.asarray(model.average([x, time, each])) for each in (labels, nobody))
    x0 = samplers.estimate_image(x, no + scale * (yes - no), alpha, sigma, a, b)
    return np.clip(x0, -1, 1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guidance_goes_on_from_the_untold_answer_through_the_told_one(told, scale):
    x, labels, t = normal(0, 6, *SHAPE), np.arange(6, dtype="int32"), 700
    numbers = [float(r[t]) for r in rates(told)]
    found = told.estimator(guided=True)(x, labels, *numbers, t / 1000, scale)
    np.testing.assert_allclose(found, by_hand(told, x, labels, t, scale), atol=1e-5)


@pytest.mark.parametrize("scale", [0, 1, 3.0])
def test_each_scale_of_guidance_draws_what_its_formula_says(told, scale):
    latents, labels = normal(0, 6, *SHAPE), np.arange(6, dtype="int32")
    expected = data.to_unit(by_hand(told, latents, labels, 1000, scale))
    drawn = told.generate(latents=latents, labels=labels, guidance_scale=scale, steps=1)
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    others = told.generate(latents=latents, labels=labels + 1, guidance_scale=scale, steps=1)
    assert np.array_equal(drawn, others) == (scale == 0)


def test_labels_are_one_for_all_or_one_for_each_or_not_told(told):
    latents = normal(0, 4, *SHAPE)
    one = told.generate(latents=latents, labels=3)
    assert np.array_equal(one, told.generate(latents=latents, labels=[3, 3, 3, 3]))
    untold = told.generate(latents=latents)
    ignored = told.generate(latents=latents, labels=3, guidance_scale=0)
    assert np.array_equal(untold, ignored) and not np.allclose(untold, one)


# Generating


def test_what_is_drawn_are_float_images_from_0_to_1(plain):
    images = plain.generate(7)
    assert images.shape == (7, *SHAPE) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_generate_repeats_with_its_seed_and_differs_with_another(plain, sampler):
    draws = [plain.generate(4, seed=seed, sampler=sampler, steps=5) for seed in (1, 1, 2)]
    assert np.array_equal(*draws[:2]) and not np.allclose(draws[0], draws[2])


@pytest.mark.parametrize("sampler, eta", [("ddpm", 0), ("ddim", 0.5), ("dpm", 1)])
def test_the_fresh_noise_is_a_function_of_the_seed_and_each_image_has_its_own(plain, sampler, eta):
    latents = np.repeat(normal(0, 1, *SHAPE), 260, axis=0)  # more than a batch
    controls = {"latents": latents, "sampler": sampler, "eta": eta, "steps": 5}
    draws = [plain.generate(seed=seed, **controls) for seed in (1, 1, 2)]
    assert np.array_equal(*draws[:2]) and not np.allclose(draws[0], draws[2])
    assert len(np.unique(draws[0].reshape(260, -1), axis=0)) == 260


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_without_fresh_noise_the_latents_decide_alone(plain, sampler):
    latents = normal(0, 4, *SHAPE)
    draws = [plain.generate(latents=latents, sampler=sampler, seed=seed) for seed in (1, 2)]
    assert np.array_equal(*draws)


def test_generate_draws_the_latents_that_it_is_given_in_any_number(plain):
    latents = normal(0, 520, *SHAPE)
    images = plain.generate(latents=latents)
    assert images.shape == latents.shape
    np.testing.assert_allclose(plain.generate(latents=latents[-4:]), images[-4:], atol=1e-5)


def test_generate_uses_the_averaged_weights_unless_told_not_to():
    model = toy()
    for changed, kept in (("network", True), ("average", False)):
        before = [model.generate(4, average=average) for average in (kept, not kept)]
        network = getattr(model, changed)
        network.set_weights([0.5 * w for w in network.get_weights()])
        after = [model.generate(4, average=average) for average in (kept, not kept)]
        assert np.array_equal(before[0], after[0]) and not np.allclose(before[1], after[1])


def test_the_trajectory_shows_each_step_on_the_way_to_what_is_generated(told):
    latents, controls = normal(0, 4, *SHAPE), {"labels": 3, "steps": 6, "guidance_scale": 2.0}
    path = [list(map(np.asarray, each)) for each in told.trajectory(latents, **controls)]
    assert len(path) == 6 and all(abs(x0).max() <= 1 for _, x0 in path)
    drawn = told.generate(latents=latents, **controls)
    np.testing.assert_allclose(data.to_unit(path[-1][0]), drawn, atol=1e-6)


@pytest.fixture(scope="module")
def asked():
    """Diffusion models by T, and the list of (timestep, α) that their estimators are asked for."""
    calls = []

    def estimator(average=True, guided=False):
        def estimate(x, labels, alpha, sigma, a, b, time, scale):
            calls.append((time, alpha))
            return 0.0 * x

        return estimate

    models = {count: echo(timesteps=count) for count in (2, 3, 60)}
    for model in models.values():
        model.estimator = estimator
    return models, calls


@given(st.sampled_from([2, 3, 60]).flatmap(lambda t: st.tuples(st.just(t), st.integers(1, t))))
def test_sampling_takes_any_number_of_steps_from_the_last_time_down(asked, case):
    (models, calls), (count, steps) = asked, case
    calls.clear()
    models[count].generate(1, steps=steps)
    times = np.round([count * time for time, _ in calls]).astype(int)
    assert len(times) == steps and times[0] == count and times[-1] >= 1
    assert np.all(np.diff(times) < 0) and np.ptp(np.diff([*times, 0])) <= 1
    np.testing.assert_allclose([alpha for _, alpha in calls], 1 - times / count)


def test_the_network_is_compiled_once_whatever_is_asked(monkeypatch):
    traced = []

    def estimate(*arguments):
        traced.append(1)
        return samplers.estimate_image(*arguments)

    monkeypatch.setattr(diffusion, "estimate_image", estimate)
    model, latents = toy(num_classes=10), normal(0, 4, *SHAPE)
    model.generate(latents=latents)
    first = model.estimators[True, False]
    for controls in ({"steps": 7}, {"sampler": "ddim", "eta": 0.5}, {"labels": 3}, {"seed": 2}):
        model.generate(latents=latents, **controls)
    model.average.set_weights([2 * w for w in model.average.get_weights()])
    model.set_path("cosine", "v")
    model.generate(latents=latents)
    assert len(traced) == 1 and model.estimators == {(True, False): first}
    for scale in (2.0, 3.0):
        model.generate(latents=latents, labels=3, guidance_scale=scale)
    assert len(traced) == 2
    if keras.backend.backend() == "tensorflow":  # JAX compiles for each number of images
        model.generate(3)
        assert len(traced) == 2 and first.experimental_get_tracing_count() == 1


def test_a_compiled_function_reads_its_variables_anew_at_each_call():
    weight, traced = keras.Variable(np.float32(2)), []

    def function(x, scale):
        traced.append(1)
        return scale * x * weight

    quick = compiled(function, [weight], [((None, 2), "float32"), ((), "float32")])
    x = normal(0, 3, 2)
    for value, scale in ((2.0, 1.0), (5.0, 1.0), (5.0, -3.0)):
        weight.assign(value)
        np.testing.assert_allclose(quick(x, scale), scale * value * x, rtol=1e-6)
    assert len(traced) == 1


@pytest.mark.parametrize("jumps", [1, 4])
def test_each_estimate_is_corrected_and_each_step_walked_as_often_as_asked(jumps):
    model, corrected = toy(), []

    def project(rows):
        values = np.linspace(-1, 1, 300, dtype="float32")[rows, None, None, None]
        return lambda x0: corrected.append(len(values)) or 0.0 * x0 + values

    drawn = model.generate(300, steps=3, sampler="ddpm", project=project, jumps=jumps)
    assert corrected == 2 * 3 * jumps * [150]  # in two batches
    expected = np.broadcast_to(np.linspace(0, 1, 300)[:, None, None, None], drawn.shape)
    np.testing.assert_allclose(drawn, expected, atol=1e-5)


# Learning


@pytest.mark.parametrize("options, bound", [({}, 1.0), (COSINE, 0.6)])
def test_training_takes_noise_out_of_digits(digits, options, bound):
    losses = train(toy(**options), digits, 8)["loss"]  # 360 steps
    assert losses[-1] < bound < losses[0]


def moments(images):
    flat = images.reshape(len(images), -1)
    return flat.mean(0), np.cov(flat.T)


def test_training_draws_better_than_one_who_always_draws_the_mean_digit(trained, digits):
    mean, covariance = moments(np.float32(digits.test_images) / 255)
    drawn = moments(trained.generate(200))
    assert metrics.frechet_distance(mean, covariance, *drawn) < np.trace(covariance) / 3


def test_training_with_labels_draws_the_digit_that_is_asked_for(taught, digits):
    trained, losses = taught
    assert losses[-1] < 0.55  # after 360 steps
    judge = KNeighborsClassifier(3).fit(digits.images.reshape(-1, 64) / 255, digits.labels)
    labels, shares = np.arange(200) % 10, []
    for scale in (0, 1, 3.0):
        drawn = trained.generate(200, labels=labels, guidance_scale=scale)
        shares.append(np.mean(judge.predict(drawn.reshape(-1, 64)) == labels))
    assert shares[0] < 0.25 and shares[1] > 0.5 and shares[2] > 0.8


def test_a_killed_run_that_resumes_ends_with_the_weights_of_one_that_was_not(tmp_path, digits):
    straight, killed, resumed = (toy(num_classes=10) for _ in range(3))
    few, size = digits.take(256), 64
    history = train(straight, few, 4, tmp_path / "straight", batch_size=size)
    train(killed, few, 2, tmp_path / "killed", batch_size=size)
    continued = train(resumed, few, 4, tmp_path / "killed", resume=True, batch_size=size)
    assert [float(m.updates) for m in (straight, killed, resumed)] == [16, 8, 16]
    assert_same(straight, resumed, (history, continued))
    assert not np.allclose(killed.generate(3), resumed.generate(3))


# Refusing


@pytest.mark.parametrize(
    "controls, words",
    [
        ({"steps": 0}, "steps=0 .*from 1 to 1000"),
        ({"steps": 1001}, "steps=1001 .*from 1 to 1000"),
        ({"steps": 2.5}, r"steps=2\.5 .*whole number"),
        ({"steps": 2.0}, r"steps=2\.0 .*whole number"),
        ({"n": 0}, "n=0 .*from 1 up"),
        ({"n": None}, "n=None .*whole number"),
        ({"latents": np.zeros((3, 8, 8))}, r"\(3, 8, 8\); .*\(3, 8, 8, 1\)"),
        ({"jumps": 0}, "jumps=0 .*whole number from 1"),
        ({"jumps": 1.5}, r"jumps=1\.5"),
        ({"sampler": "dimm"}, "sampler='dimm' .*ddpm, ddim, dpm.* Did you mean 'ddim'"),
        ({"sampler": "ddim", "eta": 2}, "eta=2 .*from 0 to 1"),
        ({"sampler": "ddim", "eta": -0.1}, r"eta=-0\.1 .*from 0 to 1"),
        ({"sampler": "ddim", "eta": np.nan}, "eta=nan"),
        ({"sampler": "ddpm", "eta": 0.5}, r"eta=0\.5 with sampler='ddpm' .*belongs to .*'ddim'"),
        ({"labels": 10}, "from 10 to 10; .*0 to 9"),
        ({"labels": [0, -1, 9]}, "from -1 to 9; .*0 to 9"),
        ({"labels": 2.0}, "whole number"),
        ({"labels": True}, "whole number"),
        ({"labels": [1, 2]}, r"one whole number or 3 of them, not int64 of shape \(2,\)"),
        ({"guidance_scale": 2}, "guidance_scale=2 .*give labels"),
        ({"guidance_scale": np.nan, "labels": 3}, "guidance_scale=nan"),
    ],
)
def test_impossible_wishes_are_refused(told, controls, words):
    with pytest.raises(UserError, match=words):
        told.generate(**{"n": 3} | controls)


@pytest.mark.parametrize(
    "controls, words",
    [
        ({"labels": 3}, "trained with them"),
        ({"guidance_scale": 2}, "guidance_scale=2 .*num_classes"),
        ({"guidance_scale": 2, "labels": 3}, "labels"),
    ],
)
def test_a_model_without_labels_refuses_what_needs_them(plain, controls, words):
    with pytest.raises(UserError, match=words):
        plain.generate(3, **controls)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"schedule": "linaer"}, "schedule='linaer' .*linear, cosine, flow.* mean 'linear'"),
        ({"prediction": "nois"}, "prediction='nois' .*noise, image, v, flow.* mean 'noise'"),
        ({"density": "unform"}, "density='unform' .*uniform, logit_normal, mixed.* mean 'uniform'"),
        ({"schedule": "flow", "prediction": "noise"}, "'noise' with schedule='flow' cannot start"),
    ],
)
def test_an_unknown_or_impossible_path_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        echo(**options)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"timesteps": 1}, "timesteps=1 .*from 2 up"),
        ({"timesteps": 2.5}, r"timesteps=2\.5"),
        ({"ema": 1}, "ema=1 .*below 1"),
        ({"label_dropout": 2}, "label_dropout=2 .*0 to 1"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        echo(**options)


@pytest.mark.parametrize(
    "change, labels, words",
    [
        (lambda x: (127 * x).astype("uint8"), 3, "uint8 from .*floats in .-1, 1."),
        (lambda x: 2 * x, 3, "from -2.0 to 2.0"),
        (lambda x: x * np.nan, 3, "nan"),
        (lambda x: x, 10, "from 10 to 10; .*0 to 9"),
        (lambda x: x, -1, "from -1 to -1"),
    ],
)
def test_training_refuses_images_and_labels_that_do_not_fit(images, change, labels, words):
    model = toy(num_classes=10)
    model.compile(optimizer="adam")
    with pytest.raises(UserError, match=words):
        model.fit(change(images), np.full(len(images), labels), verbose=0)


def test_a_refused_path_leaves_the_old_one():
    model = echo(schedule="cosine", prediction="v")
    before = np.asarray(model.table.value)
    with pytest.raises(UserError):
        model.set_path("flow", "noise")
    assert (model.schedule, model.prediction) == ("cosine", "v")
    assert np.array_equal(before, np.asarray(model.table.value))


def test_a_model_with_labels_refuses_to_train_without_them(images):
    model = toy(num_classes=10)
    model.compile(optimizer="adam")
    with pytest.raises(UserError, match=r"10 classes: fit\(images, labels\)"):
        model.fit(images, verbose=0)


# Building and keeping


def test_the_first_weights_are_a_function_of_the_seed():
    one, two, three = (build(seed=seed).network.get_weights() for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, two)) and not all(map(np.array_equal, one, three))


def test_a_saved_model_draws_the_same_and_keeps_its_options(tmp_path):
    options = {"schedule": "cosine", "prediction": "v", "timesteps": 50, "density": "uniform"}
    options |= {"ema": 0.9, "label_dropout": 0.2, "num_classes": 10, "seed": 5}
    model = build(**options)
    model.set_weights([w + 0.1 * normal(i, *w.shape) for i, w in enumerate(model.get_weights())])
    model.compile(optimizer=training.Muon(1e-2))
    model.optimizer.build(model.trainable_variables)
    model.updates.assign(4.0)
    model.generate(1)
    model.save(tmp_path / "diffusion.keras")
    loaded = keras.models.load_model(tmp_path / "diffusion.keras")
    assert {name: getattr(loaded, name) for name in options} == options
    assert isinstance(loaded.optimizer, training.Muon) and float(loaded.updates) == 4
    for average in (True, False):
        first, second = (m.generate(4, average=average, labels=3) for m in (model, loaded))
        assert np.array_equal(first, second) and first.std() > 0
    assert np.array_equal(model.table.numpy(), loaded.table.numpy())


def test_a_path_that_is_chosen_later_is_kept_and_used(tmp_path):
    model, later = toy(schedule="cosine", prediction="v"), toy()
    later.generate(2)
    later.set_path("cosine", "v")
    later.save(tmp_path / "diffusion.keras")
    loaded = keras.models.load_model(tmp_path / "diffusion.keras")
    assert (loaded.schedule, loaded.prediction) == ("cosine", "v")
    for other in (later, loaded):
        assert np.array_equal(other.generate(2), model.generate(2))
        assert np.array_equal(np.asarray(other.table.value), np.asarray(model.table.value))


@pytest.mark.once
def test_a_shipped_model_has_the_averaged_weights_and_fits_its_images(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    parameters = {"image_shape": [8, 8, 1], "width": 8, "patch": 1, "num_classes": 3}
    network = unet.build_unet(**parameters)
    network.set_weights([w + 0.1 * normal(i, *w.shape) for i, w in enumerate(network.weights)])
    model = diffusion.DiffusionModel(network, num_classes=3)
    checkpoints.publish(model.average, "toy", parameters=parameters)
    loaded = diffusion.load_diffusion("toy", (8, 8, 1))
    for average in (True, False):
        controls = {"labels": 2, "guidance_scale": 2.0, "average": average}
        assert np.array_equal(loaded.generate(3, **controls), model.generate(3, **controls))
    with pytest.raises(UserError, match="draws images of"):
        diffusion.load_diffusion("toy", (28, 28, 1))


@pytest.mark.once
def test_the_shipped_models_draw_the_digits_that_they_are_asked_for():
    judge, labels = metrics.Judge.shipped("mnist"), np.arange(100) % 10
    told = diffusion.load_diffusion("guided_mnist")
    drawn = told.generate(100, steps=10, eta=1.0, labels=labels, guidance_scale=2.0)
    assert np.mean(judge(drawn)[1] == labels) > 0.95
    shares = metrics.class_shares(judge(diffusion.load_diffusion().generate(100, steps=10))[1], 10)
    assert shares.min() > 0.1
