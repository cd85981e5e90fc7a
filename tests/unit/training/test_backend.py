"""What stands on the backend is tested on each: here TensorFlow, and JAX in a second process."""

import os
import subprocess
import sys

import pytest

from genlib import ROOT, UserError
from genlib.training import backend

OTHERS = {"tensorflow": "jax", "jax": "tensorflow"}


@pytest.mark.backend
def test_keras_runs_on_the_backend_asked_for():
    assert backend.keras.backend.backend() == os.environ["KERAS_BACKEND"]


def test_the_tests_of_the_backend_pass_on_the_other_one_too(tmp_path):
    environment = os.environ | {
        "KERAS_BACKEND": OTHERS[os.environ["KERAS_BACKEND"]],
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),  # equal models compile once
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    command = [sys.executable, "-m", "pytest", "-m", "backend and not once", "--tb=short"]
    done = subprocess.run(
        [*command, "tests/unit"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["torch", "theano"])
def test_a_backend_that_cannot_run_the_course_is_one_sentence(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(UserError, match=rf"'{name}' cannot run.*tensorflow or jax"):
        backend._start_backend()


def test_a_backend_that_is_not_installed_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # what an absent package looks like
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UserError, match=r"needs the package 'tensorflow'.*pip install tensorflow"):
        backend._start_backend()
