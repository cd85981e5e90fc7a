"""GPT-2 from KerasHub behind the course's own interface: same training, same scores, same controls.

Needs the extra ``keras-hub``: ``pip install -c constraints.txt -e '.[keras-hub]'``.
"""

import importlib.util
import os

import numpy as np

from genlib import UserError
from genlib.models.language import LanguageModel
from genlib.training.backend import keras

ops = keras.ops


class HubTokenizer:
    """KerasHub's tokenizer with the interface of ``genlib.models.tokenizers``."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    @property
    def vocab_size(self):
        """How many tokens there are."""
        return self.tokenizer.vocabulary_size()

    def encode(self, text):
        """Text → int32 NumPy (n,)."""
        return np.asarray(self.tokenizer(text), "int32")

    def decode(self, tokens):
        """Tokens (n,) → text; bytes that are no whole character become �."""
        return str(self.tokenizer.detokenize(np.asarray(tokens)))


class HubGPT(LanguageModel):
    """A ``keras_hub.models.GPT2CausalLM`` that trains, scores and generates as ``gpt.GPT`` does.

    context_length: the most tokens that it reads at once; 0 takes all that it was built for. Raises
    ``UserError`` for more.
    """

    def __init__(self, causal_lm, context_length=0):
        longest = causal_lm.backbone.max_sequence_length
        if context_length > longest:
            raise UserError(
                f"context_length={context_length} is too long; this model reads {longest} at most."
            )
        tokenizer = HubTokenizer(causal_lm.preprocessor.tokenizer)
        super().__init__(tokenizer, context_length or longest)
        self.causal_lm, self.backbone = causal_lm, causal_lm.backbone
        self(np.zeros((1, 2), "int32"))

    def call(self, tokens, training=False):
        """Tokens (batch, time) → logits of the next one (batch, time, vocab_size)."""
        inputs = {"token_ids": tokens, "padding_mask": ops.ones_like(tokens)}
        hidden = self.backbone(inputs, training=training)
        return self.backbone.token_embedding(hidden, reverse=True)

    def empty_cache(self, batch):
        """Room for keys and values, in KerasHub's layout, behind a first axis of length 1."""
        backbone = self.backbone
        heads, layers = backbone.num_heads, backbone.num_layers
        size = (batch, layers, 2, self.context_length, heads, backbone.hidden_dim // heads)
        return np.zeros((1, *size), "float32")

    def next_logits(self, tokens, position, cache):
        """Logits (batch, vocab_size) after the tokens (batch,) at ``position``, and the cache."""
        logits, _, filled = self.causal_lm.call_with_cache(tokens[:, None], cache[0], position)
        return logits[:, 0], [filled]


def require():
    """Raise ``UserError`` where KerasHub is not installed."""
    if importlib.util.find_spec("keras_hub") is None:
        raise UserError(
            "GPT-2 needs the extra keras-hub; install it: pip install -c constraints.txt -e "
            "'.[keras-hub]'."
        )


def load_gpt2(preset, context_length=0):
    """Return a GPT-2 by the name of a preset, such as "gpt2_base_en", or from a preset's folder.

    A name is downloaded once (500 MB for the smallest) and needs a network then; a folder that
    ``save_to_preset`` wrote needs none. Raises ``UserError`` where either is not to be had.
    """
    require()
    import keras_hub

    offline = os.environ.get("GENLIB_OFFLINE", "0") not in ("", "0")
    if not os.path.isdir(preset) and offline:
        raise UserError(
            f"preset={preset!r} is no folder, and GENLIB_OFFLINE=1 forbids a download; give the "
            "folder of a preset."
        )
    try:
        causal_lm = keras_hub.models.GPT2CausalLM.from_preset(preset)
    except Exception as error:  # KerasHub wraps network, file and name errors in many kinds
        raise UserError(
            f"preset={preset!r} cannot be loaded ({' '.join(str(error).split())[:160]}); give a "
            "name that KerasHub knows, with a network, or the folder of a preset."
        ) from None
    return HubGPT(causal_lm, context_length)
