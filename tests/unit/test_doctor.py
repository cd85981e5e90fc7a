"""The doctor finds what is wrong, names the command that mends it, and ends with status 1."""

import sys
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from genlib import UserError, doctor
from genlib.data import checkpoints, sources
from genlib.runs import run
from genlib.training.backend import keras

Memory = namedtuple("Memory", "total available")
GIB = 2**30


@pytest.fixture(autouse=True)
def healthy(monkeypatch, tmp_path):
    """A machine on which all is well, with one checkpoint and no dataset but the digits."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(16 * GIB, 8 * GIB))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=50 * GIB))
    monkeypatch.setattr(doctor.os, "access", lambda *_: True)
    kernel = SimpleNamespace(argv=[sys.executable])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: kernel)
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    checkpoints.publish(model, "dense_toy")


def test_on_a_healthy_machine_the_report_ends_with_status_0(capsys):
    assert doctor.report() == 0
    screen = capsys.readouterr().out
    assert "✗" not in screen and screen.endswith("Every lesson can run here.\n")
    for topic in ("Python", "backend", "device", "memory", "disk", "kernel", "digits", "1 intact"):
        assert topic in screen


def test_a_dataset_that_is_not_here_is_no_fault_but_its_command_is_named(capsys):
    assert doctor.report() == 0
    assert "· mnist" in (screen := capsys.readouterr().out)
    assert "→ genlib data fetch mnist" in screen


def little_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(16 * GIB, 1 * GIB))


def full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=0.1 * GIB))


def read_only_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)


def old_python(monkeypatch, tmp_path):
    old = SimpleNamespace(version_info=(3, 9, 1), executable=sys.executable)
    monkeypatch.setattr(doctor, "sys", old)


def no_kernel(monkeypatch, tmp_path):
    def missing(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", missing)


def foreign_kernel(monkeypatch, tmp_path):
    other = SimpleNamespace(argv=["/other/bin/python"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: other)


def broken_backend(monkeypatch, tmp_path):
    def environment():
        raise UserError("the backend 'jax' needs the package 'jax'")

    monkeypatch.setattr(run, "environment", environment)


def damaged_checkpoint(monkeypatch, tmp_path):
    file = tmp_path / "dense_toy.weights.h5"
    file.write_bytes(file.read_bytes()[:-1])


def missing_checkpoint(monkeypatch, tmp_path):
    (tmp_path / "dense_toy.weights.h5").unlink()


def lost_list(monkeypatch, tmp_path):
    (tmp_path / "manifest.json").write_text("{")


def damaged_dataset(monkeypatch, tmp_path):
    sources.CACHE.mkdir()
    (sources.CACHE / "mnist.npz").write_bytes(b"PK")


FAULTS = [
    (little_memory, "memory", "close other kernels"),
    (full_disk, "disk", "make clean"),
    (read_only_clone, "disk", "run_dir"),
    (old_python, "Python", "install Python 3.11, 3.12 or 3.13"),
    (no_kernel, "kernel", "make install"),
    (foreign_kernel, "kernel", "make lab"),
    (broken_backend, "backend", "make install"),
    (damaged_checkpoint, "checkpoint", "git checkout"),
    (missing_checkpoint, "checkpoint", "git checkout"),
    (lost_list, "checkpoints", "git checkout"),
    (damaged_dataset, "mnist", "intact copy"),
]


@pytest.mark.parametrize("fault, topic, remedy", FAULTS, ids=[f[0].__name__ for f in FAULTS])
def test_the_doctor_finds_and_names_the_remedy_of(
    fault, topic, remedy, monkeypatch, tmp_path, capsys
):
    fault(monkeypatch, tmp_path)
    to_mend = [f for f in doctor.examine() if f[2] and not f[2].startswith("optional: ")]
    assert [found[0] for found in to_mend] == [topic] and remedy in to_mend[0][2]
    assert doctor.report() == 1
    screen = capsys.readouterr().out
    assert screen.count("✗") == 1 and screen.endswith("1 to mend before a lesson.\n")


def test_gpus_are_those_of_the_backend(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run.gpus() == []

    (tmp_path / "python").write_text("#!/bin/sh\necho a warning\necho NVIDIA A, NVIDIA B\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(run.sys, "executable", str(tmp_path / "python"))
    assert run.gpus() == ["NVIDIA A", "NVIDIA B"]


def test_looking_for_gpus_with_a_backend_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    with pytest.raises(UserError, match=r"backend does not start \(.*abacus.*\); see `genlib"):
        run.gpus()
