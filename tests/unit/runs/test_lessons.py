"""A lesson gets its parameters by the stated precedence, and a run goes into the folder asked for.

papermill is replaced by a function that notes what it was given; the real one runs in tests/faults.
"""

import json
import shutil
from pathlib import Path

import papermill
import pytest
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from genlib import UserError, cli
from genlib.runs import lessons


@pytest.fixture
def executed(stand_in, monkeypatch):
    """The parameters of each lesson that is executed; the run folder gets its metrics."""
    noted = []

    def execute(path, output, parameters, **options):
        noted.append(parameters)
        shutil.copy(path, output)
        folder = Path(parameters["run_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        record = {"metrics": {"fcd": 2.5}, "headline": "fcd"}
        (folder / "metrics.json").write_text(json.dumps(record | {"dataset": {"name": "digits"}}))

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return noted


@pytest.fixture
def fails(executed, monkeypatch):
    """Make the execution of the next lesson raise an error after its output was written."""

    def raise_(error):
        def execute(path, output, parameters, **options):
            shutil.copy(path, output)
            raise error

        monkeypatch.setattr(papermill, "execute_notebook", execute)

    return raise_


def of_cell(name, value):
    return PapermillExecutionError(3, 3, "source", name, value, ["a traceback"])


@pytest.mark.parametrize(
    "arguments, folder",
    [
        ([], "runs/00_stand_in"),
        (["--preset", "quick"], "runs/quick/00_stand_in"),
        (["-p", "run_dir", "{tmp}/mine"], "mine"),
        (["--run-dir", "{tmp}/mine"], "mine"),
        (["--run-dir", "{tmp}/mine", "-p", "run_dir", "{tmp}/other"], "mine"),
    ],
)
def test_a_run_goes_into_the_folder_asked_for(executed, stand_in, tmp_path, arguments, folder):
    (stand_in / "params" / "quick").mkdir(parents=True)
    (stand_in / "params" / "quick" / "00_stand_in.yaml").write_text("epochs: 1")
    assert cli.main(["run", "00", *(a.format(tmp=tmp_path) for a in arguments)]) == 0
    assert executed[0]["run_dir"] == str(tmp_path / folder)
    assert (tmp_path / folder / "lesson.ipynb").exists()
    assert not list((tmp_path / folder).glob("*.part"))


def test_a_value_wins_over_the_file_and_the_file_over_the_preset(executed, stand_in, tmp_path):
    (stand_in / "params" / "quick").mkdir(parents=True)
    preset = {"epochs": 1, "dataset": "digits", "use_ema": False}
    (stand_in / "params" / "quick" / "00_stand_in.yaml").write_text(yaml.safe_dump(preset))
    (tmp_path / "mine.yaml").write_text("epochs: 2\ndataset: mnist")
    values = ["-f", str(tmp_path / "mine.yaml"), "-p", "epochs", "3"]
    assert cli.main(["run", "00_stand_in", "--preset", "quick", *values]) == 0
    assert executed[0] == preset | {"epochs": 3, "dataset": "mnist"} | {
        "run_dir": executed[0]["run_dir"]
    }


def test_a_mistake_in_a_lesson_is_the_users_and_leaves_no_notebook(fails, tmp_path):
    fails(of_cell("UserError", "epochs=0 is not allowed."))
    with pytest.raises(UserError, match=r"^epochs=0 is not allowed\.$"):
        lessons.run_lesson("00", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error, words",
    [
        (of_cell("ZeroDivisionError", "by zero"), "failed in cell 3: ZeroDivisionError: by zero"),
        (
            DeadKernelError(),
            "lost its kernel: it was killed, probably out of memory; lower batch_size",
        ),
    ],
)
def test_a_lesson_that_breaks_says_where_to_look_and_ends_with_status_1(
    fails, tmp_path, capsys, error, words
):
    fails(error)
    assert cli.main(["run", "00", "--run-dir", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert words in said and str(tmp_path / "run" / "failed.ipynb") in said
    assert (tmp_path / "run" / "failed.ipynb").exists()
    assert not (tmp_path / "run" / "lesson.ipynb").exists()


MEASURED = {"name": "bits", "value": 2.5, "n": 12345, "floor": None, "interval": None, "by": "x"}


@pytest.mark.parametrize(
    "value, said",
    [
        (MEASURED | {"value": 1.52345}, "bits 1.523 (n = 12,345) on pydoc"),
        (MEASURED | {"floor": 1, "n": 100}, "bits 2.5 (floor 1.00, n = 100) on pydoc"),
        (MEASURED | {"n": None}, "bits 2.5 on pydoc"),
        (0.25, "bits 0.25 on pydoc"),
    ],
    ids=["no floor", "floor", "neither", "number"],
)
def test_a_headline_shows_what_there_is(tmp_path, value, said):
    record = {"metrics": {"bits": value}, "headline": "bits", "dataset": {"name": "pydoc"}}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    assert lessons.headline(tmp_path) == said
