"""A sweep survives the death of each of its parts: nothing is lost, nothing is done twice, and the
results are those of a sweep that nobody disturbed.

Black boxes: a copy of the package beside one small lesson, and the commands that users give.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import psutil
import pytest

from genlib import ROOT

# A lesson that trains for EPOCHS × 0.1 s without Keras, and writes down each epoch that it does.
EPOCHS = 8
LESSON = f"""\
rate: float = 0.5  # how fast [0 to 1]
seed: int = 0  # where it begins [0 to 100]
resume: bool = False  # go on where a killed run stopped
run_dir: str = ""  # the run folder
---
from genlib.runs import params
values = params.check(globals())
---
import json, os, time
from pathlib import Path
from genlib import files
folder = Path(run_dir)
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
lock = files.lock(folder, wait=10.0)
state = folder / "checkpoints" / "state.json"
epoch, x = json.loads(state.read_text()) if resume else (0, float(seed))
---
if rate == 0.75:
    raise ValueError("a rate that breaks")
while epoch < {EPOCHS}:
    time.sleep(0.1)
    epoch, x = epoch + 1, x * rate + seed
    files.write(state, json.dumps([epoch, x]))
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"{{folder.name}} {{epoch}} {{os.getpid()}}\\n")
    print("epoch", epoch, flush=True)
---
record = {{"schema": 1, "lesson": "00_small", "parameters": values, "headline": "x",
    "dataset": {{"name": "none", "sha256": "", "n": 0}}, "metrics": {{"x": x}},
    "seconds": 1.0, "train_seconds": 1.0, "backend": "none", "device": "CPU"}}
files.write(folder / "metrics.json", json.dumps(record))
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A clone, on a path with a space and letters that are not ASCII, whose one lesson is small."""
    clone = tmp_path_factory.mktemp("mes réseaux")
    shutil.copytree(ROOT / "genlib", clone / "genlib", ignore=shutil.ignore_patterns("__pycache__"))
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in LESSON.split("---")]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (clone / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, clone / "notebooks" / "00_small.ipynb")
    return clone


class World:
    """Commands that run in the clone, and the journal of the epochs that were done."""

    def __init__(self, clone, tmp):
        self.clone, self.folder, self.journal = clone, tmp / "größe 1", tmp / "journal"
        self.journal.touch()
        self.env = os.environ | {"PYTHONPATH": str(clone), "JOURNAL": str(self.journal)}
        self.processes = []

    def start(self, *command):
        process = subprocess.Popen(
            [Path(sys.executable).parent / command[0], *command[1:]],
            cwd=self.clone,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # not as under nohup
            start_new_session=True,  # as in a terminal: Ctrl-C goes to all of its processes
        )
        self.processes.append(process)
        return process

    def sweep(self, *options, rates="0.5", seeds="3"):
        options = ("--seeds", seeds, "--run-dir", str(self.folder), *options)
        return self.start(
            "python", "-m", "genlib.cli", "sweep", "00", "--grid", f"rate={rates}", *options
        )

    def scheduler(self, port):
        local = ("--host", "127.0.0.1", "--no-dashboard")
        return self.start("dask", "scheduler", "--port", str(port), *local)

    def workers(self, port):
        """Two workers, each with its nanny, as on two machines."""
        address, options = f"tcp://127.0.0.1:{port}", ("--nthreads", "1", "--no-dashboard")
        return [self.start("dask", "worker", address, *options) for _ in range(2)]

    def epochs(self):
        """Counter of (run, epoch) in the journal."""
        lines = self.journal.read_text().splitlines()
        return Counter(tuple(line.split()[:2]) for line in lines)

    def wait_for_epochs(self, n):
        end = time.monotonic() + 60
        while len(self.epochs()) < n:
            assert time.monotonic() < end, "the sweep does not go on"
            time.sleep(0.02)

    def ended(self):
        """{run: how many lines say that it ended well}"""
        lines = map(json.loads, (self.folder / "sweep.jsonl").read_text().splitlines())
        return Counter(line["run"] for line in lines if line["status"] == "done")

    def results(self):
        """{run: its metrics}"""
        found = self.folder.glob("runs/*/metrics.json")
        return {path.parent.name: json.loads(path.read_text())["metrics"] for path in found}


@pytest.fixture
def world(course, tmp_path):
    world = World(course, tmp_path)
    yield world
    for process in world.processes:
        process.kill()
        process.communicate()


def expected(rates=(0.5,), seeds=(0, 1, 2)):
    """What the small lesson computes, for each run."""
    results = {}
    for rate in rates:
        for seed in seeds:
            x = float(seed)
            for _ in range(EPOCHS):
                x = x * rate + seed
            results[f"rate={rate},seed={seed}"] = {"x": x}
    return results


def assert_whole(world, twice=0, **of):
    """Fail unless each run ended once with the right result, and at most ``twice`` epochs, those
    that a kill interrupted between the checkpoint and the journal, were done twice."""
    assert world.results() == expected(**of)
    assert world.ended() == Counter(list(expected(**of)))
    counts = world.epochs()
    assert {run for run, _ in counts} == set(expected(**of))
    done = Counter(run for run, _ in counts)
    # An epoch may lack in the journal: killed after its checkpoint, before the journal's line.
    assert all(EPOCHS - twice <= n <= EPOCHS for n in done.values())
    assert sum(counts.values()) - len(counts) <= twice


def finish(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, out + err
    assert "Traceback" not in out + err
    return out, err


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_sweep_leaves_each_run_once_and_does_again_only_what_was_damaged(world):
    out, _ = finish(world.sweep("--jobs", "2"))
    assert_whole(world)
    for name in ("sweep.csv", "sweep.md", "sweep.png", "index.html"):
        assert (world.folder / name).stat().st_size > 100
    assert "seeds" in out and "index.html" in out

    metrics = world.folder / "runs" / "rate=0.5,seed=1" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"x": ', '"x": 1'))
    assert world.results() != expected()
    with (world.folder / "sweep.jsonl").open("a") as lines:
        lines.write('{"run": "rate=0.5,se')  # torn: killed while it wrote
    finish(world.sweep("--jobs", "2"))
    assert world.results() == expected()
    assert world.ended() == Counter(list(expected())) + Counter(["rate=0.5,seed=1"])


def test_a_failed_run_is_a_row_with_its_reason_and_the_others_go_on(world):
    out, _ = finish(world.sweep("--jobs", "2", rates="0.5,0.75", seeds="1"), status=1)
    assert "rate=0.75,seed=0: 00_small failed in cell" in out and "a rate that breaks" in out
    assert_whole(world, seeds=(0,))
    lines = [json.loads(line) for line in (world.folder / "sweep.jsonl").open()]
    assert {line["run"]: line["status"] for line in lines} == {
        "rate=0.5,seed=0": "done",
        "rate=0.75,seed=0": "failed",
    }


def test_a_killed_sweep_is_taken_up_and_ends_as_if_nothing_had_happened(world):
    process = world.sweep("--jobs", "2")
    world.wait_for_epochs(6)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 4  # workers and kernels
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, "workers or kernels go on without their sweep"
    finish(world.sweep("--jobs", "2"))
    assert_whole(world, twice=2)


def test_a_killed_sweep_on_a_cluster_meets_its_runs_that_go_on(world):
    """Its workers do not die with the sweep: what they are doing is neither lost nor doubled."""
    port = free_port()
    world.scheduler(port)
    world.workers(port)
    process = world.sweep("--scheduler", f"tcp://127.0.0.1:{port}")
    world.wait_for_epochs(2)
    process.kill()
    process.communicate()
    finish(world.sweep("--scheduler", f"tcp://127.0.0.1:{port}"))
    assert_whole(world)


def test_a_second_sweep_in_the_same_folder_is_refused_while_the_first_goes_on(world):
    rates = {"rates": "0.25,0.5"}
    first = world.sweep("--jobs", "1", **rates)
    world.wait_for_epochs(1)
    _, err = finish(world.sweep("--jobs", "1", **rates), status=2)
    assert err.count("\n") == 1 and "belongs to a run that has not ended" in err
    finish(first)
    assert_whole(world, rates=(0.25, 0.5))


def test_ctrl_c_leaves_a_state_that_the_same_command_takes_up(world):
    process = world.sweep("--jobs", "2")
    world.wait_for_epochs(6)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    finish(world.sweep("--jobs", "2"))
    assert_whole(world, twice=2)


def test_a_killed_worker_costs_one_epoch_of_its_run(world):
    port = free_port()
    world.scheduler(port)
    workers = world.workers(port)
    process = world.sweep("--scheduler", f"tcp://127.0.0.1:{port}")
    world.wait_for_epochs(6)
    kill_with_children(workers[0])
    finish(process)
    assert_whole(world, twice=1)


def test_a_restarted_scheduler_gets_back_what_is_not_done(world):
    port = free_port()
    scheduler = world.scheduler(port)
    world.workers(port)
    process = world.sweep("--scheduler", f"tcp://127.0.0.1:{port}")
    world.wait_for_epochs(6)
    scheduler.kill()
    time.sleep(1)
    world.scheduler(port)
    world.workers(port)
    finish(process)
    assert_whole(world, twice=2)


def test_a_worker_with_several_threads_is_refused(world):
    port = free_port()
    world.scheduler(port)
    world.start("dask", "worker", f"tcp://127.0.0.1:{port}", "--nthreads", "2", "--no-dashboard")
    _, err = finish(world.sweep("--scheduler", f"tcp://127.0.0.1:{port}"), status=2)
    assert "has 2 threads" in err and err.count("\n") == 1
    assert not world.epochs()


def test_the_gpu_preset_is_refused_for_workers_without_a_gpu(world):
    """It is the workers that need one, not the machine that gives the command."""
    params = world.clone / "notebooks" / "params" / "gpu"
    params.mkdir(parents=True, exist_ok=True)
    (params / "00_small.yaml").write_text("rate: 0.5\n")
    world.env["CUDA_VISIBLE_DEVICES"] = ""
    port = free_port()
    world.scheduler(port)
    world.workers(port)
    at = f"tcp://127.0.0.1:{port}"
    _, err = finish(world.sweep("--scheduler", at, "--preset", "gpu", rates="0.25"), status=2)
    assert err.count("\n") == 1 and "needs a GPU and the backend sees none on tcp://" in err
    assert not world.folder.exists()


JOBS = """
from dask_jobqueue.local import LocalCluster
cluster = LocalCluster(cores=1, processes=1, memory="1GB", interface="lo")
cluster.scale(jobs=2)
print(cluster.scheduler_address, flush=True)
input()
"""


def test_jobs_of_a_batch_system_run_a_sweep(world):
    """As the README says for SLURM, with dask-jobqueue's local cluster: its jobs are processes."""
    jobs = world.start("python", "-c", JOBS)
    address = jobs.stdout.readline().strip()
    finish(world.sweep("--scheduler", address))
    assert_whole(world)


def kill_with_children(process):
    """SIGKILL for a Dask worker's nanny and its worker; the kernels must find out by themselves."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
