"""A run folder: parameters, history, metrics, samples, figures, checkpoints; and how to resume.

Every file is written under a temporary name and renamed, so a killed run leaves no half file.
Randomness is a function of (seed, step): a resumed run repeats an uninterrupted one.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from genlib import ROOT, UserError
from genlib._backend import keras
from genlib.data import to_uint8
from genlib.files import lock, unwritable, write
from genlib.results import SCHEMA

ops = keras.ops


def environment():
    """Backend, device and library versions, as they go into ``metrics.json``."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = [
            tf.config.experimental.get_device_details(g).get("device_name", "GPU")
            for g in tf.config.list_physical_devices("GPU")
        ]
    elif backend == "jax":
        import jax

        gpus = [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    else:
        gpus = []
    packages = ("keras", backend, "numpy")
    return {
        "backend": backend,
        "device": ", ".join(gpus) or f"CPU, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


class Shuffled(keras.utils.PyDataset):
    """Rows of arrays in batches, shuffled anew each epoch.

    arrays: of equal length ``count``; a batch is a tuple of their rows. The order is a function of
    (seed, epoch) alone: ``fit`` asks for the batches in an order of its own, from Python's global
    random state, and gets them in ours. The last, incomplete batch is left out.
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


class Run:
    """The folder that one execution of a lesson leaves behind.

    lesson: its name, such as "02_gan". params: what ``params.check`` returned; ``run_dir`` in it
    names the folder ("" is ``runs/<lesson>``), ``resume`` keeps what a killed run left there.
    Raises ``UserError`` when the folder cannot be written, or another run is writing to it.
    """

    def __init__(self, lesson, params):
        self.params, self.lesson, self.started = params, lesson, time.perf_counter()
        self.folder = Path(params["run_dir"] or ROOT / "runs" / lesson).expanduser().absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.folder)
            if not params.get("resume"):
                for name in ("checkpoints", "figures", "tensorboard"):
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                for name in ("metrics.json", "history.csv", "samples.npz"):
                    (self.folder / name).unlink(missing_ok=True)
            for name in ("checkpoints", "figures"):
                (self.folder / name).mkdir(exist_ok=True)
            write(self.folder / "params.json", json.dumps(params, indent=1) + "\n")
        except OSError as error:
            raise unwritable(f"run_dir={str(self.folder)!r}", error) from None

    def figure(self, name, picture):
        """Save a picture of ``plots`` under ``figures/`` and return it, so that a cell shows it."""
        suffix = "gif" if picture.format == "gif" else "png"
        write(self.folder / "figures" / f"{name}.{suffix}", picture.data)
        return picture

    def samples(self, drawn):
        """Save generated images, float (N, height, width, channels) in [0, 1], or texts."""
        arrays = {"text": drawn} if isinstance(drawn[0], str) else {"images": to_uint8(drawn)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write(self.folder / "samples.npz", buffer.getvalue())

    def metrics(self, dataset, results, headline=None, **facts):
        """Write ``metrics.json``: the parameters, the dataset and its hash, results, environment.

        dataset: ``data.Images``, ``data.Text``, or None for a lesson that uses none.
        results: {name: number or ``metrics.Result``}; headline: the name that tables show;
        facts: anything else worth keeping, such as train_seconds or images_per_second.
        """
        record = {
            "schema": SCHEMA,
            "lesson": self.lesson,
            "parameters": self.params,
            "dataset": _describe(dataset),
            "headline": headline,
            "metrics": {k: v.as_dict() if hasattr(v, "as_dict") else v for k, v in results.items()},
            "seconds": round(time.perf_counter() - self.started, 2),
            **facts,
            **environment(),
        }
        write(self.folder / "metrics.json", json.dumps(record, indent=1, default=float) + "\n")
        return record


def _describe(dataset):
    if dataset is None:
        return {"name": "none", "sha256": "", "n": 0}
    return {"name": dataset.name, "sha256": dataset.sha256, "n": len(dataset)}


class Recorder(keras.callbacks.Callback):
    """Keep a run's history and checkpoints, print some ten lines on the way, and resume.

    Pass ``initial_epoch=recorder.initial_epoch`` to ``fit``. ``seconds`` counts training alone:
    the other callbacks' work at the end of an epoch is left out.
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
    def images_per_second(self):
        """Throughput over the whole training, in real images."""
        seen = len(self.history) * len(self.batches) * self.batches.batch_size
        return seen / max(self.seconds, 1e-9)

    @property
    def tokens_per_second(self):
        """Throughput over the whole training, in tokens; ``batches`` are ``text.Windows``."""
        return self.images_per_second * self.batches.context_length

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
        path, text = self.run.folder / "history.csv", io.StringIO()
        if not self.history:
            path.unlink(missing_ok=True)
            return
        table = csv.DictWriter(text, self.history[-1], lineterminator="\n")
        table.writeheader()
        table.writerows(self.history)
        write(path, text.getvalue())

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
