"""Every lesson is executed at the quick scale by papermill. Some are executed once more by nbval,
which must see the same numbers: those that cost least, one of each kind of computing. That the
others would do so, ``pytest tests/notebooks/test_execution.py --every-lesson-twice`` tells.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from genlib.runs import lessons

LESSONS = list(lessons.lessons())
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
TWICE = ["01", "02", "08"]  # NumPy, SciPy and scikit-learn; a network for images; one for text


def pytest_generate_tests(metafunc):
    if "lesson_run_twice" in metafunc.fixturenames:
        every = metafunc.config.getoption("every_lesson_twice")
        names = [name for name in LESSONS if every or name[:2] in TWICE]
        metafunc.parametrize("lesson_run_twice", names)


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """Run a lesson once at the quick scale and remember its folder."""
    folders = {}

    def run(name):
        if name not in folders:
            target = tmp_path_factory.mktemp("quick") / name
            folders[name] = lessons.run_lesson(name, preset="quick", run_dir=target, progress=False)
        return folders[name]

    return run


@pytest.mark.parametrize("name", LESSONS)
def test_a_quick_run_leaves_a_whole_run_folder(executed, name):
    folder = executed(name)
    record = json.loads((folder / "metrics.json").read_text())
    assert record["lesson"] == name and record["headline"] in record["metrics"]
    assert record["parameters"] == json.loads((folder / "params.json").read_text())
    assert list((folder / "figures").glob("*.png")) and (folder / "samples.npz").exists()
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("name", LESSONS)
def test_a_quick_run_prints_no_warning(executed, name):
    notebook = nbformat.read(executed(name) / "lesson.ipynb", as_version=4)
    stderr = [
        o.text for c in notebook.cells for o in c.get("outputs", ()) if o.get("name") == "stderr"
    ]
    assert stderr == []


def nbval(notebook):
    """Execute a notebook and compare what the cells tagged ``nbval-check-output`` print with what
    is stored, less times and speeds: the finished process."""
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=120"]
    options += ["--nbval-sanitize-with", str(Path(__file__).with_name("sanitize.cfg"))]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, notebook.name]
    return subprocess.run(command, cwd=notebook.parent, capture_output=True, text=True)


def test_a_second_run_prints_the_same_numbers(executed, lesson_run_twice, tmp_path):
    folder = executed(lesson_run_twice)
    text = (folder / "lesson.ipynb").read_text(encoding="utf-8")
    again = tmp_path / "again.ipynb"
    again.write_text(text.replace(str(folder), str(tmp_path / "run")), encoding="utf-8")
    done = nbval(again)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("stored, status", [("1 s: 2\n", 0), ("1 s: 3\n", 1)])
def test_nbval_sees_a_number_that_is_not_the_stored_one(tmp_path, stored, status):
    printed = [nbformat.v4.new_output("stream", text=stored)]
    cell = nbformat.v4.new_code_cell("print('9 s:', 1 + 1)", outputs=printed, execution_count=1)
    cell.metadata["tags"] = ["nbval-check-output"]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), tmp_path / "a.ipynb")
    done = nbval(tmp_path / "a.ipynb")
    assert done.returncode == status, done.stdout


ON_JAX = {  # each cell runs; that training learns, and draws, on JAX, the unit tests try
    "06_diffusion": "epochs 1 bench_epochs 1 toy_epochs 1 n_samples 50 n_curve 50 steps 2",
    "08_language_models": "",
}


@pytest.mark.parametrize("name", ON_JAX)
def test_lessons_on_images_and_on_text_run_on_jax(name, tmp_path):
    command = [sys.executable, "-m", "genlib.cli", "run", name, "--preset", "quick"]
    words = ON_JAX[name].split()
    for parameter, value in zip(words[::2], words[1::2], strict=True):
        command += ["-p", parameter, value]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "jax")],
        # What runs for a moment need not be compiled well: a quarter less time in all.
        env=os.environ
        | {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "jax" / "metrics.json").read_text())
    assert record["backend"] == "jax"


def test_the_canary_fails(tmp_path, monkeypatch):
    """nbval passes a cell that holds a bad magic before a ``raise`` (nbval#147); we must not."""
    cells = [
        nbformat.v4.new_code_cell('run_dir: str = ""  # .', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("%no_such_magic\nraise TypeError('canary')"),
    ]
    canary = nbformat.v4.new_notebook(cells=cells, metadata=KERNEL)
    nbformat.write(canary, tmp_path / "99_canary.ipynb")
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    with pytest.raises(lessons.LessonFailed, match="99_canary failed in cell"):
        lessons.run_lesson("99_canary", run_dir=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "failed.ipynb").exists()
    assert not (tmp_path / "run" / "lesson.ipynb").exists()
