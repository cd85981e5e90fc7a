"""A GPT over patches of pixels: a picture is a text, its likelihood exact.

A new model's blocks add nothing, so tests of what it computes give it random weights first.
"""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from genlib import UserError, metrics, runs, training
from genlib.data import checkpoints
from genlib.models import codes, pixels
from genlib.training.backend import keras
from genlib.training.optimizers import text_muon

backend = pytest.mark.backend
SIZES = {"num_layers": 2, "num_heads": 2, "model_dim": 16}


def shaken(image_shape=(8, 8, 1), levels=2, patch=2, scale=0.5, **options):
    """A model of random weights."""
    model = pixels.build_pixels(image_shape, levels, patch, **SIZES | options)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, scale, w.shape) for w in model.get_weights()])
    return model


def behind_start(model, tokens):
    """Tokens (n, length) behind the start of each row."""
    return model.tokenizer.rows(np.zeros(len(tokens), int), tokens)


@pytest.fixture(scope="module")
def model():
    """A model of digits of two levels, with 16 patches of 16 different ones."""
    return shaken()


@pytest.fixture(scope="module")
def tiny():
    """A model of 2×2 black and white pixels, and the 16 images that there are."""
    images = np.float32(list(itertools.product([0, 1], repeat=4))).reshape(-1, 2, 2, 1)
    return shaken((2, 2, 1), patch=1), images


# Pictures as tokens


def test_a_token_is_a_patch_in_base_levels_row_by_row_from_the_top_left():
    tokenizer = pixels.PixelTokenizer((4, 6, 1), levels=4, patch=2)
    digits = np.zeros((1, 4, 6, 1))
    digits[0, :2, 2:4, 0] = [[1, 2], [3, 0]]  # the second patch of the first row
    digits[0, 3, 1, 0] = 3  # the last pixel of the first patch of the second row
    tokens = tokenizer.encode(digits / 3)
    assert tokens.dtype == np.int32 and tokens.tolist() == [[0, 64 + 32 + 12, 0, 3, 0, 0]]


@pytest.mark.parametrize(
    "shape, levels, patch",
    [
        ((8, 8, 1), 4, 2),
        ((6, 4, 3), 2, 2),
        ((5, 7, 3), 40, 1),
        ((3, 9, 1), 3, 3),
        ((8, 8, 1), 2, 4),
    ],
)
def test_decoding_gives_the_image_rounded_to_its_levels(shape, levels, patch):
    tokenizer = pixels.PixelTokenizer(shape, levels, patch)
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), "uint8")
    expected = np.float32(np.round(images / 255 * (levels - 1))) / np.float32(levels - 1)
    for given in (images, images / 255):
        tokens = tokenizer.encode(given)
        found = tokenizer.decode(tokens)
        assert tokens.shape == (20, tokenizer.length) and tokens.max() < tokenizer.num_codes
        assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert np.array_equal(tokenizer.encode(found), tokens)


def test_a_batch_holds_the_tokens_of_images_behind_the_start_and_the_tokens(digits):
    tokenizer = pixels.PixelTokenizer((8, 8, 1))
    batches = pixels.PixelBatches(digits.images[:10], tokenizer, 5)
    known = tokenizer.encode(digits.images[:10]).tolist()
    rows = []
    for inputs, targets in (batches[0], batches[1]):
        assert tokenizer.num_codes == 256 and np.all(inputs[:, 0] == 256)
        assert np.array_equal(inputs[:, 1:], targets[:, :-1])
        rows += targets.tolist()
    assert rows != known and sorted(rows) == sorted(known)


# Likelihood


@backend
def test_the_chances_of_all_images_sum_to_one(tiny):
    model, images = tiny
    chances = np.exp(-model.nats_per_image(images).astype("float64"))
    assert chances.sum() == pytest.approx(1, abs=1e-5) and chances.max() > 3 * chances.min()


def test_the_nats_of_a_patch_are_those_of_the_logits_without_the_start(model, digits):
    images = digits.test_images[:130]  # more than two batches
    tokens = model.tokenizer.encode(images)
    logits = np.asarray(model(behind_start(model, tokens)[:, :-1]), "float64")[..., :16]
    expected = -np.take_along_axis(log_softmax(logits, -1), tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(model.cross_entropy(images), expected, atol=1e-4)
    np.testing.assert_allclose(model.nats_per_image(images), expected.sum(1), atol=1e-3)
    assert model.perplexity(images) == pytest.approx(np.exp(expected.mean()), rel=1e-4)


# Drawing


@backend
def test_images_are_drawn_as_often_as_their_likelihood_says(tiny):
    model, images = tiny
    drawn = model.generate(1000, seed=1).reshape(-1, 4) @ [8, 4, 2, 1]
    expected = 1000 * np.exp(-model.nats_per_image(images))
    found = np.bincount(drawn.astype(int), minlength=16)
    often = expected > 5
    pairs = [np.append(each[often], each[~often].sum()) for each in (found, expected)]
    statistic = np.sum((pairs[0] - pairs[1]) ** 2 / np.maximum(pairs[1], 1e-9))
    assert sum(often) >= 6 and stats.chi2(sum(often)).sf(statistic) > 0.01


@pytest.mark.once
@backend
def test_greedy_images_take_the_likeliest_patch_each_time(model):
    image = model.generate(1, top_k=1)
    tokens = model.tokenizer.encode(image)
    logits = np.asarray(model(behind_start(model, tokens)[:, :-1]))[0]
    *_, second, first = np.sort(logits, axis=-1).T
    clear = first - second > 1e-3
    assert np.mean(clear) > 0.8 and len(set(tokens[0])) > 2
    assert np.array_equal(logits.argmax(-1)[clear], tokens[0][clear])


@backend
def test_the_same_seed_gives_the_same_images_and_a_larger_n_begins_with_them(model):
    images = model.generate(codes.BATCH + 5, seed=3)
    assert images.shape == (codes.BATCH + 5, 8, 8, 1) and images.dtype == np.float32
    assert set(np.unique(images)) == {0, 1}
    assert np.array_equal(model.generate(codes.BATCH + 5, seed=3), images)
    assert np.array_equal(model.generate(3, seed=3), images[:3])
    assert not np.array_equal(model.generate(3, seed=4), images[:3])
    assert len(np.unique(images, axis=0)) > codes.BATCH  # the second batch does not repeat


def test_controls_make_images_likelier(model):
    def nats(**controls):
        return model.nats_per_image(model.generate(64, **controls)).mean()

    free = nats()
    assert nats(temperature=0.5) < 0.9 * free and nats(top_k=2) < 0.9 * free
    assert nats(top_p=0.5) < 0.9 * free and nats(temperature=2.0) > 1.1 * free


def test_the_start_is_never_drawn_even_where_it_would_be_likeliest():
    model = shaken((2, 2, 1), patch=1)
    matrix = model.embedding.get_weights()[0]
    matrix[-1] *= 100
    model.embedding.set_weights([matrix])
    tokens = behind_start(model, np.zeros((1, 4), int))
    assert np.asarray(model(tokens[:, :-1]))[..., -1].max() < -1e6
    model.generate(64, temperature=10.0)  # decode refuses a start


# Training


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A small model that was fitted to the digits, and what was recorded."""
    model = pixels.build_pixels((8, 8, 1), 2, 2, num_layers=1, num_heads=2, model_dim=32)
    batches = pixels.PixelBatches(digits.images, model.tokenizer, 32)
    model.compile(optimizer=text_muon(0.02, 6 * len(batches)))
    folder = str(tmp_path_factory.mktemp("run"))
    run = runs.Run("09_pixels", {"run_dir": folder, "resume": False, "epochs": 6})
    return model, training.fit(model, batches, run, 6)


@backend
def test_it_learns_more_than_how_often_a_patch_stands_at_a_place(trained, digits):
    model, recorder = trained
    losses = [row["loss"] for row in recorder.history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1.1
    seen, tokens = (model.tokenizer.encode(p) for p in (digits.images, digits.test_images))
    counts = np.stack([np.bincount(place, minlength=16) + 0.5 for place in seen.T])
    shares = counts / counts.sum(1, keepdims=True)
    alone = -np.log(shares[np.arange(16), tokens]).sum(1).mean()
    assert model.nats_per_image(digits.test_images).mean() < 0.85 * alone


def test_its_throughput_is_in_tokens(trained):
    recorder = trained[1]
    assert recorder.tokens_per_second == pytest.approx(16 * recorder.images_per_second)


# Keeping


@backend
def test_a_saved_model_scores_images_as_before_and_keeps_its_options(digits, tmp_path):
    model = shaken(dropout=0.25, seed=3)
    model.save(tmp_path / "pixels.keras")
    loaded = keras.models.load_model(tmp_path / "pixels.keras")
    assert loaded.get_config() == model.get_config()
    assert (loaded.dropout, loaded.seed, loaded.num_layers) == (0.25, 3, 2)
    expected = model.nats_per_image(digits.test_images[:9])
    assert np.array_equal(loaded.nats_per_image(digits.test_images[:9]), expected)


def test_a_shipped_model_is_built_from_its_line_in_the_manifest(
    model, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    copy = shaken()
    line = {"image_shape": [8, 8, 1], "levels": 2, "patch": 2, **SIZES}
    checkpoints.publish(copy, "toy", parameters=line)
    expected = model.nats_per_image(digits.test_images[:9])
    found = pixels.load_pixels("toy", (8, 8, 1)).nats_per_image(digits.test_images[:9])
    assert np.array_equal(found, expected)
    with pytest.raises(UserError, match=r"toy draws images of \(8, 8, 1\), .* \(28, 28, 1\)"):
        pixels.load_pixels("toy", (28, 28, 1))


def test_the_judge_recognises_the_digits_that_the_shipped_model_draws():
    model = pixels.load_pixels()
    images = model.generate(64, seed=1)
    judge, _ = metrics.load_classifier("classifier_mnist")

    def sure(images):
        """Share of images that the judge gives one class with a chance of 0.6 or more."""
        return np.mean(np.asarray(keras.ops.softmax(judge(2 * images - 1))).max(-1) > 0.6)

    order = np.random.default_rng(0).permutation(model.tokenizer.length)
    shuffled = model.tokenizer.decode(model.tokenizer.encode(images)[:, order])
    assert sure(images) > 0.6 > 0.2 > sure(shuffled)
    assert 2 * model.nats_per_image(images).mean() < model.nats_per_image(shuffled).mean()


# Refusing


@pytest.mark.parametrize(
    "options, words",
    [
        ({"image_shape": (7, 8, 1)}, "patch=2 does not cut images of 7×8 pixels"),
        ({"image_shape": (8, 9, 1)}, "patch=2 does not cut images of 8×9 pixels"),
        ({"patch": 0}, "patch=0 does not cut"),
        ({"patch": 8}, "patch=8 does not cut images of 8×8 pixels into 2 or more squares"),
        ({"levels": 1}, "levels=1 with patches of 4 values is not possible; give 2 or more"),
        ({"levels": 17}, "may be 65,536 different ones, not 17 to the power of 4"),
        ({"image_shape": (8, 8, 3)}, "not 4 to the power of 12"),
    ],
)
def test_patches_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        pixels.PixelTokenizer(**{"image_shape": (8, 8, 1)} | options)


@pytest.mark.parametrize(
    "images, words",
    [
        (np.zeros((2, 8, 8)), r"shape \(2, 8, 8\); this model takes \(n, 8, 8, 1\)"),
        (np.full((2, 8, 8, 1), -1.0), r"go from -1.0 to -1.0; give uint8, or floats in \[0, 1\]"),
        (np.full((2, 8, 8, 1), 200), "go from 200 to 200"),
        (np.full((2, 8, 8, 1), np.nan), "go from nan to nan"),
    ],
    ids=["shape", "negative", "whole", "nan"],
)
def test_images_out_of_shape_or_range_are_refused(model, images, words):
    with pytest.raises(UserError, match=words):
        model.nats_per_image(images)


@pytest.mark.parametrize("tokens", [np.zeros((2, 15), int), np.full((1, 16), 16), [[-1] * 16]])
def test_tokens_that_are_no_image_are_refused(model, tokens):
    with pytest.raises(UserError, match="an image is 16 tokens from 0 to 15"):
        model.tokenizer.decode(tokens)


@pytest.mark.parametrize(
    "n, controls, words",
    [
        (0, {}, "n=0 is not possible"),
        (2.5, {}, "n=2.5 is not possible"),
        (1, {"temperature": 0}, "temperature=0"),
        (1, {"top_k": 0}, "top_k=0"),
        (1, {"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, n, controls, words):
    with pytest.raises(UserError, match=words):
        model.generate(n, **controls)


def test_a_batch_larger_than_the_dataset_is_refused(model, digits):
    with pytest.raises(UserError, match="batch_size=11 is more than the 10 training images"):
        pixels.PixelBatches(digits.images[:10], model.tokenizer, 11)
