"""Every lesson is executed at the quick scale: by papermill, then by nbval."""

import json
import os
import subprocess
import sys

import nbformat
import pytest

from genlib.runs import lessons

LESSONS = list(lessons.lessons())
SECONDS = 20  # a quick lesson's budget after imports, with room for a slow machine in the test


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
    assert record["seconds"] < 2.5 * SECONDS  # another lesson runs beside it
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("name", LESSONS)
def test_a_quick_run_prints_no_warning(executed, name):
    notebook = nbformat.read(executed(name) / "lesson.ipynb", as_version=4)
    stderr = [
        o.text for c in notebook.cells for o in c.get("outputs", ()) if o.get("name") == "stderr"
    ]
    assert stderr == []


@pytest.mark.parametrize("name", LESSONS)
def test_nbval_executes_the_result_again(executed, name):
    notebook = executed(name) / "lesson.ipynb"
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=120"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *nbval, str(notebook)]
    done = subprocess.run(command, cwd=notebook.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("name", ["06_diffusion", "09_transformer"])
def test_lessons_on_images_and_on_text_run_on_jax(name, tmp_path):
    command = [sys.executable, "-m", "genlib.cli", "run", name, "--preset", "quick"]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "jax")],
        env=os.environ | {"KERAS_BACKEND": "jax"},
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
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    canary = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(canary, tmp_path / "99_canary.ipynb")
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    with pytest.raises(lessons.LessonFailed, match="99_canary failed in cell"):
        lessons.run_lesson("99_canary", run_dir=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "failed.ipynb").exists()
    assert not (tmp_path / "run" / "lesson.ipynb").exists()
