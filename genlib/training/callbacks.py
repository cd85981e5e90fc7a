"""Callbacks that show what a model makes while it learns."""

import numpy as np
from IPython.display import display

from genlib import plots
from genlib.training.backend import keras


class Snapshots(keras.callbacks.Callback):
    """Draw samples as a model learns, and show the latest. ``frames`` collects them for a film.

    ``model.generate`` is called with ``controls``, the same each time, at ``frames`` moments that
    lie closer at the start of training, where more happens.
    """

    def __init__(self, frames=20, columns=6, **controls):
        super().__init__()
        self.count, self.columns, self.controls, self.frames = frames, columns, controls, []

    def on_train_begin(self, logs=None):
        steps = self.params["epochs"] * (self.params["steps"] or 1)
        self.at = set(np.unique(np.geomspace(1, steps, self.count).astype(int)))
        self.step, self.frames = 0, [self.model.generate(**self.controls)]
        self.handle = display(self._picture(), display_id=True)

    def _picture(self):
        return plots.grid(
            self.frames[-1], self.columns, alt=f"samples after {self.step} training steps"
        )

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step in self.at:
            self.frames.append(self.model.generate(**self.controls))
            if self.handle:
                self.handle.update(self._picture())


class Drafts(keras.callbacks.Callback):
    """Let a language model write as it learns, and print it: {step: text} is in ``texts``.

    ``model.generate`` is called with ``controls`` at ``count`` moments, the closer the earlier.
    """

    def __init__(self, count=6, **controls):
        super().__init__()
        self.count, self.controls, self.texts = count, controls, {}

    def on_train_begin(self, logs=None):
        steps = self.params["epochs"] * (self.params["steps"] or 1)
        self.at, self.step = set(np.geomspace(1, steps, self.count).astype(int)), 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step in self.at:
            text = self.texts[self.step] = self.model.generate(**self.controls)
            print(f"after step {self.step}: {text!r}", flush=True)
