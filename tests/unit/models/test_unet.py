"""The U-Net fits its images, starts at zero and hears what it is told; Muon steps as it says."""

import numpy as np
import pytest

from genlib import UserError, training
from genlib.models import unet
from genlib.training.backend import keras

ops = keras.ops


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def awake(shape, **options):
    """A U-Net without the zeros that it starts with."""
    keras.utils.set_random_seed(0)
    model = unet.build_unet(shape, width=16, levels=1, patch=1, **options)
    model.set_weights([w + 0.1 * normal(i, *w.shape) for i, w in enumerate(model.get_weights())])
    return lambda x: model.predict_on_batch(x)


# The U-Net


@pytest.mark.parametrize(
    "shape, options",
    [
        ((28, 28, 1), {}),
        ((28, 28, 1), {"levels": 3, "patch": 1}),
        ((32, 32, 3), {"levels": 3, "attention": True}),
        ((8, 8, 1), {"levels": 1, "patch": 1, "num_classes": 10}),
        ((8, 12, 3), {"levels": 1}),
    ],
)
def test_the_network_fits_the_images(shape, options):
    model = unet.build_unet(shape, width=8, **options)
    labels = [(None,)] if "num_classes" in options else []
    assert model.input_shape == [(None, *shape), (None,), *labels]
    assert model.output_shape == (None, *shape)


@pytest.mark.backend
def test_an_untrained_network_answers_zero():
    model = unet.build_unet((8, 8, 1), width=16, levels=1, patch=1)
    output = model.predict_on_batch([normal(0, 2, 8, 8, 1), np.float32([0.2, 0.9])])
    assert output.shape == (2, 8, 8, 1) and not output.any()


def test_each_level_halves_the_size_and_doubles_the_filters():
    model = unet.build_unet((32, 32, 3), width=8, levels=3, patch=2)
    convolutions = [v for v in model.layers if isinstance(v, keras.layers.Conv2D)]
    assert {v.output.shape[1:] for v in convolutions if v.kernel_size == (3, 3)} == {
        (16, 16, 8), (8, 8, 16), (4, 4, 32)
    }  # fmt: skip


@pytest.mark.backend
def test_the_image_the_time_and_the_label_reach_the_output_of_their_own_image_alone():
    model = awake((8, 8, 1), num_classes=10)
    x = [normal(0, 2, 8, 8, 1), np.float32([0.2, 0.9]), np.int32([3, 3])]
    before = model(x)
    for i, change in enumerate((1.0, 0.001, 7)):  # a step of 1000, and a label of 10 for "not told"
        changed = [np.array(each) for each in x]
        changed[i][1] += np.array(change, changed[i].dtype)
        output = model(changed)
        np.testing.assert_allclose(output[0], before[0], atol=1e-5)
        assert abs(output[1] - before[1]).max() > 1e-3


@pytest.mark.once
@pytest.mark.backend
@pytest.mark.parametrize("attention", [False, True])
def test_attention_lets_far_corners_see_each_other(attention):
    model = awake((28, 28, 1), attention=attention)
    x = [normal(0, 1, 28, 28, 1), np.float32([0.5])]
    before = model(x)
    x[0][0, 0, 0] += 3
    change = abs(model(x) - before)[0, ..., 0]
    assert change[0, 0] > 1e-3 and (change[-1, -1] > 0) == attention


@pytest.mark.backend
def test_the_time_embedding_is_sines_and_cosines_from_slow_to_fast():
    time = np.float32([0, 0.25, 1])
    angles = time[:, None] * 1000 ** np.linspace(0, 1, 32)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(unet.TimeEmbedding()(time), expected, atol=1e-3)


@pytest.mark.parametrize(
    "shape, options, words",
    [
        ((30, 28, 1), {}, "multiples of 4.*30×28.*image_size=32"),
        ((28, 28, 1), {"levels": 3}, "multiples of 8.*28×28"),
        ((4, 4, 1), {}, "from 8 up.*4×4.*image_size=8"),
        ((7, 7, 1), {"levels": 1}, "multiples of 2.*7×7"),
    ],
)
def test_images_that_the_levels_cannot_halve_are_refused(shape, options, words):
    with pytest.raises(UserError, match=words):
        unet.build_unet(shape, width=8, **options)


@pytest.mark.parametrize("options", [{"patch": 3}, {"levels": 0}, {"width": 0}])
def test_sizes_that_make_no_network_are_refused(options):
    with pytest.raises(UserError, match="make no U-Net"):
        unet.build_unet((8, 8, 1), **options)


# Muon


def moved(optimizer, *gradients):
    """How far a variable of ones moves in one step for each of the gradients."""
    variable = keras.Variable(np.ones_like(gradients[0]))
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(variable.value) - 1


@pytest.mark.once
@pytest.mark.backend
@pytest.mark.parametrize("shape", [(3, 3, 4, 16), (3, 3, 16, 4), (4, 4, 1, 8)])
def test_muon_moves_a_kernel_along_the_orthogonal_matrix_nearest_to_the_gradient(shape):
    gradient = 1e-3 * normal(0, *shape)
    u, _, v = np.linalg.svd(gradient.reshape(-1, shape[-1]), full_matrices=False)
    rows, columns = len(u), v.shape[1]
    step = -moved(training.Muon(0.1), gradient).reshape(rows, columns)
    step /= 0.1 * 0.2 * np.sqrt(max(rows, columns))
    turned = u.T @ step @ v.T  # diagonal: five iterations bring its values near 1
    assert np.all((np.diag(turned) > 0.6) & (np.diag(turned) < 1.3))
    assert abs(turned - np.diag(np.diag(turned))).max() < 1e-2
    np.testing.assert_allclose(u @ turned @ v, step, atol=1e-2)  # and nothing beside it


@pytest.mark.backend
def test_muon_moves_a_kernel_as_keras_moves_the_same_matrix():
    gradients = normal(0, 3, 36, 16)
    ours = moved(training.Muon(0.01), *gradients.reshape(3, 3, 3, 4, 16))
    keras_moves = moved(keras.optimizers.Muon(0.01, weight_decay=None), *gradients)
    np.testing.assert_allclose(ours.reshape(36, 16), keras_moves, atol=1e-4)


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(8,), (8, 4), (8, 4, 2)])
def test_muon_is_adam_for_all_that_is_no_kernel(shape):
    gradients, adam = normal(0, 3, *shape), keras.optimizers.Adam(0.01, beta_2=0.99)
    expected = moved(adam, *gradients)
    np.testing.assert_allclose(moved(training.Muon(0.01), *gradients), expected, atol=1e-5)
    assert abs(expected).min() > 0


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2,)])
def test_muon_lets_no_weight_decay_unless_told_to(shape):
    nothing = np.zeros(shape, "float32")
    assert not moved(training.Muon(0.1), nothing).any()
    decayed = moved(training.Muon(0.1, weight_decay=0.5, adam_weight_decay=0.5), nothing)
    np.testing.assert_allclose(decayed, -0.05, rtol=1e-5)


@pytest.mark.backend
def test_muon_keeps_its_options():
    options = {"momentum": 0.9, "adam_beta_2": 0.98, "weight_decay": 0.1, "adam_lr_ratio": 0.4}
    muon = training.Muon(3e-3, **options)
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(muon))
    assert isinstance(loaded, training.Muon) and loaded.get_config() == muon.get_config()
    assert {name: getattr(loaded, name) for name in options} == options
