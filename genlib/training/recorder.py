"""A run folder: parameters, history, metrics, samples, figures, checkpoints; and how to resume.

Every file is written under a temporary name and renamed, so a killed run leaves no half file.
Randomness is a function of (seed, step): a resumed run repeats an uninterrupted one.
"""

import contextlib
import hashlib
import io
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from genlib import UserError
from genlib.files import unwritable, write
from genlib.training.backend import keras

ops = keras.ops


class Recorder(keras.callbacks.Callback):
    """Keep a run's history and checkpoints, print some ten lines on the way, and resume.

    ``fit`` makes one. ``history`` has a row an epoch, ``initial_epoch`` are those done before this
    run, ``seconds`` counts training alone, without what other callbacks do at the end of an epoch.

    Raises ``UserError`` where the run's folder cannot be written, and for another model's state.
    """

    def __init__(self, run, model, batches):
        super().__init__()
        self.run, self.batches, self.initial_epoch = run, batches, 0
        self.history, self.seconds = [], 0.0
        from tensorboard.summary import Writer  # imports TensorFlow, which is quiet by now

        with self._curves():
            self.board = Writer(str(run.folder / "tensorboard"))
        model.optimizer.build(model.trainable_variables)
        if run.params.get("resume"):
            self._restore(model)

    @property
    def examples_per_second(self):
        """Throughput over the whole training, in rows of a batch."""
        seen = len(self.history) * len(self.batches) * self.batches.batch_size
        return seen / max(self.seconds, 1e-9)

    @property
    def images_per_second(self):
        """The same where a row is an image."""
        return self.examples_per_second

    @property
    def tokens_per_second(self):
        """The same where a row is ``batches.context_length`` tokens."""
        return self.examples_per_second * self.batches.context_length

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        took = time.perf_counter() - self._began
        self.seconds += took
        row = {"epoch": epoch + 1, "seconds": round(took, 3)}
        row |= {name: round(float(value), 6) for name, value in (logs or {}).items()}
        self.history.append(row)
        newest = self.run.folder / "checkpoints" / f"epoch_{epoch + 1:05d}.npz"
        save_state(newest, self.model, self.history)
        self._write_table()
        kept = [path for path in self._checkpoints() if path.name <= newest.name][-2:]
        for path in self._checkpoints():
            if path not in kept:  # older, or newer: damaged, or it would have been resumed from
                path.unlink()
        with self._curves():
            for name, value in (logs or {}).items():
                self.board.add_scalar(name, float(value), step=epoch + 1)
            self.board.flush()
        epochs = self.params["epochs"]
        if (epoch + 1) % max(1, epochs // 10) == 0 or epoch + 1 == epochs:  # some ten lines in all
            values = "  ".join(f"{name} {float(value):.3f}" for name, value in (logs or {}).items())
            print(f"epoch {epoch + 1}/{epochs}  {took:.1f} s  {values}", flush=True)

    @contextlib.contextmanager
    def _curves(self):
        try:
            yield
        except Exception as error:  # the system's, or TensorFlow's, which writes the curves
            raise unwritable(self.run.folder / "tensorboard", error) from None

    def _checkpoints(self):
        """The paths of the checkpoints by their epochs, whatever the clock says: newest last."""
        return sorted((self.run.folder / "checkpoints").glob("epoch_" + 5 * "[0-9]" + ".npz"))

    def _write_table(self):
        """Write ``history.csv`` from the history, which the checkpoints hold too."""
        path = self.run.folder / "history.csv"
        if not self.history:
            path.unlink(missing_ok=True)
            return
        table = pd.DataFrame(self.history, columns=list(self.history[-1]))
        write(path, table.to_csv(index=False, na_rep="nan", lineterminator="\n"))

    def _restore(self, model):
        for path in reversed(self._checkpoints()):
            try:
                self.history = load_state(path, model)
            except (Damaged, OSError) as error:
                print(f"▶ {path.name} is damaged ({error}); trying the one before it.")
                continue
            self.seconds = sum(row["seconds"] for row in self.history)
            self.initial_epoch = len(self.history)
            print(f"▶ resumed after epoch {self.initial_epoch} from {path.name}")
            break
        else:
            print("▶ nothing to resume: starting from the first epoch")
        self._write_table()  # a run killed between the two left one row too few, or too many


def fit(model, batches, run, epochs, *, callbacks=(), validation=None):
    """Train a compiled model up to ``epochs`` passes over ``batches``; return its ``Recorder``.

    A run whose parameters have ``resume`` goes on from its newest checkpoint; where nothing is left
    to do, as with 0 epochs, nothing is trained. batches, validation: ``Shuffled``. Raises
    ``UserError`` as ``Recorder`` does.
    """
    recorder = Recorder(run, model, batches)
    if recorder.initial_epoch < epochs:
        model.fit(
            batches.stream(),
            validation_data=validation and validation.stream(),
            shuffle=False,  # the batches are, as a function of (seed, epoch)
            epochs=epochs,
            initial_epoch=recorder.initial_epoch,
            callbacks=[recorder, *callbacks],
            verbose=0,
        )
    return recorder


def _state(model):
    metrics = {id(v) for m in model.metrics for v in m.variables}
    return [v for v in model.variables if id(v) not in metrics] + model.optimizer.variables


class Damaged(ValueError):
    """A file does not hold what was written to it."""


def save_state(path, model, history=()):
    """Save all that training depends on: weights, seeds, optimizer; and the rows of its history.

    The file is an ``.npz`` and, behind it, its SHA-256: a zip's own checksums miss some damage.
    """
    arrays = {f"{i:04d}": np.asarray(v.value) for i, v in enumerate(_state(model))}
    text = json.dumps(list(history)).encode()
    buffer = io.BytesIO()
    np.savez(buffer, history=np.frombuffer(text, "uint8"), **arrays)
    content = buffer.getvalue()
    write(path, content + hashlib.sha256(content).digest())


def load_state(path, model):
    """Load what ``save_state`` saved, all or nothing, and return the history.

    Raises ``UserError`` for another model's state, ``Damaged`` or an ``OSError`` for no whole file.
    """
    variables, content = _state(model), Path(path).read_bytes()
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise Damaged("its checksum is wrong")
    with np.load(io.BytesIO(content[:-32]), allow_pickle=False) as archive:
        history = json.loads(archive["history"].tobytes())
        arrays = [archive[name] for name in sorted(set(archive.files) - {"history"})]
    if len(arrays) != len(variables):
        raise UserError(
            f"{path} holds another model ({len(arrays)} variables, {len(variables)} here); resume "
            "with the parameters that it was trained with."
        )
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise UserError(
                f"{path} holds a model of other sizes ({variable.path} is {tuple(variable.shape)} "
                f"here, {array.shape} there); resume with the parameters that it was trained with."
            )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return history
