"""How weights move: Muon for convolutions and for text, rates that warm up, averages of weights."""

from genlib.training.backend import keras

ops = keras.ops


@keras.saving.register_keras_serializable(package="genlib")
class Muon(keras.optimizers.Muon):
    """Keras's Muon (Jordan et al. 2024), which steps along the nearest orthogonal matrix to the
    momentum, for convolutions too: a kernel is a matrix with a row for each input in its window.
    All other weights are Adam's."""

    def __init__(self, learning_rate=2e-3, adam_beta_2=0.99, weight_decay=None, **kwargs):
        kwargs.setdefault("adam_weight_decay", 0.0)
        super().__init__(
            learning_rate, adam_beta_2=adam_beta_2, weight_decay=weight_decay, **kwargs
        )

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, gradient + (self.momentum - 1.0) * m)
        matrix = ops.reshape(gradient + self.momentum * m, (-1, variable.shape[-1]))
        update = self.zeropower_via_newtonschulz5(matrix, self.ns_steps)
        update = self.lr_adjust(lr * update)
        self.assign_sub(variable, ops.reshape(update, variable.shape))


def text_muon(learning_rate, steps, weight_decay=0.3):
    """The course's optimizer for text: Muon (Jordan et al. 2024) for matrices, Adam for the rest.

    Both rise for a few steps to ``learning_rate`` and fall on a cosine to a fiftieth at ``steps``.
    weight_decay: of matrices alone, times the learning rate a step (Loshchilov & Hutter 2019); a
    text that is read several times needs it.
    """
    return keras.optimizers.Muon(
        warmup_cosine(learning_rate, steps, warmup=20),
        momentum=0.9,
        adam_beta_2=0.95,
        weight_decay=weight_decay,
        adam_weight_decay=0.0,
    )


def update_average(average, model, step, decay=0.999):
    """Move the weights of ``average`` towards those of ``model`` (exponential moving average).

    average, model: two models of the same architecture; ``average`` is changed in place.
    step: number of updates so far, a scalar tensor. The decay warms up as (1 + step) / (10 + step),
        so that the first, random weights are soon forgotten.
    decay: share of the old average that is kept once warm, between 0 and 1.
    """
    kept = ops.minimum(decay, (1.0 + step) / (10.0 + step))
    for slow, fast in zip(average.weights, model.weights, strict=True):
        slow.assign(kept * slow + (1.0 - kept) * fast)


def warmup_cosine(peak, steps, warmup=200):
    """A learning rate that rises from 0 to ``peak`` and then falls on a cosine to a fiftieth of it.

    steps: training steps in all; warmup: of the rise, at most a tenth of them.
    """
    warmup = min(warmup, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.02, warmup_target=peak, warmup_steps=warmup
    )
