"""Low-rank adaptation (Hu et al. 2022): freeze a model's matrices, train thin products beside them.

Built on Keras's own ``enable_lora``, so it works for any model of dense layers, KerasHub's too.
"""

import io

import numpy as np

from genlib import UserError
from genlib.data.readers import read_npz
from genlib.files import write
from genlib.training.backend import keras

ops = keras.ops


def add_lora(model, rank, alpha=None, only=()):
    """Freeze ``model`` and put an adapter beside each matrix W: x W + (α / rank) x A B.

    A (d_in, rank) starts at random, B (rank, d_out) at zero, so nothing changes at first. alpha:
    α, by default the rank. only: names of layers that get one, by default all that can. Compile the
    model afterwards. Returns the number of adapters; raises ``UserError`` where there is no layer.
    """
    layers = [layer for layer in dense_layers(model) if not only or layer.name in only]
    if not layers or not rank >= 1 or set(only) - {layer.name for layer in layers}:
        raise UserError(
            f"rank={rank} with only={list(only)} gives no adapter; give a rank of 1 or more, and "
            "names of dense layers."
        )
    if adapted(model):
        raise UserError("this model has adapters already; merge them first, or build it anew.")
    for variable in model.variables:
        variable.trainable = False
    for layer in layers:
        layer.enable_lora(rank, lora_alpha=alpha or rank)
    if hasattr(model, "functions"):
        model.functions.clear()  # compiled without the adapters
    return len(layers)


def dense_layers(model):
    """The layers of ``model`` that have a matrix and can have an adapter, embeddings left out."""
    return [
        layer
        for layer in model._flatten_layers()
        if hasattr(layer, "enable_lora") and getattr(layer, "kernel", None) is not None
    ]


def adapted(model):
    """The layers of ``model`` that have an adapter."""
    return [x for x in model._flatten_layers() if getattr(x, "lora_enabled", False)]


def merge(model):
    """Add each adapter to its matrix, in place: the same outputs, at the plain model's cost."""
    for layer in adapted(model):
        update = ops.matmul(layer.lora_kernel_a, layer.lora_kernel_b)
        layer._kernel.assign(layer._kernel + layer.lora_alpha / layer.lora_rank * update)
        layer.lora_kernel_b.assign(np.zeros(layer.lora_kernel_b.shape))
        layer.lora_enabled = False
    if hasattr(model, "functions"):
        model.functions.clear()  # compiled with the adapters


def save_adapter(path, model):
    """Save the adapters alone, a small ``.npz``. Returns its bytes. Raises ``UserError`` if there
    are none, as after ``merge``."""
    if not adapted(model):
        raise UserError("this model has no adapters to save; save them before they are merged.")
    arrays = {}
    for i, layer in enumerate(adapted(model)):
        arrays[f"{i:03d}_a"], arrays[f"{i:03d}_b"] = map(
            np.asarray, (layer.lora_kernel_a.value, layer.lora_kernel_b.value)
        )
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write(path, buffer.getvalue())
    return len(buffer.getvalue())


def load_adapter(path, model):
    """Load what ``save_adapter`` saved into a model with adapters of the same rank.

    Raises ``UserError`` for a damaged file or one that does not fit, and changes nothing then.
    """
    arrays, layers = read_npz(path), adapted(model)
    pairs = [
        (variable, arrays.get(f"{i:03d}_{part}"))
        for i, layer in enumerate(layers)
        for part, variable in (("a", layer.lora_kernel_a), ("b", layer.lora_kernel_b))
    ]
    if len(arrays) != len(pairs) or any(
        array is None or array.shape != tuple(variable.shape) for variable, array in pairs
    ):
        raise UserError(
            f"{path} does not fit this model's {len(layers)} adapters; add adapters of the rank "
            "that it was trained with."
        )
    for variable, array in pairs:
        variable.assign(array)
