"""A sweep knows which of its runs are done, takes up what is not, and refuses another's folder."""

import hashlib
import json
import os
import time

import pytest

from genlib import UserError, cli
from genlib.runs import cluster, ledger, lessons, planning, sweep
from genlib.runs.params import declared


def test_a_value_cannot_be_fixed_and_swept(stand_in):
    with pytest.raises(UserError, match="epochs is swept and also given one value"):
        sweep.Sweep("00", {"epochs": [1, 2]}, values={"epochs": 3})


@pytest.fixture
def planned(stand_in, tmp_path):
    """A sweep of two runs, the first of which has ended."""
    planned = sweep.Sweep("00", {"epochs": [1, 2]}, folder=tmp_path / "sweep")
    line = finish(planned, planned.runs[0])
    (planned.folder / "sweep.json").write_text(json.dumps(planned.about))
    (planned.folder / "sweep.jsonl").write_text(json.dumps(line) + "\n")
    return planned


def finish(planned, run, **changed):
    folder = planned.run_folder(run.name)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"parameters": planned.values | run.values | changed, "seconds": 2.0})
    (folder / "metrics.json").write_text(content)
    (folder / "lesson.ipynb").write_text("{}")
    return ledger.entry(run.name, run.values, 2.0, hashlib.sha256(content.encode()).hexdigest())


def test_a_finished_run_is_done(planned):
    assert list(planned.done()) == ["epochs=1"]


@pytest.mark.parametrize("what", ["gone", "changed", "torn", "other values", "no notebook"])
def test_a_run_that_is_no_longer_whole_is_not_done(planned, what):
    folder = planned.run_folder("epochs=1")
    metrics = folder / "metrics.json"
    if what == "gone":
        metrics.unlink()
    elif what == "changed":
        metrics.write_text(metrics.read_text().replace("2.0", "3.0"))
    elif what == "torn":
        metrics.write_text(metrics.read_text()[:20])
    elif what == "other values":
        finish(planned, planned.runs[0], epochs=9)
    else:
        (folder / "lesson.ipynb").unlink()
    assert planned.done() == {}


@pytest.mark.parametrize("tail", [b"", b'{"run": "epo', b"\xff\xfe\n", b'{"run": 1}\n[]\n', b"\n"])
def test_a_torn_or_damaged_line_hides_no_other(planned, tail):
    with (planned.folder / "sweep.jsonl").open("ab") as file:
        file.write(tail)
    assert list(planned.done()) == ["epochs=1"]
    ledger.mend(planned.folder)
    ledger.append(planned.folder, ledger.entry("epochs=2", {"epochs": 2}))
    assert {"epochs=1", "epochs=2"} <= set(ledger.read(planned.folder)[1])


def test_the_last_line_of_a_run_counts(planned):
    ledger.append(planned.folder, ledger.entry("epochs=1", {"epochs": 1}, error="it broke."))
    assert ledger.read(planned.folder)[1]["epochs=1"]["error"] == "it broke."
    assert planned.done() == {}


def test_more_values_can_be_added_to_a_sweep(planned):
    more = sweep.Sweep("00", {"epochs": [1, 2, 3]}, folder=planned.folder)
    assert len(more.runs) == 3 and list(more.done()) == ["epochs=1"]


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(values={"use_ema": False}), "holds a sweep of other parameters"),
        (dict(lesson="code"), "another version of this lesson's code"),
        (dict(schema=9), "schema 9, not 1"),
    ],
    ids=["values", "code", "schema"],
)
def test_a_folder_of_another_sweep_is_refused(planned, stand_in, change, words):
    if "lesson" in change:
        path = stand_in / "00_stand_in.ipynb"
        path.write_text(path.read_text().replace("load_images(dataset)", "load_images( dataset)"))
        change = {}
    if "schema" in change:
        about = planned.about | change
        (planned.folder / "sweep.json").write_text(json.dumps(about))
        change = {}
    with pytest.raises(UserError, match=words):
        sweep.Sweep("00", {"epochs": [1, 2]}, folder=planned.folder, **change)


def test_a_folder_of_other_files_is_refused_and_left_alone(stand_in, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("soon")
    with pytest.raises(UserError, match="holds other files"):
        sweep.Sweep("00", {"epochs": [1]}, folder=tmp_path / "mine")
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_dry_run_lists_and_writes_nothing(planned, tmp_path, capsys):
    grid = ["--grid", "epochs=" + ",".join(map(str, range(1, 13)))]
    assert cli.main(["sweep", "00", *grid, "--run-dir", str(planned.folder), "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("12 runs of 00_stand_in, 1 of them done")
    assert said[1:3] == ["  epochs=1  (done)", "  epochs=2"] and said[-1] == "  … and 2 more"
    assert cli.main(["sweep", "00", *grid, "--run-dir", str(tmp_path / "new"), "--dry-run"]) == 0
    assert not (tmp_path / "new").exists()


# What runs on a worker


@pytest.fixture
def attempts(stand_in, monkeypatch):
    """Make ``run_lesson`` note its values, and raise what is put into ``errors``, after 10 ms."""
    made, errors = [], []

    def run_lesson(name, values, preset, folder, progress, timeout):
        made.append(values)
        time.sleep(0.01)
        if errors:
            raise errors.pop(0)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"parameters": values, "seconds": 1.5}))
        (folder / "lesson.ipynb").write_text("{}")

    monkeypatch.setattr(lessons, "run_lesson", run_lesson)
    for name in sweep.THREADS:
        monkeypatch.setenv(name, "unset")
    return made, errors


def run_once(tmp_path, at_once=1, local=True):
    given = ("a", "00_stand_in", {}, {"epochs": 2}, str(tmp_path / "a"))
    return sweep._run(*given, at_once, os.getppid() if local else None, None)


def test_a_run_that_is_finished_already_is_not_run_again(attempts, tmp_path):
    first, second = run_once(tmp_path), run_once(tmp_path)
    assert first == second and first["status"] == "done" and first["seconds"] == 1.5
    assert len(attempts[0]) == 1


@pytest.mark.parametrize("started, tries", [(False, 2), (True, 1)])
def test_only_a_run_of_which_no_cell_had_run_is_tried_once_more(attempts, tmp_path, started, tries):
    attempts[1].extend([lessons.LessonFailed("it broke.", started)] * 5)
    line = run_once(tmp_path)
    assert line["status"] == "failed" and line["error"] == "it broke." and line["sha256"] == ""
    assert len(attempts[0]) == tries and line["seconds"] > 0  # it has its cost


def test_a_mistake_that_only_the_lesson_sees_is_a_failed_run(attempts, tmp_path):
    attempts[1].append(UserError("batch_size=64 is more than the 50."))
    assert run_once(tmp_path)["error"] == "batch_size=64 is more than the 50."


def test_a_run_that_had_begun_goes_on_where_it_stopped(attempts, tmp_path):
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    run_once(tmp_path)
    assert "resume" not in attempts[0][0]
    (tmp_path / "a" / "metrics.json").unlink()
    (tmp_path / "a" / "checkpoints" / "epoch_00001.npz").touch()
    run_once(tmp_path)
    assert attempts[0][1]["resume"] is True


@pytest.mark.parametrize(
    "mine, of, at_once, local, threads",
    [
        (8, 8, 3, True, "2"),  # jobs on one machine share its cores
        (8, 8, 3, False, "2"),  # so do workers of a cluster on one machine
        (2, 8, 2, True, "1"),  # jobs in one container share what it may use
        (4, 64, 16, False, "4"),  # sixteen batch jobs of four cores on one machine do not
        (2, 2, 5, True, "1"),
    ],
)
def test_runs_that_go_on_at_once_share_the_cores(
    attempts, tmp_path, monkeypatch, mine, of, at_once, local, threads
):
    monkeypatch.setattr(cluster, "cores", lambda: mine)
    monkeypatch.setattr(os, "cpu_count", lambda: of)
    run_once(tmp_path, at_once, local)
    assert {os.environ[name] for name in sweep.THREADS} == {threads}


def test_every_lesson_can_be_swept_over_its_seed():
    for name, path in lessons.lessons().items():
        assert "seed" in declared(path), name
        assert len(planning.plan(name, seeds=2)) == 2
