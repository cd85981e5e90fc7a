"""A run's folder: parameters, metrics, samples, figures; and on what it ran.

Every file is written under a temporary name and renamed, so a killed run leaves no half file.
"""

import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from genlib import ROOT, UserError
from genlib.data.images import to_uint8
from genlib.files import lock, unwritable, write
from genlib.runs.results import SCHEMA


def environment():
    """Backend, device and library versions, as they go into ``metrics.json``."""
    from genlib.training.backend import keras

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


def gpus():
    """Names of the GPUs that the backend can use; [] on a CPU machine.

    A process of its own looks: whoever looks keeps memory of the GPU, which a kernel then lacks.
    Raises ``UserError`` where the backend does not start.
    """
    code = "from genlib.runs import environment; print(environment()['device'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise UserError(f"Keras's backend does not start ({reason}); see `genlib doctor`.")
    device = done.stdout.splitlines()[-1]
    return [] if device.startswith("CPU") else device.split(", ")


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
