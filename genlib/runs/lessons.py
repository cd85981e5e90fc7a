"""Run a lesson through papermill: parameters in, a run folder out."""

import contextlib
import json
import tempfile
from pathlib import Path

import yaml

from genlib import ROOT, UserError, nearest, quiet_stderr
from genlib.files import unwritable, write
from genlib.runs.params import coerce, declared, unknown
from genlib.runs.results import Result
from genlib.runs.run import gpus

NOTEBOOKS = ROOT / "notebooks"


class LessonFailed(RuntimeError):
    """A lesson broke while it ran. The message is one sentence and says where to look.

    started: whether one of its cells had run; where none had, it is worth another try.
    """

    def __init__(self, message, started=True):
        super().__init__(message)
        self.started = started


def lessons():
    """{name: path} of all lessons, in the order of their numbers."""
    return {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def find_lesson(name):
    """A lesson's path by its name ("02_gan") or number ("02"). Raises ``UserError`` for others."""
    return by_name(name, lessons(), "lesson")


def by_name(name, known, kind):
    """The path among ``known``, {name: path}, that has this name or begins with this number.
    Raises ``UserError`` for another; kind: what it is, in words."""
    matches = [path for stem, path in known.items() if name in (stem, stem[:2])]
    if not matches:
        raise UserError(
            f"there is no {kind} {name!r} (there are {', '.join(known)}).{nearest(name, known)}"
        )
    return matches[0]


def preset_values(path, preset):
    """The parameters that a preset, "quick" or "gpu", gives a lesson."""
    file = NOTEBOOKS / "params" / preset / f"{path.stem}.yaml"
    return yaml.safe_load(file.read_text()) or {}


def refuse_without_gpu(where):
    """Raise ``UserError`` if one of the places where lessons are to run, {name: its GPUs}, has no
    GPU."""
    for name, found in where.items():
        if not found:
            raise UserError(
                f"--preset gpu needs a GPU and the backend sees none on {name}; leave the preset "
                "out, or see `genlib doctor` and the README's section on GPUs."
            )


def merged(path, values=None, preset=None):
    """The parameters that a lesson gets, {name: value}: ``values`` win over the preset's.

    Raises ``UserError`` for a name that the lesson does not have, and a value out of its range.
    """
    known = declared(path)
    given = (preset_values(path, preset) if preset else {}) | (values or {})
    for name in given:
        if name not in known:
            raise unknown(name, known)
    return {n: coerce(n, v, known[n].kind, known[n].allowed) for n, v in given.items()}


def run_lesson(name, values=None, preset=None, run_dir=None, progress=True, timeout=None):
    """Execute a lesson and return its run folder, with the executed ``lesson.ipynb`` inside.

    values: {parameter: value}, which win over the preset's. run_dir: the folder, by default
    ``runs/<lesson>`` or ``runs/<preset>/<lesson>``. progress: show a bar with the last line that
    the lesson printed. timeout: seconds that it may take. A user's mistake leaves no notebook.

    Raises ``UserError`` for a wrong name or value, ``LessonFailed`` for anything else.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from genlib.runs import execution

    path = find_lesson(name)
    given = merged(path, values, preset)
    if preset == "gpu":
        refuse_without_gpu({"this machine": gpus()})
    run_dir = run_dir or given.get("run_dir") or ROOT / "runs" / (preset or "") / path.stem
    folder = Path(run_dir).expanduser().absolute()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "lesson.ipynb"
        try:
            # A kernel started from a kernel must not write into the outer one's output.
            with contextlib.nullcontext() if progress else quiet_stderr():
                execution.execute(path, output, given | {"run_dir": str(folder)}, progress, timeout)
        except PapermillExecutionError as error:
            if error.ename in ("UserError", "NotAtHand"):
                raise UserError(error.evalue) from None
            why = f"failed in cell {error.cell_index}: {error.ename}: {error.evalue}."
        except CellTimeoutError:
            why = f"ran past its time-out of {timeout:g} s; raise it, or lower epochs or limit."
        except DeadKernelError:
            why = (
                "lost its kernel: it was killed, probably out of memory; lower batch_size, width "
                "or limit."
            )
        except RuntimeError as error:  # of jupyter_client, while the kernel starts
            why = f"could not start a kernel ({error}); run it again."
        except OSError as error:
            raise unwritable(output, error) from None
        else:
            (folder / "failed.ipynb").unlink(missing_ok=True)
            _keep(output, folder / "lesson.ipynb")
            return folder
        where = _keep(output, folder / "failed.ipynb")
        raise LessonFailed(f"{path.stem} {why} The notebook up to there: {where}", _has_run(output))


def _keep(notebook, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, notebook.read_bytes())
    return target


def _has_run(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return any(cell.get("execution_count") for cell in cells)


def describe(name):
    """A lesson's parameters as lines of text: name, type, default, help."""
    path = find_lesson(name)
    rows = [
        (f"{n}: {p.kind.__name__} = {json.dumps(p.default)}", p.help)
        for n, p in declared(path).items()
    ]
    width = max(len(left) for left, _ in rows)
    lines = [f"{left:{width}}  {right}" for left, right in rows]
    return "\n".join([f"The parameters of {path.stem} (-p NAME VALUE):", *lines])


def headline(folder):
    """One line on a run folder's result: its headline metric and the dataset."""
    record = json.loads((folder / "metrics.json").read_text())
    value = record["metrics"][record["headline"]]
    result = Result.from_dict(value)
    if result is None:
        said = f"{value:.4g}"
    else:
        told = [] if result.floor is None else [f"floor {result.floor:.2f}"]
        told += [] if result.n is None else [f"n = {result.n:,}"]
        said = f"{result.value:.4g}" + (f" ({', '.join(told)})" if told else "")
    dataset = record["dataset"]["name"]
    return f"{record['headline']} {said}" + (f" on {dataset}" if dataset != "none" else "")
