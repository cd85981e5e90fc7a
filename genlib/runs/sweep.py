"""Many runs of one lesson: planned, run on Dask, recorded as they end, and taken up again.

A sweep's folder holds ``sweep.json`` (what is swept), ``sweep.jsonl`` (a line for each run that has
ended), ``runs/`` (their folders) and, in the end, a table, a figure and a page.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from genlib import ROOT, UserError
from genlib.files import lock, unwritable, write
from genlib.runs import cluster, ledger, lessons, planning
from genlib.runs.params import coerce, declared
from genlib.runs.progress import Progress
from genlib.runs.run import gpus

_ORPHAN = 3600  # seconds to wait for a run that goes on though its sweep was killed
THREADS = (  # what TensorFlow, XLA, NumPy and SciPy ask how many threads they may start
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)


class Sweep:
    """A planned sweep and its folder. ``runs``: all of them; ``done()``: {name: line} of those that
    have ended well, as their folders still show.

    lesson, grid, random, n_random, seeds: see ``planning.plan``. preset, values: the parameters
    of all runs. folder: by default ``runs/sweeps/<lesson>``; an earlier call's is taken up.
    Raises ``UserError`` for a mistake in these, and for a folder that holds another sweep.
    """

    def __init__(
        self, lesson, grid=None, random=None, n_random=0, seeds=1, preset=None, values=None,
        folder=None,
    ):  # fmt: skip
        path = lessons.find_lesson(lesson)
        for name in {*(grid or {}), *(random or {})} & set(values or {}):
            raise UserError(f"{name} is swept and also given one value; choose one of the two.")
        self.lesson, self.values = path.stem, lessons.merged(path, values, preset)
        if self.values.pop("run_dir", ""):
            raise UserError("run_dir is each run's own in a sweep; give the sweep's by --run-dir.")
        self.values.pop("resume", None)
        seed = self.values.pop("seed", None)
        self.runs = planning.plan(path.stem, grid, random, n_random, seeds, seed)
        swept = [name for name in self.runs[0].values if name != "seed"]
        self.values = {name: v for name, v in self.values.items() if name not in swept}
        self.folder = Path(folder or ROOT / "runs" / "sweeps" / path.stem).expanduser().absolute()
        self.about = {
            "schema": ledger.SCHEMA,
            "lesson": path.stem,
            "code": _code(path),
            "preset": preset,
            "values": self.values,
            "swept": swept,
        }
        if (self.folder / "sweep.json").exists():
            self._refuse_another(ledger.read(self.folder)[0])
        elif self.folder.exists() and not self._is_free():
            raise UserError(f"{self.folder} holds other files; give a new folder by --run-dir.")

    def _is_free(self):
        folder = self.folder
        return folder.is_dir() and all(file.name == ".lock" for file in folder.iterdir())

    def _refuse_another(self, there):
        for key, what in (
            ("lesson", "another lesson"),
            ("code", "another version of this lesson's code"),
            ("preset", "another preset"),
            ("values", "other parameters"),
        ):
            if there.get(key) != self.about[key]:
                raise UserError(
                    f"{self.folder} holds a sweep of {what}; give a new folder by --run-dir, or "
                    "delete that one."
                )

    def run_folder(self, name):
        """The folder of the run ``name``."""
        return self.folder / "runs" / name

    def done(self):
        """{name: its line in ``sweep.jsonl``} of the runs that ended well and are still whole."""
        if not (self.folder / "sweep.json").exists():
            return {}
        found, (_, lines) = {}, ledger.read(self.folder)
        for run in self.runs:
            digest = ledger.finished(self.run_folder(run.name), self.values | run.values)
            line = lines.get(run.name, {})
            if digest and line.get("sha256") == digest:
                found[run.name] = line
        return found

    def execute(self, jobs=None, scheduler=None, progress=True, timeout=None):
        """Run what is not done. Returns {name: line} of all runs that have ended, failed ones too.

        jobs: local processes at once, None for as many as the machine has cores and memory for.
        scheduler: the address of a Dask scheduler, instead. timeout: seconds for each run.
        """
        if scheduler is not None and jobs is not None:
            raise UserError("--jobs is for this machine; a cluster at --scheduler has its own.")
        jobs = coerce("jobs", cluster.default_jobs() if jobs is None else jobs, int, (1, 1024))
        todo = len(self.runs) - len(self.done())
        with contextlib.ExitStack() as stack:
            connected = cluster.connected(min(jobs, todo), scheduler) if todo else None
            client = stack.enter_context(connected) if todo else None
            if client and self.about["preset"] == "gpu":
                lessons.refuse_without_gpu(client.run(gpus))
            ended, todo = self._begin(stack)
            said = Progress(self.lesson, "runs", len(self.runs), len(ended), progress)
            stack.callback(said.close)
            for name, line in self._outcomes(client, todo, scheduler is None, timeout):
                ended[name] = line
                ledger.append(self.folder, line)
                said.tell(name, line["error"])
        return ended

    def _begin(self, stack):
        """Take hold of the folder. Returns {name: line} of what is done, and the other runs."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        stack.callback(lock(self.folder, wait=0).release)
        write(self.folder / "sweep.json", json.dumps(self.about, indent=1) + "\n")
        ledger.mend(self.folder)
        ended, lines = self.done(), ledger.read(self.folder)[1]
        todo = [run for run in self.runs if run.name not in ended]
        for run in todo:
            if lines.get(run.name, {}).get("sha256"):  # its result is no longer what it was
                (self.run_folder(run.name) / "metrics.json").unlink(missing_ok=True)
        return ended, todo

    def _outcomes(self, client, todo, local, timeout):
        if not todo:
            return
        planned, at_once = {run.name: run for run in todo}, cluster.share(client)
        parent = os.getpid() if local else None
        tasks = {
            f"{self.folder}/{run.name}": (
                *(run.name, self.lesson, self.values, run.values),
                *(str(self.run_folder(run.name)), at_once, parent, timeout),
            )
            for run in todo
        }
        for key, line in cluster.outcomes(client, _run, tasks):
            name = key.rsplit("/", 1)[1]
            values = planned[name].values
            if isinstance(line, Exception):
                line = ledger.entry(name, values, error=cluster.why(line))
            elif not line["error"] and not ledger.finished(self.run_folder(name), values):
                raise UserError(
                    f"the workers do not write to the {self.folder} that this machine sees; give "
                    "a folder on a disk that all share by --run-dir."
                )
            yield name, line


def _run(name, lesson, fixed, values, folder, at_once, parent, timeout):
    """On a worker: one run, in a kernel of its own. Returns its line of ``sweep.jsonl``.

    parent: the process of the sweep, where it is this worker's; None on another's cluster.
    """
    folder = Path(folder)
    if parent is not None:
        cluster.die_with(parent)
    # The worker of a sweep that was killed may be at this run, or its kernel alone.
    guard = folder.with_name(f".{folder.name}")
    guard.mkdir(parents=True, exist_ok=True)
    held = lock(guard, _ORPHAN)
    try:
        return _run_alone(name, lesson, fixed, values, folder, at_once, parent, timeout)
    finally:
        held.release()


def _run_alone(name, lesson, fixed, values, folder, at_once, parent, timeout):
    given, began = fixed | values, time.monotonic()
    if folder.exists():
        lock(folder, _ORPHAN).release()
    if not ledger.finished(folder, given):
        threads = str(cluster.threads(at_once, local=parent is not None))
        os.environ.update(dict.fromkeys(THREADS, threads))  # the kernel inherits it
        resumes = "resume" in declared(lessons.find_lesson(lesson))
        if resumes and any((folder / "checkpoints").glob("*")):
            given = given | {"resume": True}
        for another_try in (True, False):
            try:
                lessons.run_lesson(lesson, given, None, folder, progress=False, timeout=timeout)
            except (UserError, lessons.LessonFailed) as error:
                if another_try and not getattr(error, "started", True):
                    continue
                took = round(time.monotonic() - began, 2)
                return ledger.entry(name, values, took, error=str(error))
            break
    took = json.loads((folder / "metrics.json").read_bytes())["seconds"]
    return ledger.entry(name, values, took, ledger.finished(folder, fixed | values) or "")


def _code(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def outline(planned, most=10):
    """A planned ``Sweep`` in words: its number of runs, how many are done, the first ``most``."""
    done, count = planned.done(), len(planned.runs)
    lines = [f"{count:,} runs of {planned.lesson}, {len(done):,} of them done: {planned.folder}"]
    lines += [f"  {run.name}{'  (done)' * (run.name in done)}" for run in planned.runs[:most]]
    return "\n".join(lines + [f"  … and {count - most:,} more"] * (count > most))


def conclude(planned, lines):
    """Write the table, the figure and the page of what ``execute`` returned; say where they are."""
    from genlib.runs import aggregate

    failed = sum(line["status"] == "failed" for line in lines.values())
    if failed == len(lines):
        return f"All {failed:,} runs failed; {planned.folder / 'sweep.jsonl'} has the reasons."
    aggregate.write_all(planned.folder)
    table = aggregate.to_text(aggregate.read(planned.folder))
    also = f"{failed:,} failed; the same command tries them again.\n" if failed else ""
    return f"{table}\n{also}The runs and their samples: {planned.folder / 'index.html'}"


def sweep(
    lesson, grid=None, random=None, n_random=0, seeds=1, preset=None, values=None, folder=None,
    jobs=None, scheduler=None, progress=True, timeout=None,
):  # fmt: skip
    """Plan a sweep, run what of it is not done, and write its table, figure and page.

    The arguments are those of ``Sweep`` and ``Sweep.execute``. Returns the sweep's folder.
    """
    planned = Sweep(lesson, grid, random, n_random, seeds, preset, values, folder)
    conclude(planned, planned.execute(jobs, scheduler, progress, timeout))
    return planned.folder
