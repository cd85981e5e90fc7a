"""What stands on the backend is tested on each: here TensorFlow, and JAX in a second process."""

import os
import subprocess
import sys

import pytest

from genlib import ROOT, UserError
from genlib.training import backend

OTHERS = {"tensorflow": "jax", "jax": "tensorflow"}
FILES = sorted((ROOT / "tests/unit").rglob("test_*.py"))
PARTS = {  # of about equal cost, so that two workers share them
    "text": ["test_gpt"],
    "vae": ["test_vae"],
    "gan": ["test_gan", "test_conditional_gan", "test_lora"],
    "diffusion": ["test_diffusion", "test_unet"],
    "exercises": ["test_exercises"],
    "the rest": [],
}


@pytest.mark.backend
def test_keras_runs_on_the_backend_asked_for():
    assert backend.keras.backend.backend() == os.environ["KERAS_BACKEND"]


@pytest.mark.parametrize("part", PARTS)
def test_the_tests_of_the_backend_pass_on_the_other_one_too(part, tmp_path):
    environment = os.environ | {
        "KERAS_BACKEND": OTHERS[os.environ["KERAS_BACKEND"]],
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),  # equal models compile once
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    named = {stem for stems in PARTS.values() for stem in stems}
    assert named <= {file.stem for file in FILES}
    files = [f for f in FILES if (f.stem in PARTS[part] if PARTS[part] else f.stem not in named)]
    command = [sys.executable, "-m", "pytest", "-m", "backend and not once", "--tb=short"]
    done = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, env=environment, capture_output=True, text=True
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
