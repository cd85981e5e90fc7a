"""From logits to a token: temperature, top-k, top-p, min-p and a penalty for repetition."""

import numpy as np

from genlib import UserError
from genlib.training.backend import keras

ops = keras.ops


def filter_logits(logits, top_k=0, top_p=1.0, min_p=0.0):
    """−∞ for tokens that must not be drawn. logits and the result: (batch, vocab_size).

    top_k: keep the k likeliest (Fan et al. 2018), 0 keeps all. top_p: keep the fewest likeliest
    tokens that have at least this probability together (Holtzman et al. 2020). min_p: keep those
    with at least this share of the likeliest one's probability (Nguyen et al. 2025). Tokens as
    likely as the last one kept are kept too.
    """
    falling = ops.flip(ops.sort(logits, axis=-1), axis=-1)
    probability = ops.softmax(falling)
    before = ops.cumsum(probability, axis=-1) - probability  # of all likelier tokens
    rank = ops.arange(logits.shape[-1], dtype="float32")
    kept = ((before < top_p) | (top_p == 1)) & ((rank < top_k) | (top_k == 0))
    kept = kept & (probability >= min_p * probability[:, :1]) | (rank == 0)
    lowest = ops.min(ops.where(kept, falling, np.inf), axis=-1, keepdims=True)
    return ops.where(logits >= lowest, logits, -np.inf)


def penalise(logits, seen, penalty):
    """Make tokens that occurred less likely (after Keskar et al. 2019): divide positive logits by
    ``penalty``, multiply negative ones. logits, seen (booleans): (batch, vocab_size)."""
    return ops.where(seen, ops.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose_token(logits, uniform):
    """Draw from softmax(logits) by the inverse of its distribution function: int32 (batch,).

    uniform: (batch,) in [0, 1). The same numbers draw the same tokens on every backend.
    """
    probability = ops.softmax(logits)
    # Sums in float32 may fall by a bit where they should stay: look at possible tokens alone.
    reached = ops.where(probability > 0, ops.cumsum(probability, axis=-1), 0.0)
    beyond = reached > uniform[:, None] * ops.max(reached, axis=-1, keepdims=True)
    return ops.cast(ops.argmax(ops.cast(beyond, "int32"), axis=-1), "int32")


def check_controls(temperature, top_k, top_p, min_p, repetition_penalty):
    """Raise ``UserError`` for a control of sampling that is out of range."""
    ranges = {
        "temperature": (temperature, temperature > 0, "a number above 0 (top_k=1 is greedy)"),
        "top_k": (top_k, top_k is None or (top_k >= 1 and top_k % 1 == 0), "1, 2, … or None"),
        "top_p": (top_p, 0 < top_p <= 1, "a number above 0, at most 1 (1 keeps all)"),
        "min_p": (min_p, 0 <= min_p <= 1, "a number from 0 (keeps all) to 1"),
        "repetition_penalty": (
            *(repetition_penalty, repetition_penalty >= 1),
            "a number from 1 (no penalty) up",
        ),
    }
    for name, (value, fine, allowed) in ranges.items():
        if not fine:
            raise UserError(f"{name}={value} is not possible; give {allowed}.")
