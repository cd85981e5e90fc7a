"""Training and writing of the course's GPT beside nanoGPT's small recipe, put into Keras.

nanoGPT's recipe for a CPU (its README): 4 layers, 4 heads, 128 numbers, context 64, batch 12, AdamW
at 1e-3, learned positions, not compiled; each token of a text is drawn from the whole window anew.
Ours is lesson 09's: Muon, rotary positions, batch 16, compiled by XLA; a cache of keys and values.
"""

import time

import numpy as np
from pairs import Pair

from genlib import UserError, data, training
from genlib.models import gpt, tokenizers
from genlib.training import keras

CONTEXT = 64
PUBLISHED = "nanoGPT's README: 1.8857 after 2,000 steps of 12 windows"
STEPS = {16: 240, 12: 2000}  # {windows a step: steps} to that loss, of our recipe and of theirs


def train_by(optimizer, batch_size, tokenizer, tokens, compiled, positions):
    """A function that trains a model once on the tokens."""
    model = gpt.GPT(tokenizer, context_length=CONTEXT, positions=positions)
    model.compile(optimizer=optimizer, jit_compile=compiled)
    windows = training.Windows(tokens, CONTEXT, batch_size)
    return lambda: model.fit(windows.stream(), shuffle=False, verbose=0)


def by_whole_windows(model, count):
    """A function that draws ``count`` tokens as nanoGPT does: each from the whole text so far. A
    forward pass takes that, filled up to a multiple of 32, so that eight of them are traced."""
    import tensorflow as tf

    forward = tf.function(lambda tokens: model(tokens))

    def write():
        rng, tokens = np.random.default_rng(0), np.zeros((1, count + 32), "int32")
        for known in range(1, count + 1):
            logits = forward(tf.constant(tokens[:, : -known // 32 * -32]))[0, known - 1].numpy()
            chances = np.exp(logits - logits.max())
            tokens[0, known] = rng.choice(len(logits), p=chances / chances.sum())

    return write


def pairs():
    corpus = data.load_text("pydoc")
    tokenizer = tokenizers.CharTokenizer(corpus.train)
    tokens = tokenizer.encode(corpus.train)[:100_000]
    muon, adam = training.text_muon(1e-2, 1000), keras.optimizers.AdamW(1e-3, beta_2=0.99)
    course = train_by(muon, 16, tokenizer, tokens, True, "rotary")
    recipe = train_by(adam, 12, tokenizer, tokens, False, "learned")
    model, length = gpt.GPT(tokenizer, context_length=256), 256

    plain = by_whole_windows(model, length)
    # An epoch's share of such a training, times the seconds of an hour.
    hourly = [3600 * len(tokens) / (steps * size * CONTEXT) for size, steps in STEPS.items()]

    def write():
        model.generate("", n_tokens=length)

    return [
        Pair("GPT, training to nanoGPT's loss", "trainings/h", hourly, course, recipe),
        Pair("GPT, writing one text", "tokens/s", (length, length), write, plain),
    ]


def learn(steps=STEPS[16], batch_size=16, learning_rate=1e-2):
    """Train on Shakespeare as lesson 09 does. Returns a sentence on seconds and nats, which says
    whether our steps are enough."""
    try:
        corpus = data.load_text("shakespeare")
    except UserError as error:
        return f"GPT: not trained on Shakespeare, since {error}"
    tokenizer = tokenizers.CharTokenizer(corpus.train)
    windows = training.Windows(tokenizer.encode(corpus.train), CONTEXT, batch_size)
    model = gpt.GPT(tokenizer, context_length=CONTEXT)
    began = time.perf_counter()
    model.compile(optimizer=training.text_muon(learning_rate, steps), jit_compile=True)
    model.fit(windows.stream(), steps_per_epoch=steps, shuffle=False, verbose=0)
    seconds = time.perf_counter() - began
    nats = model.cross_entropy(corpus.validation + corpus.test).mean()  # nanoGPT's held-out tenth
    told = f"{steps} steps of {batch_size} windows in {seconds:.0f} s, compilation counted"
    return f"GPT on Shakespeare: {told}: {nats:.4f} nats a token ({PUBLISHED})."
