"""A GPT reads from left to right, and says with a cache what it says without one.

A new model's blocks add nothing, so tests of what it computes give it random weights first.
"""

import json
import shutil

import numpy as np
import pytest
from numerics import assert_same
from scipy import stats
from scipy.special import log_softmax, softmax

from genlib import UserError, data, runs, training
from genlib.data import checkpoints
from genlib.models import gpt, language, tokenizers
from genlib.training.backend import compiled, keras

backend = pytest.mark.backend
LETTERS = tokenizers.CharTokenizer("abcdefghijklmno \n")
CONTEXT = 12
PROMPTS = ["a", "hello", "on a  field"]  # of 1, 5 and 11 tokens
LONG = "a load of good old coal " * 3


def build(tokenizer=LETTERS, **options):
    sizes = {"num_layers": 2, "num_heads": 2, "model_dim": 16, "context_length": CONTEXT}
    return gpt.GPT(tokenizer, **sizes | options)


def shaken(seed=0, **options):
    """A model of random weights."""
    model, rng = build(**options), np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model():
    return shaken()


@pytest.fixture(scope="module", params=gpt.POSITIONS)
def either(request, model):
    """A model of each kind of positions."""
    return model if request.param == "rotary" else shaken(positions="learned")


def logits_of(model, tokens):
    """What the model says without a cache: (count, time, vocab_size).

    Always 64 rows of full length at once, so that it compiles once.
    """
    (count, time), length = np.shape(tokens), model.context_length
    padded = np.zeros((64, length), "int32")
    padded[:count, :time] = tokens
    if "logits" not in model.functions:
        signature = [((64, length), "int32")]
        model.functions["logits"] = compiled(model.__call__, model.variables, signature)
    return np.array(model.functions["logits"](padded))[:count, :time]


def after(model, windows):
    """What the model says after each of some windows, (count, vocab_size)."""
    padded = [[*window, *[0] * (CONTEXT - len(window))] for window in windows]
    return logits_of(model, padded)[range(len(windows)), [len(window) - 1 for window in windows]]


def log_odds(logits, targets):
    """Nats of the targets, in NumPy."""
    found = log_softmax(logits.astype("float64"), axis=-1)
    return -np.take_along_axis(found, np.asarray(targets)[..., None], -1)[..., 0]


# What it reads


@backend
def test_a_later_token_changes_no_earlier_logit(either):
    tokens = np.random.default_rng(0).integers(0, 17, CONTEXT)
    changed = np.tile(tokens, (CONTEXT, 1))
    changed[np.diag_indices(CONTEXT)] = (tokens + 1) % 17
    difference = abs(logits_of(either, changed) - logits_of(either, tokens[None])).max(-1)
    for time, row in enumerate(difference):
        assert np.all(row[:time] < 1e-5) and row[time] > 1e-2


def test_tokens_out_are_compared_with_the_tokens_in(model):
    embeddings = np.asarray(model.embedding.embeddings)
    x = np.random.default_rng(0).normal(size=(2, 3, 16)).astype("float32")
    normed = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * np.asarray(model.norm.scale)
    np.testing.assert_allclose(model.read_out(x), normed @ embeddings.T, rtol=1e-3, atol=1e-3)


@backend
def test_with_the_cache_it_says_what_it_says_without(either):
    def read(tokens, position, cache):
        logits, filled = either.next_logits(tokens, position, cache)
        return logits, keras.ops.stack(filled)

    tokens = np.random.default_rng(1).integers(0, 17, (3, CONTEXT)).astype("int32")
    expected, cache = logits_of(either, tokens), either.empty_cache(3)
    signature = [((3,), "int32"), ((), "int32"), (cache.shape, "float32")]
    read = compiled(read, either.variables, signature)
    for position in range(CONTEXT):
        found, cache = read(tokens[:, position], np.int32(position), cache)
        assert abs(np.asarray(found) - expected[:, position]).max() < 1e-4


# Generation against the stated rule


def window_of(tokens):
    """The tokens that are read for the next one: the older half goes when the window is full."""
    window = list(tokens)
    while len(window) > CONTEXT:
        window = window[CONTEXT + 1 - CONTEXT // 2 :]
    return window


def windows_of(prompt, written):
    """What is read for each new token, and the new tokens."""
    tokens, given = LETTERS.encode(written).tolist(), len(prompt)
    windows = [window_of(tokens[:n]) for n in range(given, len(tokens))]
    return windows, tokens[given:]


def test_the_rule_of_the_window_by_hand():
    lengths = [len(window_of(range(n))) for n in range(1, 28)]
    assert lengths == [*range(1, 13), *range(6, 13), *range(6, 13), 6]
    assert window_of(range(13)) == [7, 8, 9, 10, 11, 12]


@backend
@pytest.mark.parametrize("penalty", [1.0, 1.8])
def test_greedy_texts_take_the_likeliest_token_of_the_window_each_time(either, penalty):
    texts = either.generate(PROMPTS, 40, top_k=1, repetition_penalty=penalty)
    clear = []
    for prompt, written in zip(PROMPTS, texts, strict=True):
        assert written.startswith(prompt) and len(written) == len(prompt) + 40
        windows, new = windows_of(prompt, written)
        said = after(either, windows)
        for logits, window, token in zip(said, windows, new, strict=True):
            for seen in set(window):
                logits[seen] *= penalty if logits[seen] < 0 else 1 / penalty
            *_, second, first = np.sort(logits)
            clear.append(first - second > 1e-3)
            assert token == logits.argmax() or not clear[-1]
    assert np.mean(clear) > 0.95 and len(set("".join(texts))) > 5


@pytest.mark.once
@backend
@pytest.mark.parametrize(
    "controls",
    [{"temperature": 0.6, "repetition_penalty": 1.5, "top_k": 17}, {"temperature": 2, "top_k": 4}],
    ids=str,
)
def test_texts_begin_with_each_token_as_often_as_the_logits_say(model, controls):
    texts = model.generate(["deal"] * 500, 1, seed=2, **controls)
    logits = logits_of(model, LETTERS.encode("deal")[None])[0, -1]
    penalty = controls.get("repetition_penalty", 1.0)
    for seen in LETTERS.encode("deal"):
        logits[seen] *= penalty if logits[seen] < 0 else 1 / penalty
    logits[logits < np.sort(logits)[-controls["top_k"]]] = -np.inf
    expected = 500 * softmax(logits / controls["temperature"])
    found = np.bincount([LETTERS.numbers[each[-1]] for each in texts], minlength=17)
    assert not found[np.isinf(logits)].any()
    often = expected > 5
    pairs = [np.append(each[often], each[~often].sum()) for each in (found, expected)]
    statistic = np.sum((pairs[0] - pairs[1]) ** 2 / np.maximum(pairs[1], 1e-9))
    assert stats.chi2(sum(often)).sf(statistic) > 0.01


@backend
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")  # of a single key
@pytest.mark.parametrize("context", [1, CONTEXT])
@pytest.mark.once
def test_where_the_last_token_alone_counts_a_text_is_the_markov_chain_of_the_logits(context):
    letters = tokenizers.CharTokenizer("abc\n")
    model = build(letters, context_length=context, num_layers=1, model_dim=4)  # blocks add nothing
    model.embedding.set_weights([np.random.default_rng(0).normal(0, 0.7, (4, 4))])
    chances = softmax(logits_of(model, [[0], [1], [2], [3]])[:, 0] / 2, axis=-1)
    written = letters.encode(model.generate("a", 1000, temperature=2, seed=1))
    assert len(written) == 1001 and 0.04 < chances.min() < 0.15
    found = np.bincount(4 * written[:-1] + written[1:], minlength=16).reshape(4, 4)
    expected = found.sum(1, keepdims=True) * chances
    assert stats.chi2(12).sf(np.sum((found - expected) ** 2 / expected)) > 0.01


# What its caller may count on


@pytest.mark.once
@backend
def test_the_same_seed_gives_the_same_text_and_another_seed_another(model):
    one, two, three = (model.generate("a", 30, seed=seed) for seed in (1, 1, 2))
    assert one == two != three


@pytest.mark.once
@backend
def test_a_text_does_not_depend_on_the_others_in_its_batch(model):
    texts = model.generate(PROMPTS, 30, temperature=0.5, seed=4)
    assert model.generate(PROMPTS[0], 30, temperature=0.5, seed=4) == texts[0]
    assert model.generate(["nico", PROMPTS[1], "b"], 30, temperature=0.5, seed=4)[1] == texts[1]
    assert len(set(model.generate(["a"] * 3, 30, seed=4))) == 3


@pytest.mark.parametrize("prompt", ["a", "abcdefghijkl"])
def test_a_text_is_as_long_as_asked_and_a_longer_one_begins_alike(model, prompt):
    longest = model.generate(prompt, 60)
    for count in (1, 7, CONTEXT - 1, CONTEXT, CONTEXT + 1, 2 * CONTEXT):
        written = model.generate(prompt, count)
        assert written == longest[: len(prompt) + count] and len(written) == len(prompt) + count
    assert longest.startswith(prompt)


def test_without_a_prompt_it_begins_as_after_a_line_break(model):
    written = model.generate("", 20)
    assert len(written) == 20 and "\n" + written == model.generate("\n", 20)
    assert model.generate(["", "a", "\n"], 3)[0] == written[:3]


def test_after_more_training_it_writes_and_scores_with_its_new_weights(model):
    before, weights = (model.generate("a", 30), model.perplexity(LONG)), model.get_weights()
    model.set_weights([w[::-1] for w in weights])
    changed = model.generate("a", 30), model.perplexity(LONG)
    model.set_weights(weights)
    assert changed[0] != before[0] and changed[1] != pytest.approx(before[1])
    assert (model.generate("a", 30), model.perplexity(LONG)) == before


# Streaming

BYTES = tokenizers.BPETokenizer.train("a" * 9, 257)  # in effect, a token a byte
POEM = "λόγος 道可道 👩‍🔬 é — fin"


@pytest.fixture(scope="module")
def reciter():
    """A model that writes ``POEM`` byte by byte, whatever it reads: its positions say what comes.

    Past the window it goes on from where the kept half is read again.
    """
    tokens, rng = BYTES.encode(POEM), np.random.default_rng(0)
    sizes = {"context_length": len(tokens) - 1, "model_dim": 64, "num_layers": 1}
    model = build(BYTES, positions="learned", **sizes)
    codes = rng.normal(size=(BYTES.vocab_size, 64))
    codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
    model.embedding.set_weights([codes])
    model.place.set_weights([20 * codes[tokens[1:]]])
    return model


def recited(prompt, count):
    """What the reciter writes after a beginning of the poem, by the rule of the window."""
    tokens, given = BYTES.encode(POEM), len(BYTES.encode(prompt))
    again = tokens[(len(tokens) - 1) // 2 :]
    return BYTES.decode(np.concatenate([tokens[given:], *[again] * 9])[:count])


@pytest.mark.parametrize("count", [1, 8, 9, 16, 40, 46, 47, 150])
def test_a_stream_prints_exactly_the_new_text(reciter, capsys, count):
    written = reciter.generate("λό", count, top_k=1, stream=True)
    assert written == "λό" + recited("λό", count)
    assert capsys.readouterr().out == written.removeprefix("λό")
    assert reciter.generate("λό", count, top_k=1) == written and not capsys.readouterr().out


def test_a_stream_grows_by_whole_characters(reciter, monkeypatch):
    printed = []
    monkeypatch.setattr("builtins.print", lambda some, **options: printed.append(some))
    count = len(BYTES.encode(POEM)) - 2  # to its end
    reciter.generate("λ", count, top_k=1, stream=True)
    assert "".join(printed) == POEM[1:] and len(printed) > count / language.STREAMED


def test_a_stream_prints_the_first_text_of_several_as_it_would_be_without(model, capsys):
    texts = model.generate(PROMPTS[::-1], 30, stream=True, seed=3)
    assert capsys.readouterr().out == texts[0].removeprefix(PROMPTS[2])
    assert model.generate(PROMPTS[::-1], 30, seed=3) == texts


# Scoring a text


def by_brute_force(model, tokens, stride):
    """Nats of each token but the first, in the first window that reaches it."""
    ends = range(1, len(tokens))
    starts = [stride * max(0, -(-(n - CONTEXT) // stride)) for n in ends]
    windows = [tokens[start:n] for start, n in zip(starts, ends, strict=True)]
    return log_odds(after(model, windows), tokens[1:])


@pytest.mark.once
@backend
@pytest.mark.parametrize(
    "length, stride", [(2, None), (13, None), (14, None), (48, 1), (48, 5), (48, CONTEXT)]
)
def test_each_token_but_the_first_is_scored_once_from_the_window_that_shows_most(
    model, length, stride
):
    expected = by_brute_force(model, LETTERS.encode(LONG[:length]), stride or CONTEXT)
    np.testing.assert_allclose(model.cross_entropy(LONG[:length], stride), expected, atol=1e-4)


def test_the_scores_of_a_text_follow_from_the_nats_of_its_tokens(model):
    tokens = LETTERS.encode(LONG[:CONTEXT])
    nats = log_odds(logits_of(model, tokens[None, :-1])[0], tokens[1:])
    assert model.perplexity(LONG[:CONTEXT]) == pytest.approx(np.exp(nats.mean()), rel=1e-4)
    bits = nats.sum() / np.log(2) / CONTEXT
    assert model.bits_per_character(LONG[:CONTEXT]) == pytest.approx(bits, rel=1e-4)
    for stride in (1, None):
        nats = model.cross_entropy(LONG, stride=stride)
        assert model.perplexity(LONG, stride=stride) == pytest.approx(np.exp(nats.mean()))
        bits = nats.sum() / np.log(2) / len(LONG)
        assert model.bits_per_character(LONG, stride=stride) == pytest.approx(bits)


def test_bits_are_for_characters_and_perplexity_for_tokens(reciter):
    nats = reciter.cross_entropy(POEM)
    assert len(nats) == len(POEM.encode()) - 1 > len(POEM)
    bits = nats.sum() / np.log(2) / len(POEM)
    assert reciter.bits_per_character(POEM) == pytest.approx(bits)
    assert reciter.perplexity(POEM) == pytest.approx(np.exp(nats.mean()))


def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_tokens():
    flat = build(num_layers=1)
    flat.embedding.set_weights([np.zeros((17, 16))])
    assert flat.perplexity(LONG) == pytest.approx(17, rel=1e-5)


# Training


@backend
def test_the_loss_is_the_mean_nats_of_the_targets_that_count(model):
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, 17, (2, 4, CONTEXT)).astype("int32")
    targets[3] = range(CONTEXT)
    logits = logits_of(model, tokens)
    nats = log_odds(logits, targets)
    assert float(model.compute_loss(y=targets, y_pred=logits)) == pytest.approx(nats.mean())
    targets[rng.random(targets.shape) < 0.5] = tokenizers.IGNORED
    targets[0] = tokenizers.IGNORED
    expected = nats[targets >= 0].mean()
    assert float(model.compute_loss(y=targets, y_pred=logits)) == pytest.approx(expected)
    nothing = np.full_like(targets, tokenizers.IGNORED)
    assert float(model.compute_loss(y=nothing, y_pred=logits)) == 0


def test_the_loss_of_an_epoch_weighs_each_token_alike():
    model, rng = shaken(), np.random.default_rng(0)
    tokens, targets = rng.integers(0, 17, (2, 4, CONTEXT)).astype("int32")
    targets[:2, 3:] = tokenizers.IGNORED
    model.compile()
    loss = model.evaluate(tokens, targets, batch_size=2, verbose=0)
    nats = log_odds(logits_of(model, tokens), targets)
    assert loss == pytest.approx(nats[targets >= 0].mean(), rel=1e-4)


def test_the_first_weights_are_a_function_of_the_seed():
    one, two, three = (build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, two)) and not all(map(np.array_equal, one, three))


def train(folder, resume=False):
    """Train a small model on help texts in a run folder. Returns it, its history and the text."""
    topics = data.load_text("pydoc", limit=20_000)
    tokenizer = tokenizers.CharTokenizer(topics.train)
    model = build(tokenizer, num_layers=1, model_dim=32, context_length=32, dropout=0.1)
    windows = training.Windows(tokenizer.encode(topics.train), 32, 16)
    model.compile(optimizer=training.text_muon(0.02, 4 * len(windows)))
    run = runs.Run("09_gpt", {"run_dir": str(folder), "resume": resume, "epochs": 4})
    return model, training.fit(model, windows, run, 4).history, topics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and what ``train`` returned."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, *train(folder)


@backend
def test_it_learns_how_english_is_written(trained):
    _, model, history, topics = trained
    losses = [row["loss"] for row in history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 2.3
    assert model.cross_entropy(topics.validation).mean() < 2.5 < np.log(model.vocab_size)


@backend
def test_a_killed_run_that_resumes_ends_with_the_weights_of_one_that_was_not(trained, tmp_path):
    folder, straight, history, _ = trained
    shutil.copytree(folder, tmp_path / "killed")
    (tmp_path / "killed" / "checkpoints" / "epoch_00004.npz").unlink()  # in its last epoch
    resumed, continued, _ = train(tmp_path / "killed", resume=True)
    assert [row["seconds"] for row in continued[:3]] == [row["seconds"] for row in history[:3]]
    assert_same(straight, resumed, (history, continued))
    assert continued[3]["loss"] < continued[2]["loss"]


@pytest.mark.once
@backend
def test_dropout_drops_in_training_alone():
    model, tokens = shaken(dropout=0.5), LETTERS.encode("on")[None]
    still, again, dropped = (np.asarray(model(tokens, training=t)) for t in (False, False, True))
    assert np.array_equal(still, again) and not np.allclose(still, dropped)


# Keeping


@backend
def test_a_saved_model_gives_the_same_logits_and_keeps_its_options(tmp_path):
    model = shaken(positions="learned", dropout=0.25, seed=3)
    model.compile(optimizer=training.text_muon(0.01, 10))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "gpt.keras")
    loaded = keras.models.load_model(tmp_path / "gpt.keras")
    assert loaded.get_config() == model.get_config()
    tokens = LETTERS.encode(LONG[:CONTEXT])[None]
    assert np.array_equal(logits_of(loaded, tokens), logits_of(model, tokens))


@pytest.fixture
def shipped(tmp_path, monkeypatch, model):
    """A folder of checkpoints that holds one, ``toy``. Returns its file."""
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    copy = build()
    copy.set_weights(model.get_weights())
    checkpoints.publish(copy, "toy", parameters=copy.get_config())
    return tmp_path / "toy.weights.h5"


def test_a_shipped_model_is_built_from_its_line_in_the_manifest(shipped, model):
    loaded, tokens = gpt.load_gpt("toy"), LETTERS.encode(LONG[:CONTEXT])[None]
    assert np.array_equal(logits_of(loaded, tokens), logits_of(model, tokens))
    assert json.loads((shipped.parent / "manifest.json").read_text())["toy"]["parameters"]


def test_a_damaged_model_is_refused(shipped):
    content = bytearray(shipped.read_bytes())
    content[len(content) // 2] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(UserError, match=r"toy.weights.h5 is damaged or changed .*git checkout"):
        gpt.load_gpt("toy")


# Refusing


@pytest.mark.parametrize(
    "options, words",
    [
        ({"positions": "rotory"}, "positions='rotory' does not exist; .* Did you mean 'rotary'"),
        ({"model_dim": 16, "num_heads": 3}, "model_dim=16 does not fit num_heads=3; .* of 6"),
        ({"model_dim": 6, "num_heads": 2}, "model_dim=6 does not fit num_heads=2; .* of 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        build(**options)


@pytest.mark.parametrize(
    "prompt, options, words",
    [
        ("abc" * 5, {}, f"the prompt has 15 tokens; this model reads {CONTEXT} at most"),
        (["a", "abc" * 5], {}, "the prompt has 15 tokens"),
        ("abcxyz", {}, "characters 'x' 'y' 'z' did not occur"),
        ("a", {"n_tokens": 0}, "n_tokens=0"),
        ("a", {"temperature": np.nan}, "temperature=nan"),
        ("a", {"top_k": 1.5}, "top_k=1.5"),
    ],
)
def test_what_cannot_be_generated_is_refused(model, prompt, options, words):
    with pytest.raises(UserError, match=words):
        model.generate(prompt, **options)


@pytest.mark.parametrize("stride", [0, -1, CONTEXT + 1, np.nan])
def test_a_stride_out_of_its_range_is_refused(model, stride):
    with pytest.raises(UserError, match=f"stride={stride} .*from 1 to {CONTEXT}"):
        model.cross_entropy(LONG, stride)


@pytest.mark.parametrize("written", ["", "a"])
def test_a_text_without_a_second_token_has_no_score(model, written):
    with pytest.raises(UserError, match="needs 2 tokens"):
        model.perplexity(written)
