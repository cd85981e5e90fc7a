"""A lesson that hangs, dies or breaks ends with one sentence, and the notebook up to there is kept.

Real kernels, but lessons of two cells that import nothing.
"""

import json
import threading

import nbformat
import papermill
import pytest

from genlib import cli
from genlib.runs import execution, lessons
from genlib.runs.params import declared

PARAMETERS = 'seed: int = 0  # of all [0 to 9]\nrun_dir: str = ""  # the run folder\n'


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """Make a lesson ``00_small`` of a parameters cell and the given ones. Returns its path."""

    def make(*cells):
        cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, *cells)]
        cells[0].metadata["tags"] = ["parameters"]
        spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path = tmp_path / "00_small.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), path)
        return path

    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    return make


def failure(tmp_path, **options):
    """The error of a run, whose partial notebook must be there and no whole one."""
    with pytest.raises(lessons.LessonFailed) as caught:
        lessons.run_lesson("00", run_dir=tmp_path / "run", progress=False, **options)
    assert str(tmp_path / "run" / "failed.ipynb") in str(caught.value)
    assert not (tmp_path / "run" / "lesson.ipynb").exists()
    return caught.value


def test_a_lesson_that_takes_too_long_is_ended(lesson, tmp_path):
    lesson("print('first')", "import time\ntime.sleep(60)")
    error = failure(tmp_path, timeout=2)
    assert "ran past its time-out of 2 s" in str(error) and error.started
    kept = nbformat.read(tmp_path / "run" / "failed.ipynb", as_version=4)
    assert "first\n" in [o.get("text") for c in kept.cells for o in c.get("outputs", ())]


def test_a_killed_kernel_is_explained(lesson, tmp_path):
    lesson("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    error = failure(tmp_path)
    assert "lost its kernel: it was killed, probably out of memory; lower batch_size" in str(error)


def test_a_kernel_that_does_not_start_is_told_from_a_lesson_that_breaks(
    lesson, tmp_path, monkeypatch
):
    path = lesson("1 / 0")
    error = failure(tmp_path)
    assert "failed in cell" in str(error) and "ZeroDivisionError" in str(error) and error.started

    def no_kernel(source, output, *_):
        output.write_text(path.read_text())
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(execution, "execute", no_kernel)
    error = failure(tmp_path)
    assert "could not start a kernel" in str(error) and not error.started


def test_the_bar_shows_the_last_line_that_the_lesson_printed(lesson, tmp_path, capfd):
    lesson("for i in range(3):\n    print(f'epoch {i + 1}/3  loss 0.5', flush=True)")
    lessons.run_lesson("00", run_dir=tmp_path / "run")
    err = capfd.readouterr().err
    assert "epoch 3/3  loss 0.5" in err
    assert err.count("cell") <= 3  # in a file, no line for each cell and each line printed


@pytest.mark.parametrize("text", ["'; import os; os._exit(3)  #", '"""\\', "{}\n%s $(x) `y` 試験"])
def test_a_text_given_as_a_parameter_arrives_as_it_is_and_is_not_executed(lesson, tmp_path, text):
    path = lesson("import pathlib\npathlib.Path(run_dir, 'said').write_text(word, 'utf-8')")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = 'word: str = ""  # any\nrun_dir: str = ""  # the run folder\n'
    nbformat.write(notebook, path)
    (tmp_path / "run").mkdir()
    lessons.run_lesson("00", {"word": text}, run_dir=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "said").read_text("utf-8") == text


def test_kernels_that_start_at_once_share_no_socket(lesson, tmp_path, monkeypatch):
    """Two kernels that took the same sockets would answer each other's messages."""
    path, places, both = lesson(), [], threading.Barrier(2)

    def note(*_, config, **__):
        places.append(config.KernelManager.ip)
        both.wait(10)  # the first one's folder must still be there

    monkeypatch.setattr(papermill, "execute_notebook", note)
    threads = [threading.Thread(target=execution.execute, args=(path, path, {})) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(places)) == 2


def test_help_of_a_lesson_lists_its_parameters_with_type_default_and_help(lesson, capsys):
    lesson()
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "00", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "The parameters of 00_small (-p NAME VALUE):"
    assert said[1:] == ["seed: int = 0      of all [0 to 9]", 'run_dir: str = ""  the run folder']


def test_help_knows_each_parameter_that_papermill_knows():
    for path in lessons.lessons().values():
        known = papermill.inspect_notebook(str(path))
        ours = declared(path)
        assert list(known) == list(ours)
        for name, parameter in known.items():
            assert parameter["inferred_type_name"] == ours[name].kind.__name__
            assert parameter["help"] == ours[name].help
            assert json.loads(json.dumps(ours[name].default)) == ours[name].default
