"""Run a lesson, or all of them, through papermill: parameters in, a run folder out."""

import contextlib
import html
import json
import shutil
import tempfile
import time
from pathlib import Path

import yaml
from traitlets.config import Config

from genlib import ROOT, UserError, nearest, quiet_stderr
from genlib.params import unknown

NOTEBOOKS = ROOT / "notebooks"


# Sockets in the file system: no race for ports, and nobody on the network can listen.
_KERNEL = Config(KernelManager={"transport": "ipc"})


class LessonFailed(RuntimeError):
    """A lesson broke while it ran. The message is one sentence and says where to look."""


def lessons():
    """{name: path} of all lessons, in the order of their numbers."""
    return {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def find_lesson(name):
    """Return a lesson's path by its name ("02_gan") or its number ("02")."""
    known = lessons()
    matches = [path for stem, path in known.items() if name in (stem, stem[:2])]
    if not matches:
        raise UserError(
            f"there is no lesson {name!r} (there are {', '.join(known)}).{nearest(name, known)}"
        )
    return matches[0]


def parameters(path):
    """{name: {default, help, …}} of a lesson's parameters cell."""
    import papermill

    return papermill.inspect_notebook(str(path))


def preset_values(path, preset):
    """The parameters that a preset, "quick" or "gpu", gives a lesson."""
    file = NOTEBOOKS / "params" / preset / f"{path.stem}.yaml"
    if preset == "gpu":
        from genlib.doctor import gpus

        if not gpus():
            raise UserError(
                "--preset gpu needs a GPU and the backend sees none; leave the preset out, or see "
                "`genlib doctor` and the README's section on GPUs."
            )
    return yaml.safe_load(file.read_text()) or {}


def run_lesson(name, values=None, preset=None, run_dir=None, progress=True):
    """Execute a lesson and return its run folder, with the executed ``lesson.ipynb`` inside.

    values: {parameter: value}, which win over the preset's. run_dir: the folder, by default
    ``runs/<lesson>`` or ``runs/<preset>/<lesson>``. progress: show a bar. A user's mistake leaves
    no notebook behind.

    Raises ``UserError`` for a wrong name or value, ``LessonFailed`` for anything else.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    path = find_lesson(name)
    known = parameters(path)
    merged = (preset_values(path, preset) if preset else {}) | (values or {})
    for key in merged:
        if key not in known:
            raise unknown(key, known)
    run_dir = run_dir or merged.get("run_dir") or ROOT / "runs" / (preset or "") / path.stem
    folder = Path(run_dir).expanduser().absolute()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "lesson.ipynb"
        try:
            # A kernel started from a kernel must not write into the outer one's output.
            with contextlib.nullcontext() if progress else quiet_stderr():
                papermill.execute_notebook(
                    str(path),
                    str(output),
                    parameters=merged | {"run_dir": str(folder)},
                    kernel_name="python3",
                    progress_bar=progress and {"desc": path.stem},
                    config=_KERNEL,
                )
        except PapermillExecutionError as error:
            if error.ename in ("UserError", "NotAtHand"):
                raise UserError(error.evalue) from None
            where = _keep(output, folder / "failed.ipynb")
            raise LessonFailed(
                f"{path.stem} failed in cell {error.cell_index}: {error.ename}: "
                f"{error.evalue}. The notebook up to there: {where}"
            ) from None
        except DeadKernelError:
            where = _keep(output, folder / "failed.ipynb")
            raise LessonFailed(
                f"{path.stem}: the kernel died, probably out of memory; lower batch_size, width "
                f"or limit. The notebook up to there: {where}"
            ) from None
        (folder / "failed.ipynb").unlink(missing_ok=True)
        _keep(output, folder / "lesson.ipynb")
    return folder


def _keep(notebook, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(notebook, target.with_suffix(".part"))
    target.with_suffix(".part").replace(target)
    return target


def run_all(preset=None, values=None, run_dir=None):
    """Run every lesson, print a table, write ``index.html``. Returns the number that failed."""
    folder = Path(run_dir or ROOT / "runs" / (preset or "default")).expanduser().absolute()
    table = []
    for name in lessons():
        started = time.time()
        try:
            run_lesson(name, values, preset, folder / name)
            result = headline(folder / name)
        except (UserError, LessonFailed) as error:
            result = f"FAILED: {error}"
        table.append((name, time.time() - started, result))
    print(f"\n{'lesson':24}{'seconds':>8}  result")
    for name, seconds, result in table:
        print(f"{name:24}{seconds:8.1f}  {result}")
    print(f"\nThe lessons and their pictures: {_page(folder, table)}")
    return sum(result.startswith("FAILED") for _, _, result in table)


def headline(folder):
    """One line on a run folder's result: its headline metric and the dataset."""
    record = json.loads((folder / "metrics.json").read_text())
    value = record["metrics"][record["headline"]]
    if isinstance(value, dict):
        floor = "" if value["floor"] is None else f"floor {value['floor']:.2f}, "
        said = f"{value['value']:.4g} ({floor}n = {value['n']:,})"
    else:
        said = f"{value:.4g}"
    dataset = record["dataset"]["name"]
    return f"{record['headline']} {said}" + (f" on {dataset}" if dataset != "none" else "")


def _page(folder, table):
    """Write ``index.html``: each lesson, its result, its pictures, and itself as a page."""
    from nbconvert import HTMLExporter

    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Executed lessons</title><style>"
        "body{font:16px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
        "img{max-height:220px;max-width:100%;margin:4px}</style><h1>Executed lessons</h1>"
    ]
    for name, seconds, result in table:
        parts.append(f"<h2>{name}</h2><p>{seconds:.1f} s. {html.escape(result)}")
        notebook = folder / name / "lesson.ipynb"
        if result.startswith("FAILED") or not notebook.exists():
            continue
        body, _ = HTMLExporter().from_filename(str(notebook))
        notebook.with_suffix(".html").write_text(body, encoding="utf-8")
        parts.append(f' · <a href="{name}/lesson.html">read the lesson</a></p>')
        for image in sorted((folder / name / "figures").glob("*.*")):
            alt = html.escape(image.stem.replace("_", " "))
            parts.append(f'<img src="{name}/figures/{image.name}" alt="{alt}" title="{alt}">')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text("\n".join(parts), encoding="utf-8")
    return folder / "index.html"
