"""An adapter is the stated product beside a frozen matrix, alone or merged into it."""

import numpy as np
import pytest

from genlib import UserError, training
from genlib.models import gpt, lora, tokenizers
from genlib.training.backend import keras

LETTERS = tokenizers.CharTokenizer("abc\n")
POEM = "abcab\nabccab\n" * 20
PER_BLOCK = 4  # matrices of a block


def build(num_layers=2, seed=0):
    model = gpt.GPT(LETTERS, num_layers, num_heads=1, model_dim=8, context_length=8, seed=seed)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.4, w.shape) for w in model.get_weights()])
    return model


def shake(model, seed=0, scale=0.5):
    """Give the adapters random weights, as training would."""
    rng = np.random.default_rng(seed)
    for layer in lora.adapted(model):
        for variable in (layer.lora_kernel_a, layer.lora_kernel_b):
            variable.assign(rng.normal(0, scale, variable.shape))


def values(model):
    """What an operation that fails must leave as it was."""
    return [(v.path, v.trainable, np.array(v.value).tobytes()) for v in model.variables]


def logits(model):
    return np.asarray(model(np.array([[0, 1, 2, 0, 1, 3, 0, 1], [2, 2, 0, 1, 3, 0, 1, 2]])))


def test_new_adapters_change_no_output_and_are_all_that_trains():
    model = build()
    before, base = logits(model), model.get_weights()
    assert lora.add_lora(model, rank=3) == 2 * PER_BLOCK == len(lora.adapted(model))
    assert np.array_equal(logits(model), before)
    assert {v.name for v in model.trainable_variables} == {"lora_kernel_a", "lora_kernel_b"}
    assert len(model.trainable_variables) == 2 * 2 * PER_BLOCK
    assert len(model.non_trainable_variables) >= len(base)
    for layer in lora.adapted(model):
        shape = layer.kernel.shape
        assert layer.lora_kernel_a.shape == (shape[0], 3)
        assert layer.lora_kernel_b.shape == (3, shape[1])
        assert np.any(layer.lora_kernel_a) and not np.any(layer.lora_kernel_b)


def test_only_the_layers_named_get_adapters():
    model = build()
    assert lora.add_lora(model, 1, only=("project", "narrow")) == 4
    assert sorted(x.name for x in lora.adapted(model)) == ["narrow"] * 2 + ["project"] * 2
    assert len(model.trainable_variables) == 2 * 4


@pytest.mark.backend
@pytest.mark.parametrize("alpha, factor", [(None, 1.0), (6, 3.0), (1, 0.5)])
@pytest.mark.parametrize("kind", ["Dense", "EinsumDense"])  # KerasHub's attention has the second
def test_an_adapter_adds_the_product_of_its_matrices(kind, alpha, factor):
    layer = {
        "Dense": lambda: keras.layers.Dense(6, bias_initializer="normal"),
        "EinsumDense": lambda: keras.layers.EinsumDense("ad,dhk->ahk", (2, 3), bias_axes="hk"),
    }[kind]()
    model = keras.Sequential([keras.Input((5,)), layer])
    x = np.random.default_rng(1).normal(size=(4, 5)).astype("float32")
    plain = np.asarray(model(x))
    lora.add_lora(model, 2, alpha)
    shake(model)
    a, b = np.asarray(layer.lora_kernel_a), np.asarray(layer.lora_kernel_b)
    by_hand = plain + factor * np.tensordot(x, a @ b, 1)
    np.testing.assert_allclose(np.asarray(model(x)), by_hand, atol=1e-5)
    lora.merge(model)
    np.testing.assert_allclose(np.asarray(model(x)), by_hand, atol=1e-5)


@pytest.mark.backend
@pytest.mark.once
def test_training_lowers_the_loss_and_leaves_every_frozen_weight_as_it_was():
    model = build()
    lora.add_lora(model, 2)
    frozen = {v.path: np.array(v.value) for v in model.non_trainable_variables}
    adapters = [np.array(v.value) for v in model.trainable_variables]
    windows = training.Windows(LETTERS.encode(POEM), 8, 8)
    model.compile(optimizer=keras.optimizers.Adam(0.03))
    losses = model.fit(windows.stream(), epochs=8, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    metrics = {v.path for metric in model.metrics for v in metric.variables}
    after = {v.path: np.array(v.value) for v in model.non_trainable_variables}
    assert frozen.keys() == after.keys() and len(frozen.keys() - metrics) >= 2 * PER_BLOCK
    assert all(np.array_equal(after[path], frozen[path]) for path in frozen.keys() - metrics)
    trained = [np.array(v.value) for v in model.trainable_variables]
    assert not any(map(np.array_equal, trained, adapters))


@pytest.mark.backend
@pytest.mark.once
def test_what_is_scored_and_written_always_follows_the_adapters_there_are(tmp_path):
    model, tokens = build(1), LETTERS.encode(POEM[:9])[None]

    def look():
        """The scores of a text by the compiled function, which are those of a plain call."""
        found = keras.losses.sparse_categorical_crossentropy(
            tokens[:, 1:], model(tokens[:, :-1]), from_logits=True
        )
        scores = model.cross_entropy(POEM[:9])
        np.testing.assert_allclose(scores, np.asarray(found)[0], atol=1e-4)
        return scores

    def write():
        return model.generate("a", 30, seed=1)

    plain = look()
    lora.add_lora(model, 2)
    np.testing.assert_allclose(look(), plain, atol=1e-4)
    text_before = write()
    shake(model, seed=1)
    one, text_by_one = look(), write()
    lora.save_adapter(tmp_path / "one.npz", model)
    shake(model, seed=2)
    assert abs(one - plain).max() > 0.03 and abs(look() - one).max() > 0.03
    lora.load_adapter(tmp_path / "one.npz", model)
    assert np.array_equal(look(), one) and write() == text_by_one != text_before
    lora.merge(model)
    np.testing.assert_allclose(look(), one, atol=1e-4)
    assert write() == text_by_one


def test_merged_adapters_are_in_the_matrices_and_nowhere_else():
    model = build()
    lora.add_lora(model, 2, alpha=5)
    shake(model)
    adapted, before = lora.adapted(model), logits(model)
    expected = [np.asarray(layer.kernel) for layer in adapted]
    lora.merge(model)
    np.testing.assert_allclose(logits(model), before, atol=1e-4)
    assert lora.adapted(model) == []
    for layer, kernel in zip(adapted, expected, strict=True):
        np.testing.assert_allclose(np.asarray(layer.kernel), kernel, atol=1e-5)
        assert not np.any(layer.lora_kernel_b)
    again = values(model)
    lora.merge(model)
    assert values(model) == again


def test_a_merged_models_weights_fit_a_plain_one(tmp_path):
    model, plain = build(), build(seed=1)
    lora.add_lora(model, 2)
    shake(model)
    lora.merge(model)
    model.save_weights(tmp_path / "model.weights.h5")
    plain.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(logits(plain), logits(model))


@pytest.fixture
def saved(tmp_path):
    """A trained adapter's file, and the model that it was trained with."""
    model = build()
    lora.add_lora(model, 2)
    shake(model, seed=3)
    size = lora.save_adapter(tmp_path / "adapter.npz", model)
    assert size == (tmp_path / "adapter.npz").stat().st_size
    return tmp_path / "adapter.npz", model


def test_a_saved_adapter_turns_the_plain_model_into_the_adapted_one(saved):
    path, model = saved
    other = build()
    lora.add_lora(other, 2)
    assert not np.allclose(logits(other), logits(model), atol=1e-2)
    lora.load_adapter(path, other)
    assert np.array_equal(logits(other), logits(model))
    with np.load(path, allow_pickle=False) as archive:
        assert len(archive.files) == 2 * 2 * PER_BLOCK


@pytest.mark.parametrize(
    "rank, num_layers, adapters",
    [(3, 2, 8), (2, 1, 4), (2, 3, 12), (0, 2, 0)],
    ids=["another rank", "fewer layers", "more layers", "no adapters"],
)
def test_an_adapter_that_does_not_fit_is_refused_and_nothing_changes(
    saved, rank, num_layers, adapters
):
    path, _ = saved
    other = build(num_layers)
    if rank:
        lora.add_lora(other, rank)
        shake(other)
    before = values(other)
    with pytest.raises(UserError, match=rf"does not fit this model's {adapters} adapters; add"):
        lora.load_adapter(path, other)
    assert values(other) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_a_damaged_adapter_is_refused_and_nothing_changes(saved, damage):
    path, model = saved
    shake(model, seed=4)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[200] ^= 255
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    before = values(model)
    with pytest.raises(UserError, match=r"not a whole \.npz file"):
        lora.load_adapter(path, model)
    assert values(model) == before


@pytest.mark.parametrize(
    "options, words",
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": -1}, "rank=-1"),
        ({"rank": np.nan}, "rank=nan"),
        ({"rank": 2, "only": ("querry",)}, "querry"),
        ({"rank": 2, "only": ("project", "querry")}, "querry"),
        ({"rank": 2, "only": ("embedding",)}, "embedding"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_gives_no_adapter_is_refused_and_nothing_changes(options, words):
    model = build()
    before = values(model)
    with pytest.raises(UserError, match=f"{words}.*; give a rank of 1 or more"):
        lora.add_lora(model, **options)
    assert values(model) == before and not lora.adapted(model)


def test_adapters_are_added_once():
    model = build()
    lora.add_lora(model, 2)
    shake(model)
    before = values(model)
    with pytest.raises(UserError, match="has adapters already"):
        lora.add_lora(model, 2)
    assert values(model) == before
    lora.merge(model)
    merged = logits(model)
    assert lora.add_lora(model, 1) == 2 * PER_BLOCK and np.array_equal(logits(model), merged)
    assert len(model.trainable_variables) == 2 * 2 * PER_BLOCK


def test_a_model_without_adapters_has_none_to_save(tmp_path):
    with pytest.raises(UserError, match="no adapters"):
        lora.save_adapter(tmp_path / "none.npz", build())
    assert not (tmp_path / "none.npz").exists()
