"""The notebooks of exercises: found, and handed out without their solutions."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat

from genlib.files import unwritable, write
from genlib.runs.lessons import NOTEBOOKS, by_name

STUB = {"python": "...  # your answer"}  # runs as it stands, in a function too
WORDS = "*Your answer, in words.*"
MARK = re.compile(r"\s*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)")


def notebooks():
    """{name: path} of all notebooks of exercises, in the order of their lessons' numbers."""
    return {path.stem: path for path in sorted((NOTEBOOKS / "exercises").glob("*/*.ipynb"))}


def find_exercises(name):
    """The path by a lesson's name ("02_gan") or number ("02"). Raises ``UserError`` for others."""
    return by_name(name, notebooks(), "notebook of exercises")


def released(path):
    """A notebook of exercises as learners get it: without solutions, hidden tests and outputs."""
    from nbgrader import preprocessors

    notebook = nbformat.read(path, as_version=4)
    for step in (
        preprocessors.LockCells(),
        preprocessors.ClearSolutions(code_stub=STUB, text_stub=WORDS),
        preprocessors.ClearHiddenTests(),
        preprocessors.ClearOutput(),
    ):
        notebook, _ = step.preprocess(notebook, {})
    return notebook


def solved(path):
    """A notebook of exercises with its solutions, for reading: without the marks around them."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        kept = [line for line in cell.source.splitlines() if not MARK.match(line)]
        cell.source = "\n".join(kept)
        cell.metadata.pop("nbgrader", None)
    return notebook


def hand_out(name, folder="my", solution=False):
    """Put a copy of the exercises to a lesson into a folder: to work in, or with the solutions.

    Returns its path. What is there already stays as it is, so answers are never overwritten. Raises
    ``UserError`` for an unknown name, and a folder that cannot be written.
    """
    source = find_exercises(name)
    target = Path(folder) / f"{source.stem}{'_solution' if solution else ''}.ipynb"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(target.parent, error) from None
    if not target.exists():
        write(target, nbformat.writes((solved if solution else released)(source)))
    return target


def open_lab(path):
    """Open a notebook in JupyterLab until it is stopped. Returns its exit status."""
    return subprocess.run([sys.executable, "-m", "jupyter", "lab", path]).returncode
