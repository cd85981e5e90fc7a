"""Every test runs offline, and sees no dataset of the machine and no cache but its own."""

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import settings

from genlib.data import sources
from genlib.runs import sweep

# No deadline, no folder of examples, and the same examples each time: a failure repeats.
settings.register_profile("course", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("course")


def pytest_addoption(parser):
    help = "execute every lesson a second time and compare, not just the cheapest of each kind"
    parser.addoption("--every-lesson-twice", action="store_true", help=help)


def pytest_configure(config):
    """Workers share the cores: a library that started threads on each would make both wait."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if workers > 1:
        each = str(max(1, os.cpu_count() // workers))
        os.environ.update(dict.fromkeys(sweep.THREADS, each))


def pytest_itemcollected(item):
    """Under ``pytest -n 2 --dist loadgroup``: a module, and a lesson, stay with one worker, so that
    what their fixtures train and execute is done once. The other backend's parts share nothing.

    Here, since xdist reads the groups before any conftest.py is asked to modify the items.
    """
    group = item.path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
    if group in ("notebooks/test_execution", "unit/training/test_backend"):
        same_run = "executed" in item.fixturenames
        group += f":{next(iter(item.callspec.params.values())) if same_run else item.name}"
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_modifyitems(items):
    """The longest begin first: begun last, they would leave one worker idle."""
    longest = ["test_backend", "test_kill_and_resume", "test_execution"]
    items.sort(key=lambda item: [item.path.stem != stem for stem in longest])


@pytest.fixture(autouse=True)
def own_world(monkeypatch, tmp_path_factory):
    """Keep the machine's data, caches and network out of every test."""
    monkeypatch.delenv("GENLIB_DATA", raising=False)
    monkeypatch.setenv("GENLIB_OFFLINE", "1")
    world = tmp_path_factory.mktemp("world")
    monkeypatch.setenv("KERAS_HOME", str(world / "keras"))
    monkeypatch.setattr(sources, "CACHE", world / "cache")


@pytest.fixture
def sockets(monkeypatch):
    """Refuse every socket and name look-up; the list holds those that were tried."""
    tried = []

    class Refused(socket.socket):
        def __init__(self, *args, **kwargs):
            tried.append("socket")
            raise OSError("the tests have no network")

    def look_up(host, *args, **kwargs):
        tried.append(host)
        raise socket.gaierror("the tests have no network")

    monkeypatch.setattr(socket, "socket", Refused)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return tried


@pytest.fixture(scope="session")
def nobody():
    """A statement by which a process of root's becomes a user whom permissions bind."""
    drop = "import os; os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))"
    if subprocess.run([sys.executable, "-c", drop], capture_output=True).returncode:
        pytest.skip("root may not become another user here, as in a rootless container")
    return drop


@pytest.fixture
def small_mnist(monkeypatch):
    """Arrays that pass for MNIST: 60 training and 20 test images of random pixels."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 60), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 28, 28), "uint8")
        arrays[f"y_{part}"] = np.arange(n, dtype="uint8") % 10
    content = sources.content_hash(arrays[key] for key in sources.ARRAYS)
    monkeypatch.setitem(sources.DATASETS["mnist"], "content", content)
    return arrays


@pytest.fixture
def small_shakespeare(monkeypatch):
    """The bytes of a text that passes for Shakespeare: 100 numbered lines."""
    lines = [f"{i:03d} Shall I compare thee?\n" for i in range(100)]
    content = "".join(lines).encode()
    known, digest = sources.TEXTS["shakespeare"], hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(known, "content", digest)
    monkeypatch.setitem(known, "files", {"shakespeare.txt": digest})
    return content


STAND_IN = """\
epochs: int = 2  # number of epochs [1 to 100]
dataset: str = "digits"  # a name or a path
use_ema: bool = True  # average the weights
resume: bool = False  # go on where a killed run stopped
run_dir: str = ""  # the run folder
---
from genlib import data
from genlib.runs import params
values = params.check(globals())
---
images = data.load_images(dataset)
---
from genlib import runs
run = runs.Run("00_stand_in", values)
run.metrics(images, {"epochs": epochs}, headline="epochs")
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A folder of lessons that holds one of four cells, ``00_stand_in``, in the lessons' form."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in STAND_IN.split("---")]
    cells[0].metadata["tags"] = ["parameters"]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, folder / "00_stand_in.ipynb")
    monkeypatch.setattr("genlib.runs.lessons.NOTEBOOKS", folder)
    monkeypatch.setattr("genlib.runs.lessons.ROOT", tmp_path)  # the default run folder is below it
    return folder
