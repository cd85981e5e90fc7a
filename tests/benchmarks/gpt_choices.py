"""What each choice of lesson 09's recipe buys: leave one out, equal tokens, Shakespeare.

``python tests/benchmarks/gpt_choices.py [STEPS [SEEDS]]`` prints a Markdown table at 4 layers, 4
heads, 128 numbers, context 64: the nats a token on the whole validation text after STEPS (300)
steps of 16 windows, over SEEDS (3) seeds, and the time of a step relative to the recipe's, from
rounds in turn.
"""

import sys
import time
from contextlib import nullcontext
from unittest import mock

import numpy as np

from genlib import data, training
from genlib.models import gpt, tokenizers
from genlib.training.backend import keras
from genlib.training.optimizers import text_muon, warmup_cosine

BATCH, CONTEXT = 16, 64
ops = keras.ops


def adam(rate, steps):
    """AdamW as small GPTs use it."""
    rate = warmup_cosine(rate, steps, warmup=20)
    return keras.optimizers.AdamW(rate, beta_2=0.99, weight_decay=0.1)


def split_without_norms(self, x, position=0):
    """``CausalSelfAttention.split``, queries and keys as they come."""
    time, head_dim = x.shape[1], self.model_dim // self.num_heads
    parts = ops.reshape(self.project(x), (-1, time, 3, self.num_heads, head_dim))
    queries, keys, values = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)))
    positions = position + ops.arange(time)
    return gpt.rotate(queries, positions), gpt.rotate(keys, positions), values


def squared_relu(x):
    """As in Primer (So et al. 2021)."""
    return ops.square(ops.maximum(x, 0.0))


VARIANTS = {  # what differs from the recipe
    "all of them": {},
    "AdamW (4e-3) instead of Muon": {"optimizer": adam, "rate": 4e-3},
    "AdamW (8e-3) instead of Muon": {"optimizer": adam, "rate": 8e-3},
    "AdamW (1.6e-2) instead of Muon": {"optimizer": adam, "rate": 1.6e-2},
    "learned positions instead of rotary": {"positions": "learned"},
    "queries and keys not normalised": {
        "patch": (gpt.CausalSelfAttention, "split", split_without_norms)
    },
    "GELU instead of ReLU": {"patch": (gpt.ops, "relu", ops.gelu)},
    "squared ReLU instead of ReLU": {"patch": (gpt.ops, "relu", squared_relu)},
    "last matrices random instead of zero": {"random": True},
    "not compiled by XLA": {"jit_compile": False},
}


def build(
    tokenizer,
    steps,
    optimizer=text_muon,
    rate=1e-2,
    positions="rotary",
    patch=None,
    random=False,
    jit_compile=True,
    seed=0,
):
    """A compiled model of one variant, and the patch that its tracing needs."""
    model = gpt.GPT(tokenizer, context_length=CONTEXT, positions=positions, seed=seed)
    if random:
        for block in model.blocks:
            for layer in (block.attention.merge, block.narrow):
                layer.kernel.assign(keras.initializers.GlorotUniform(seed)(layer.kernel.shape))
    model.compile(optimizer=optimizer(rate, steps), jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model, lambda: mock.patch.object(*patch) if patch else nullcontext()


def step_times(tokenizer, tokens, rounds=4):
    """Median time of a training step of each variant, relative to the first, rounds in turn."""
    probe = training.Windows(tokens[: BATCH * CONTEXT * 42], CONTEXT, BATCH).stream()
    models = {name: build(tokenizer, 1000, **options) for name, options in VARIANTS.items()}
    times = {name: [] for name in models}
    for _ in range(rounds + 1):  # the first compiles
        for name, (model, patched) in models.items():
            began = time.perf_counter()
            with patched():
                model.fit(probe, shuffle=False, verbose=0)
            times[name].append(time.perf_counter() - began)
    table = np.array(list(times.values()))[:, 1:]
    return dict(zip(times, np.median(table / table[0], axis=1), strict=True))


def main(steps=300, seeds=3):
    """Print the table."""
    corpus = data.load_text("shakespeare")
    tokenizer = tokenizers.CharTokenizer(corpus.train)
    tokens = tokenizer.encode(corpus.train)
    cost = step_times(tokenizer, tokens)
    print("| | time a step | validation loss, nats |\n|---|---|---|")
    for name, options in VARIANTS.items():
        found = []
        for seed in range(seeds):
            model, patched = build(tokenizer, steps, **options, seed=seed)
            stream = training.Windows(tokens, CONTEXT, BATCH, seed).stream()
            with patched():
                model.fit(stream, steps_per_epoch=steps, shuffle=False, verbose=0)
                found.append(model.cross_entropy(corpus.validation).mean())
        low, high = min(found), max(found)
        said = f"{np.mean(found):.3f} ({low:.3f} to {high:.3f})"
        print(f"| {name} | {cost[name]:.2f} | {said} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
