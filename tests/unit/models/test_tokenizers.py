"""Tokenizers lose nothing, and an epoch of windows goes once through a text, in a known order."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genlib import UserError, data
from genlib.models import gpt, tokenizers
from genlib.training.backend import keras

TOKENS = np.arange(1000, 1104, dtype="int32")  # 104 tokens, each of which tells its place
any_text = st.text(max_size=60)
BPE = tokenizers.BPETokenizer.train(
    "the tea, the sea; ἐν ἀρχῇ ἦν ὁ λόγος 道可道，非常道。\n" * 20, 300
)
CHARACTERS = tokenizers.CharTokenizer("naïve café\n\t\r“λόγος” 道可道 👩‍🔬 \u0301\u2028\x00")


@pytest.fixture(scope="module")
def topics():
    return data.load_text("pydoc", limit=20_000)


# Tokenizers


@given(any_text)
@example("\r\n \u00a0\u2028\u3000\ufeff\x00\x1c tail  ")
@example("👩‍🔬 é e\u0301 ﷽ \U0010ffff <|endoftext|> [UNK] Ġ Ċ \ufffd")
def test_bpe_returns_any_text_as_it_was(written):
    tokens = BPE.encode(written)
    assert tokens.dtype == np.int32 and tokens.ndim == 1
    assert BPE.decode(tokens) == written
    assert not written or (tokens.min() >= 0 and tokens.max() < BPE.vocab_size)


@given(st.text(alphabet=CHARACTERS.characters, max_size=60))
def test_characters_return_any_text_of_theirs_as_it_was(written):
    tokens = CHARACTERS.encode(written)
    assert tokens.dtype == np.int32 and tokens.shape == (len(written),)
    assert CHARACTERS.decode(tokens) == written


def test_the_tokens_of_characters_follow_the_order_of_unicode():
    tokenizer = tokenizers.CharTokenizer("banana\n")
    assert tokenizer.vocab_size == 4 and tokenizer.characters == "\nabn"
    assert tokenizer.encode("nab\n").tolist() == [3, 1, 2, 0]
    assert tokenizers.CharTokenizer("\nnab").get_config() == tokenizer.get_config()


def test_an_unknown_character_is_named():
    with pytest.raises(UserError, match=r"'!' 'c' did not occur.*tokenizer=bpe"):
        tokenizers.CharTokenizer("ab").encode("abc!")


def test_bpe_has_as_many_tokens_as_asked_for_and_the_more_the_shorter_a_text(topics):
    lengths = [len(topics.validation.encode())]  # of bytes
    for size in (257, 300, 400):
        tokenizer = tokenizers.BPETokenizer.train(topics.train, size)
        assert tokenizer.vocab_size == size
        lengths.append(len(tokenizer.encode(topics.validation)))
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 4


def test_bpe_has_fewer_tokens_when_no_pair_is_left():
    tokenizer = tokenizers.BPETokenizer.train("abab " * 300, 5000)
    assert 257 < tokenizer.vocab_size < 280
    assert tokenizer.decode(tokenizer.encode("abab ☃")) == "abab ☃"


def test_bpe_learns_the_most_frequent_pair_first():
    tokenizer = tokenizers.BPETokenizer.train("tatatata so " * 100, 257)
    assert len(tokenizer.encode("tata")) == 2 and len(tokenizer.encode("so")) == 2


def test_bpe_of_the_same_text_is_the_same(topics):
    one, two = (tokenizers.BPETokenizer.train(topics.train, 300).rules for _ in range(2))
    assert one == two


@pytest.mark.parametrize("size", [0, 256])
def test_bpe_refuses_fewer_tokens_than_bytes(size):
    with pytest.raises(UserError, match=f"vocab_size={size} is too few.*257"):
        tokenizers.BPETokenizer.train("some text", size)


@pytest.mark.backend
@pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE], ids=["characters", "bpe"])
def test_a_tokenizer_is_saved_in_its_model(tokenizer, tmp_path):
    model = gpt.GPT(tokenizer, num_layers=1, num_heads=1, model_dim=4, context_length=4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").tokenizer
    written = "λόγος 道可道 café\n"
    assert type(loaded) is type(tokenizer) and loaded.vocab_size == tokenizer.vocab_size
    assert np.array_equal(loaded.encode(written), tokenizer.encode(written))
    assert loaded.decode(loaded.encode(written)) == written


def test_the_tokenizers_by_name(topics):
    made = {name: make(topics.train, 300) for name, make in tokenizers.TOKENIZERS.items()}
    assert made["characters"].vocab_size == len(set(topics.train))
    assert made["bpe"].vocab_size == 300


# Windows
