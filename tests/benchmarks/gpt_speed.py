"""How fast the GPT of lesson 09 learns and writes, at the sizes of nanoGPT's small recipes.

``python tests/benchmarks/gpt_speed.py`` prints, for Shakespeare by characters,

- seconds of training, compilation counted, and the nats a token on the whole validation text
  (4 layers, 4 heads, 128 numbers, context 64; nanoGPT's README: 1.8857 after 2,000 steps);
- tokens/s of training in steady state at batch 12, with nanoGPT's AdamW and with Muon;
- tokens/s of generation at context 256 for one and for 16 texts, 4 × 128 and 6 × 384, and the
  largest difference between logits with and without the cache.
"""

import time

import numpy as np

from genlib import data, training
from genlib.models import gpt, tokenizers
from genlib.training.backend import keras
from genlib.training.optimizers import text_muon as muon


def perturbed(tokenizer, **sizes):
    """A model whose zero matrices are not zero, as after training."""
    model, rng = gpt.GPT(tokenizer, **sizes), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.02 * rng.standard_normal(variable.shape))
    return model


def learn(tokenizer, corpus, steps=240, batch_size=16, learning_rate=1e-2):
    """Train for some steps of 16 windows, from all over the text."""
    windows = training.Windows(tokenizer.encode(corpus.train), 64, batch_size)
    model = gpt.GPT(tokenizer)
    began = time.perf_counter()
    model.compile(optimizer=muon(learning_rate, steps), jit_compile=True)
    model.fit(windows.stream(), steps_per_epoch=steps, shuffle=False, verbose=0)
    seconds = time.perf_counter() - began
    nats = model.cross_entropy(corpus.validation).mean()
    print(f"{steps} steps of {batch_size} × 64: {seconds:.1f} s, {nats:.4f} nats", flush=True)


def train(tokenizer, corpus, name, optimizer, batch_size=12):
    """Tokens/s in steady state."""
    windows = training.Windows(tokenizer.encode(corpus.train)[:200_000], 64, batch_size)
    model = gpt.GPT(tokenizer)
    model.compile(optimizer=optimizer, jit_compile=True)
    speeds = []
    for _ in range(4):  # the first compiles
        began = time.perf_counter()
        model.fit(windows.stream(), shuffle=False, verbose=0)
        speeds.append(len(windows) * batch_size * 64 / (time.perf_counter() - began))
    said = f"{min(speeds[1:]):,.0f} to {max(speeds[1:]):,.0f} tokens/s"
    print(f"training at batch {batch_size} with {name}: {said}", flush=True)


def write(tokenizer, num_layers, num_heads, model_dim):
    """Tokens/s of generation, and the cache's error."""
    sizes = {"num_layers": num_layers, "num_heads": num_heads, "model_dim": model_dim}
    model = perturbed(tokenizer, context_length=256, **sizes)
    for batch in (1, 16):
        speeds = []
        for seed in range(6):  # the first compiles
            began = time.perf_counter()
            model.generate([""] * batch, 256, seed=seed)
            speeds.append(256 * batch / (time.perf_counter() - began))
        name = f"{num_layers} × {model_dim}, {batch} texts"
        print(f"{name}: {np.median(speeds[1:]):,.0f} tokens/s", flush=True)
    tokens = np.random.default_rng(0).integers(0, tokenizer.vocab_size, 256)
    whole, cache, error = np.asarray(model(tokens[None]))[0], list(model.empty_cache(1)), 0.0
    for position, token in enumerate(tokens):
        logits, cache = model.next_logits(np.array([token]), position, cache)
        error = max(error, np.abs(np.asarray(logits)[0] - whole[position]).max())
    print(f"logits with and without the cache differ by {error:.1e} at most", flush=True)


def main():
    """Print all numbers."""
    corpus = data.load_text("shakespeare")
    tokenizer = tokenizers.CharTokenizer(corpus.train + corpus.validation)
    learn(tokenizer, corpus)
    train(tokenizer, corpus, "AdamW", keras.optimizers.AdamW(1e-3))
    train(tokenizer, corpus, "Muon", muon(1e-2, 1000))
    write(tokenizer, 4, 4, 128)
    write(tokenizer, 6, 6, 384)


if __name__ == "__main__":
    main()
