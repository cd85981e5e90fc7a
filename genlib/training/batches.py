"""Shuffled batches of examples, of images and of windows of tokens, for ``fit``.

Their order is a function of (seed, epoch), so a resumed run repeats an uninterrupted one.
"""

import numpy as np

from genlib import UserError
from genlib.training.backend import keras

ops = keras.ops


class Shuffled(keras.utils.PyDataset):
    """Rows of arrays in batches, shuffled anew each epoch.

    arrays: of equal length ``count``; a batch is a tuple of their rows. The order is a function of
    (seed, epoch) alone: ``fit`` asks for the batches in an order of its own, from Python's global
    random state, and gets them in ours. The last, incomplete batch is left out.

    Raises ``UserError`` for a batch that is larger than all.
    """

    rows = "examples"  # what they are called in an error

    def __init__(self, arrays, batch_size, seed=0, count=None):
        super().__init__()
        self.arrays, self.count = arrays, len(arrays[0]) if count is None else count
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self._shuffled = None  # the epoch that the present order belongs to
        self._asked = None  # within an epoch of fit: the number of batches asked for
        if self.count < batch_size:
            raise UserError(
                f"batch_size={batch_size} is more than the {self.count} training {self.rows}; "
                "lower it."
            )

    def __len__(self):
        return self.count // self.batch_size

    def cut(self, rows, arrays, take):
        """A batch, a tuple, from the rows' numbers; take: (array, indices) → the array at these."""
        return tuple(take(array, rows) for array in arrays)

    def permutation(self):
        """The rows' numbers in the order of this epoch: NumPy (count,)."""
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.count)

    def stream(self):
        """What to give to ``fit``, with ``shuffle=False``: on TensorFlow a ``tf.data`` pipeline,
        elsewhere this object.

        Keras would wrap this object in a pipeline that tunes itself, and TensorFlow 2.21 ends such
        a pipeline only when the tuner wakes: after a few epochs, many seconds later.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        arrays = [tf.constant(array) for array in self.arrays]

        def rows(_):
            order = tf.numpy_function(self._next_order, [], tf.int64, stateful=True)
            order = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, [self.count]))
            return order.batch(self.batch_size, drop_remainder=True)

        def batch(rows):
            return self.cut(rows, arrays, tf.gather)

        batches = tf.data.Dataset.from_tensors(0).flat_map(rows).map(batch).prefetch(2)
        options = tf.data.Options()
        options.autotune.enabled = False
        count = tf.data.experimental.assert_cardinality(len(self))
        return batches.apply(count).with_options(options)

    def _next_order(self):
        order = self.permutation()
        self.epoch += 1
        return order

    def __getitem__(self, index):
        if self._shuffled != self.epoch:
            self._order, self._shuffled = self.permutation(), self.epoch
        if self._asked is not None:
            index, self._asked = self._asked % len(self), self._asked + 1
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.cut(rows, self.arrays, lambda array, indices: array[indices])
        return batch if len(batch) > 1 else np.asarray(batch[0])  # Keras wants a tuple or NumPy

    def on_epoch_begin(self):
        self._asked = 0

    def on_epoch_end(self):
        if self._asked is not None:  # fit calls this once before the first epoch too
            self.epoch += 1
        self._asked = None


class Batches(Shuffled):
    """Images, and labels if given, in shuffled batches.

    images: uint8 (N, height, width, channels); a batch is float32 in [-1, 1].
    """

    rows = "images"

    def __init__(self, images, batch_size, seed=0, labels=None):
        super().__init__([images] if labels is None else [images, labels], batch_size, seed)

    def cut(self, rows, arrays, take):
        """Images as the models take them, and their labels."""
        images, *labels = super().cut(rows, arrays, take)
        return (ops.cast(images, "float32") / 127.5 - 1.0, *labels)


class Windows(Shuffled):
    """Windows of a long row of tokens, in shuffled batches (tokens, next tokens).

    tokens: int32 (n,); both parts of a batch are int32 (batch_size, context_length), the second
    one token further on. An epoch goes once through the row, cut into windows one after the other
    from a start of its own, so that cuts do not fall on the same places each time. fixed: the same
    windows in the same order each epoch, as a validation loss needs them to be comparable.

    Raises ``UserError`` for a row that is too short for one batch.
    """

    rows = "windows"

    def __init__(self, tokens, context_length, batch_size, seed=0, *, fixed=False):
        self.context_length, self.fixed = context_length, fixed
        if len(tokens) < 2 * context_length:
            raise UserError(
                f"context_length={context_length} is too long for a text of {len(tokens)} tokens; "
                f"give at most {len(tokens) // 2}, or a longer text."
            )
        super().__init__([tokens], batch_size, seed, count=len(tokens) // context_length - 1)

    def permutation(self):
        """The first token of each window, in the order of this epoch."""
        if self.fixed:
            return self.context_length * np.arange(self.count)
        shift = np.random.default_rng([self.seed, self.epoch, 1]).integers(self.context_length)
        return shift + self.context_length * super().permutation()

    def cut(self, rows, arrays, take):
        """Windows that start at ``rows``, and the same windows one token further on."""
        (windows,) = super().cut(rows[:, None] + np.arange(self.context_length + 1), arrays, take)
        return windows[:, :-1], windows[:, 1:]


def passes(steps, count, batch_size):
    """How many epochs over ``count`` examples make ``steps`` training steps, at most 1,000."""
    return min(1000, -(-steps // max(1, count // batch_size)))
