"""KerasHub's GPT-2 says through the course's interface what it says by itself. No network."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax

from genlib import UserError, training
from genlib.models import hub, language, lora, tokenizers
from genlib.training.backend import compiled, keras

POEM = "the cat sat on the mat — “so”, said the cat\n" * 8
CONTEXT = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A preset of a tiny GPT-2 with random weights, as ``save_to_preset`` writes it."""
    from keras_hub import models

    rules = json.loads(tokenizers.BPETokenizer.train(POEM, 280).rules)["model"]
    vocabulary = rules["vocab"] | {"<|endoftext|>": len(rules["vocab"])}
    merges = [" ".join(pair) for pair in rules["merges"]]
    tokenizer = models.GPT2Tokenizer(vocabulary=vocabulary, merges=merges)
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 16}
    backbone = models.GPT2Backbone(len(vocabulary), **sizes, max_sequence_length=CONTEXT)
    rng = np.random.default_rng(0)
    backbone.set_weights([rng.normal(0, 0.6, w.shape) for w in backbone.get_weights()])
    processor = models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=CONTEXT)
    path = tmp_path_factory.mktemp("presets") / "tiny"
    models.GPT2CausalLM(backbone, processor).save_to_preset(str(path))
    return str(path)


@pytest.fixture(scope="module")
def model(folder):
    return hub.load_gpt2(folder)


def weights(model):
    """KerasHub's variables, without the states of dropout."""
    return [v for v in model.causal_lm.variables if v.dtype == "float32"]


def by_keras_hub(model, tokens):
    """Logits of KerasHub's own model, (count, time, vocab_size)."""

    def call(tokens):
        return model.causal_lm({"token_ids": tokens, "padding_mask": keras.ops.ones_like(tokens)})

    if "own" not in model.functions:
        signature = [((None, None), "int32")]
        model.functions["own"] = compiled(call, model.variables, signature)
    return np.asarray(model.functions["own"](tokens))


def test_a_preset_loads_from_its_folder_without_a_network(folder, sockets):
    model = hub.load_gpt2(folder)
    assert not sockets
    assert isinstance(model, language.LanguageModel) and model.context_length == CONTEXT
    tokens = model.tokenizer.encode(POEM)
    assert tokens.dtype == np.int32 and 0 <= tokens.min() <= tokens.max() < model.vocab_size
    assert model.tokenizer.decode(tokens) == POEM and len(tokens) < len(POEM.encode())
    assert hub.load_gpt2(folder, context_length=5).context_length == 5


def test_the_scores_are_those_of_keras_hubs_own_pass(model):
    tokens = model.tokenizer.encode(POEM)[: 2 * CONTEXT + 1]
    start = np.stack([tokens[:CONTEXT], tokens[CONTEXT:-1]])
    said = log_softmax(by_keras_hub(model, start).astype("float64"), axis=-1)
    said = said.reshape(2 * CONTEXT, -1)
    expected = -said[np.arange(2 * CONTEXT), tokens[1:]]
    read = model.tokenizer.decode(tokens)
    assert np.array_equal(model.tokenizer.encode(read), tokens)
    np.testing.assert_allclose(model.cross_entropy(read), expected, atol=1e-4)
    assert model.perplexity(read) == pytest.approx(np.exp(expected.mean()), rel=1e-4)


def test_with_the_cache_it_says_what_it_says_without(model):
    tokens = np.random.default_rng(1).integers(0, 280, (2, CONTEXT)).astype("int32")
    expected, cache = by_keras_hub(model, tokens), model.empty_cache(2)
    signature = [((2,), "int32"), ((), "int32"), (cache.shape, "float32")]
    read = compiled(model.next_logits, model.variables, signature)
    for position in range(CONTEXT):
        logits, (filled,) = read(tokens[:, position], np.int32(position), cache)
        cache = np.asarray(filled)[None]
        np.testing.assert_allclose(np.asarray(logits), expected[:, position], atol=1e-4)


@pytest.mark.backend
@pytest.mark.once
def test_it_writes_under_all_controls_and_past_its_window(model):
    tokens = model.tokenizer.encode("the cat").tolist()
    while len(tokens) < CONTEXT:
        padded = np.array([tokens + [0] * (CONTEXT - len(tokens))], "int32")
        tokens.append(int(by_keras_hub(model, padded)[0, len(tokens) - 1].argmax()))
    greedy = model.generate("the cat", 30, top_k=1)
    assert greedy.startswith(model.tokenizer.decode(tokens).rstrip("�"))
    controls = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    controls["repetition_penalty"] = 1.2
    one, two, three = (model.generate("the", 30, seed=s, **controls) for s in (1, 1, 2))
    assert one == two != three and one.startswith("the")


def test_adapters_learn_a_text_in_one_pass_and_merge(folder):
    model = hub.load_gpt2(folder)
    before = model.cross_entropy(POEM).mean()
    assert lora.add_lora(model, 4) == 2 * 6  # query, key, value, output and two dense layers
    frozen = {v.path: np.array(v.value) for v in weights(model) if not v.trainable}
    windows = training.Windows(model.tokenizer.encode(POEM * 12), CONTEXT, 8)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    model.fit(windows.stream(), epochs=1, shuffle=False, verbose=0)
    assert all(np.array_equal(v.value, frozen[v.path]) for v in weights(model) if not v.trainable)
    after = model.cross_entropy(POEM)
    assert after.mean() < 0.9 * before
    lora.merge(model)
    np.testing.assert_allclose(model.cross_entropy(POEM), after, atol=1e-3)


def test_a_folder_that_is_no_preset_is_one_sentence(tmp_path):
    with pytest.raises(
        UserError, match=r"^preset='.*' cannot be loaded .*the folder of a preset\.$"
    ):
        hub.load_gpt2(str(tmp_path))


def test_a_name_without_a_network_is_one_sentence(sockets):
    with pytest.raises(UserError, match="preset='gpt3' is no folder, and GENLIB_OFFLINE=1 forbids"):
        hub.load_gpt2("gpt3")
    assert not sockets


def test_a_wrong_name_is_one_sentence(monkeypatch, sockets):
    monkeypatch.setenv("GENLIB_OFFLINE", "0")
    with pytest.raises(UserError, match=r"^preset='gpt3' cannot be loaded .*folder of a preset\.$"):
        hub.load_gpt2("gpt3")


def test_a_longer_context_than_it_has_is_refused(folder):
    with pytest.raises(UserError, match=r"^context_length=17 is too long; .* reads 16 at most\.$"):
        hub.load_gpt2(folder, context_length=17)


def test_without_keras_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"extra keras-hub; install it: pip install"):
        hub.load_gpt2("gpt2_base_en")
