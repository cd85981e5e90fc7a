"""Lessons that run side by side: one that fails stops no other, and Ctrl-C ends all of them.

Black boxes: a copy of the package beside small lessons, and the command that a user gives.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from genlib import ROOT

LESSON = """\
run_dir: str = ""  # the run folder
---
import os, time
from pathlib import Path
from genlib import files
folder = Path(run_dir)
folder.mkdir(parents=True)
(folder / "pid").write_text(str(os.getpid()))
---
{does}
---
import json
record = {{"schema": 2, "parameters": {{}}, "headline": "x", "metrics": {{"x": 1.5}},
    "seconds": 1.0, "dataset": {{"name": "none", "sha256": "", "n": 0}}}}
files.write(folder / "metrics.json", json.dumps(record))
"""
MEETS = 'while not (folder.parent / "{}" / "pid").exists(): time.sleep(0.05)'


@pytest.fixture
def course(tmp_path):
    """Start ``genlib run all`` in a clone whose lessons do these things, {name: code}."""
    started = []

    def start(lessons, *options):
        clone = tmp_path / "größe 1"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "genlib", clone / "genlib", ignore=ignored)
        (clone / "notebooks").mkdir()
        kernel = {"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}}
        for name, does in lessons.items():
            sources = LESSON.format(does=does).split("---")
            cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
            cells[0].metadata["tags"] = ["parameters"]
            cells.insert(0, nbformat.v4.new_markdown_cell(f"# {name}"))
            notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
            nbformat.write(notebook, clone / "notebooks" / f"{name}.ipynb")
        process = subprocess.Popen(
            [sys.executable, "-m", "genlib.cli", "run", "all", *options],
            cwd=clone,
            env=os.environ | {"PYTHONPATH": str(clone)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # not as under nohup
            start_new_session=True,  # as in a terminal: Ctrl-C goes to all of its processes
        )
        started.append(process)
        return process, clone / "runs" / "default"

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_lessons_run_side_by_side_and_one_that_fails_or_dies_stops_no_other(course):
    lessons = {
        "00_first": MEETS.format("01_second"),  # each waits until the other runs too
        "01_second": MEETS.format("00_first"),
        "02_breaks": "1 / 0",
        "03_dies": "os.kill(os.getpid(), 9)",
        "04_last": "pass",
    }
    process, folder = course(lessons, "--jobs", "2")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    table = out[out.index("lesson   ") :]
    rows = {line.split()[0]: line for line in table.splitlines() if line[:1] == "0"}
    assert list(rows) == list(lessons)
    failed = {name for name, line in rows.items() if "FAILED" in line}
    assert failed == {"02_breaks", "03_dies"}
    assert "ZeroDivisionError" in rows["02_breaks"] and "lost its kernel" in rows["03_dies"]
    assert (folder / "04_last" / "lesson.html").is_file()
    assert (folder / "index.html").read_text(encoding="utf-8").count("<b>Failed.</b>") == 2
    assert "2 failed" in out and "Traceback" not in out + err


def test_ctrl_c_ends_all_lessons_and_says_so(course):
    process, folder = course({f"0{i}_sleeps": "time.sleep(600)" for i in range(3)}, "--jobs", "2")
    end = time.monotonic() + 60
    while len(pids := list(folder.glob("*/pid"))) < 2:
        assert time.monotonic() < end, "the lessons do not run"
        time.sleep(0.05)
    kernels = [psutil.Process(int(path.read_text())) for path in pids]
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "genlib: stopped" and "Traceback" not in err
    _, alive = psutil.wait_procs({*kernels, *children}, timeout=30)
    assert not alive
    assert not list(folder.glob("*/lesson.ipynb"))
