"""Images as codes: the quantisers by brute force, by k-means and by counting; the autoencoder."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import assert_same, gradients
from sklearn.cluster import KMeans

from genlib import UserError, data, runs, training
from genlib.data import checkpoints
from genlib.models import vq
from genlib.training.backend import keras

ops = keras.ops
backend = pytest.mark.backend


def quantizer(num_codes=5, dim=2, codebook=None, **options):
    """A built ``VectorQuantizer`` with random codes, or those given."""
    layer = vq.VectorQuantizer(num_codes, dim, **options)
    layer.build((None, dim))
    random = np.random.default_rng(0).normal(size=(num_codes, dim))
    layer.codebook.assign(random if codebook is None else codebook)
    return layer


# Nearest codes


@backend
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_each_vector_gets_the_code_that_brute_force_finds_nearest(seed, num_codes, dim):
    rng = np.random.default_rng(seed)
    codebook, vectors = rng.normal(size=(num_codes, dim)), rng.normal(size=(2, 3, dim))
    layer = quantizer(num_codes, dim, codebook)
    distances = np.linalg.norm(vectors[..., None, :] - codebook, axis=-1)
    found = np.asarray(layer.codes(vectors.astype("float32")))
    chosen = np.take_along_axis(distances, found[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, distances.min(-1), atol=1e-5)
    np.testing.assert_allclose(layer(vectors.astype("float32")), codebook[found], atol=1e-5)


def test_codes_vectors_and_codes_again_are_the_same_codes():
    for layer in (quantizer(), vq.FiniteScalarQuantizer((5, 4, 3))):
        codes = np.arange(layer.num_codes).reshape(1, -1)
        vectors = layer.vectors(codes)
        if isinstance(layer, vq.VectorQuantizer):
            assert np.array_equal(layer.codes(vectors), codes)
        assert len(np.unique(np.asarray(vectors)[0], axis=0)) == layer.num_codes


# The straight-through gradient


@backend
def test_the_gradient_at_the_encoder_is_that_at_the_quantised_vector_by_finite_differences():
    layer, decode = quantizer(), lambda v: ops.sum(ops.sin(3.0 * v) * np.float32([1.0, -2.0]))
    z = keras.Variable(np.float32([[0.3, -0.4], [1.0, 0.2]]))
    (found,) = gradients(lambda: decode(layer(z)), [z])
    at = np.asarray(layer(z)).astype("float64")
    expected, step = np.zeros_like(at), 1e-5
    for i, j in itertools.product(range(2), range(2)):
        up, down = at.copy(), at.copy()
        up[i, j] += step
        down[i, j] -= step
        value = [np.sum(np.sin(3 * v) * [1.0, -2.0]) for v in (up, down)]
        expected[i, j] = (value[0] - value[1]) / (2 * step)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_without_the_straight_path_the_encoder_would_learn_nothing():
    layer = quantizer()
    z = keras.Variable(np.float32([[0.3, -0.4]]))
    (found,) = gradients(lambda: ops.sum(layer.vectors(layer.codes(z))), [z])
    assert not np.any(found)


# How the codebook moves


@backend
def test_a_step_with_decay_0_is_a_step_of_k_means_on_one_batch():
    points = np.random.default_rng(1).normal(size=(200, 2)).astype("float32")
    start = points[:5].copy()
    layer = quantizer(codebook=start, decay=0.0, restart=0.0)
    layer(points, training=True)
    kmeans = KMeans(5, init=start, n_init=1, max_iter=1).fit(points)
    np.testing.assert_allclose(layer.codebook, kmeans.cluster_centers_, atol=1e-4)


def test_many_steps_end_where_k_means_does():
    points = np.random.default_rng(2).normal(size=(300, 2)).astype("float32")
    layer = quantizer(4, codebook=points[:4].copy(), decay=0.5, restart=0.0)
    kmeans = KMeans(4, init=points[:4], n_init=1, tol=0).fit(points)
    for _ in range(100):
        layer(points, training=True)
    np.testing.assert_allclose(layer.codebook, kmeans.cluster_centers_, atol=1e-3)


def test_averages_move_by_the_decay_and_codes_that_nobody_chose_stay():
    layer = quantizer(3, 1, [[0.0], [10.0], [99.0]], decay=0.75, restart=0.0)
    layer.uses.assign([4.0, 4.0, 0.0])
    layer.sums.assign([[0.0], [40.0], [0.0]])
    layer(np.float32([[1.0], [2.0], [8.0]]), training=True)
    # uses: ¾·4 + ¼·2 and ¾·4 + ¼·1; sums: ¼·3 and ¾·40 + ¼·8
    np.testing.assert_allclose(layer.uses, [3.5, 3.25, 0.0])
    np.testing.assert_allclose(layer.codebook, [[0.75 / 3.5], [32 / 3.25], [99.0]], rtol=1e-6)


@backend
def test_dead_codes_start_again_at_vectors_of_the_batch():
    points = np.random.default_rng(3).normal(size=(64, 2)).astype("float32")
    far = np.full((5, 2), 50.0) + np.arange(5)[:, None]
    layer = quantizer(codebook=far, restart=0.1)
    layer(points, training=True)
    gap = np.linalg.norm(np.asarray(layer.codebook)[:, None] - points, axis=-1).min(1)
    assert gap[1:].max() < 1e-4  # the first was nearest to all, and took their mean
    left = quantizer(codebook=far, restart=0.0)
    left(points, training=True)
    assert np.array_equal(np.asarray(left.codebook)[1:], far[1:].astype("float32"))


def test_drawing_moves_no_code():
    layer = quantizer()
    before = np.asarray(layer.codebook).copy()
    layer(np.ones((4, 2), "float32"))
    assert np.array_equal(layer.codebook, before)


# Finite scalars


@backend
@pytest.mark.parametrize("levels", [(2,), (3,), (4,), (8, 5, 4), (7, 2)])
def test_every_level_can_be_reached_and_each_combination_is_a_code(levels):
    layer = vq.FiniteScalarQuantizer(levels)
    line = np.linspace(-6, 6, 41)
    grid = np.stack(np.meshgrid(*[line] * len(levels)), -1).reshape(-1, len(levels))
    z = grid.astype("float32")
    codes, vectors = np.asarray(layer.codes(z)), np.asarray(layer(z))
    assert set(codes) == set(range(int(np.prod(levels))))
    np.testing.assert_allclose(layer.vectors(codes), vectors, atol=1e-6)
    assert np.abs(vectors).max() == 1
    for i, level in enumerate(levels):
        assert len(np.unique(vectors[:, i].round(4))) == level


@backend
def test_rounding_lets_the_gradient_of_the_squeezing_through():
    layer = vq.FiniteScalarQuantizer((5, 4))
    z = keras.Variable(np.float32([[0.2, -0.3]]))
    found = gradients(lambda: ops.sum(layer(z)), [z])[0]
    soft = gradients(lambda: ops.sum(layer.bound(z) / layer.halves), [z])[0]
    np.testing.assert_allclose(found, soft, rtol=1e-5)
    assert np.all(found > 0.1)


# The autoencoder


def small(num_codes=32, seed=0, **options):
    """A model of 8×8 digits with 4×4 codes."""
    return vq.build_vqvae((8, 8, 1), num_codes, dim=4, width=8, stride=2, seed=seed, **options)


def fitted(model, digits, tmp_path, epochs, resume=False):
    model.compile(optimizer=keras.optimizers.Adam(5e-3))
    batches = training.Batches(digits.images, 64)
    run = runs.Run("05", {"run_dir": str(tmp_path), "resume": resume, "epochs": epochs})
    return training.fit(model, batches, run, epochs)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    model = small()
    return model, fitted(model, digits, tmp_path_factory.mktemp("vq"), 15).history


@backend
def test_it_learns_to_rebuild_digits_from_16_codes(trained, digits, images):
    model, history = trained
    assert history[-1]["error"] < 0.1 < history[0]["error"]
    real = data.to_unit(images)
    error = np.mean((model.reconstruct(images) - real) ** 2)
    alone = np.mean((data.to_unit(digits.images).mean(0) - real) ** 2)
    assert error < 0.35 * alone
    assert len(np.unique(model.encode(images))) >= 0.9 * 32


def test_what_is_decoded_is_nearly_decoded_again(trained, images):
    model, _ = trained
    first = model.encode(images)
    once = model.decode(first)
    again = model.decode(model.encode(data.to_model(once)))
    assert np.mean((again - once) ** 2) < 0.5 * np.mean((once - data.to_unit(images)) ** 2)


@backend
def test_the_loss_is_the_error_and_the_weighted_distance_to_the_codes(images):
    model = small(commitment=0.5)
    output, z, quantised = model(images[:8])
    error = np.mean((np.asarray(output) - images[:8]) ** 2)
    distance = np.mean((np.asarray(z) - np.asarray(quantised)) ** 2)
    loss = model.compute_loss(images[:8], None, (output, z, quantised))
    assert float(loss) == pytest.approx(error + 0.5 * distance, rel=1e-4)
    levels = small([4, 4, 4])
    assert float(levels.compute_loss(images[:8], None, levels(images[:8]))) == pytest.approx(
        float(ops.mean(ops.square(levels(images[:8])[0] - images[:8]))), rel=1e-4
    )


def test_the_perplexity_counts_codes_that_are_used_equally_often():
    model = vq.build_vqvae((8, 8, 1), 4, dim=1, width=4, stride=2)
    model.quantizer.codebook.assign([[0.0], [1.0], [2.0], [3.0]])
    assert float(model.perplexity(np.float32([[[[0.0], [1.0]]]]))) == pytest.approx(2, rel=1e-4)
    assert float(model.perplexity(np.float32([[[[3.0], [3.0]]]]))) == pytest.approx(1, rel=1e-4)


@backend
@pytest.mark.parametrize("num_codes", [16, [4, 3]])
def test_a_resumed_run_ends_as_an_uninterrupted_one(num_codes, digits, tmp_path):
    whole, halves = small(num_codes), small(num_codes)
    few = data.load_images("digits").take(256)
    expected = fitted(whole, few, tmp_path / "whole", 2).history
    fitted(halves, few, tmp_path / "halves", 1)
    again = small(num_codes, seed=1)
    found = fitted(again, few, tmp_path / "halves", 2, resume=True).history
    assert_same(whole, again, (expected, found), ("loss", "error"))


@backend
@pytest.mark.parametrize("num_codes", [16, [4, 3]])
def test_a_saved_model_gives_the_same_codes_and_images(num_codes, images, tmp_path):
    model = small(num_codes, seed=2)
    model.save(tmp_path / "vq.keras")
    loaded = keras.models.load_model(tmp_path / "vq.keras")
    assert np.array_equal(loaded.encode(images[:9]), model.encode(images[:9]))
    assert np.array_equal(loaded.reconstruct(images[:9]), model.reconstruct(images[:9]))


def test_a_shipped_model_is_built_from_its_line_in_the_manifest(images, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    line = {"image_shape": [8, 8, 1], "num_codes": 32, "dim": 4, "width": 8, "stride": 2}
    model = small()
    checkpoints.publish(model, "toy", parameters=line)
    expected = model.encode(images[:9])
    assert np.array_equal(vq.load_vqvae("toy", (8, 8, 1)).encode(images[:9]), expected)
    with pytest.raises(UserError, match=r"toy draws images of \(8, 8, 1\), .* \(28, 28, 1\)"):
        vq.load_vqvae("toy", (28, 28, 1))


# Refusing


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_codes": 0}, "num_codes=0 is not possible; give a whole number from 2 up"),
        ({"num_codes": 1}, "num_codes=1 is not possible"),
        ({"num_codes": [4, 1]}, r"levels=\[4, 1\] is not possible; give 2 or more"),
        ({"num_codes": []}, r"levels=\[\] is not possible"),
        ({"stride": 3}, r"stride=3 is not possible; give one of \(2, 4, 8\)"),
        ({"stride": 8}, "multiples of 8, from 16 up, not 8×8"),
        ({"image_shape": (9, 8, 1)}, "multiples of 2, from 4 up, not 9×8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        vq.build_vqvae(**{"image_shape": (8, 8, 1), "num_codes": 4, "stride": 2} | options)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8)), np.full((2, 8, 8, 1), 2.0), np.full((2, 8, 8, 1), np.nan)],
    ids=["shape", "range", "nan"],
)
def test_images_out_of_shape_or_range_are_refused(trained, images):
    with pytest.raises(UserError, match=r"takes \(n, 8, 8, 1\) in \[-1, 1\], without NaN"):
        trained[0].encode(images)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((2, 15), int), np.full((1, 4, 4), 32), np.full((1, 16), -1), np.zeros((1, 16))],
    ids=["shape", "above", "below", "floats"],
)
def test_codes_that_are_no_image_are_refused(trained, codes):
    with pytest.raises(UserError, match="an image is 4×4 whole numbers from 0 to 31"):
        trained[0].decode(codes)
