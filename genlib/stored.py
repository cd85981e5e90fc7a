"""Re-execute lessons at the default scale, in place, as they are stored in the repository.

``python -m genlib.stored [LESSON…]`` (``make notebooks`` for all). What changes from run to run
without saying anything, such as time stamps, is left out of the stored notebook.
"""

import sys

import nbformat

from genlib import UserError
from genlib.runner import LessonFailed, find_lesson, headline, lessons, run_lesson


def clean(notebook):
    """Remove volatile metadata, papermill's traces, and merge split streams. In place."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    number = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            number += bool(cell.source.strip())
            cell.execution_count = number
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number
    return notebook


def store(name):
    """Execute a lesson with its own defaults and store the result in place. Returns its folder."""
    path = find_lesson(name)
    folder = run_lesson(path.stem)
    executed = clean(nbformat.read(folder / "lesson.ipynb", as_version=4))
    sources = [cell.source for cell in executed.cells]
    original = nbformat.read(path, as_version=4)
    if sources != [cell.source for cell in original.cells]:
        raise LessonFailed(f"{path.stem} was edited while it ran; run it again.")
    nbformat.write(executed, path)
    return folder


if __name__ == "__main__":
    try:
        for lesson in sys.argv[1:] or lessons():
            print(headline(store(lesson)), flush=True)
    except (UserError, LessonFailed) as error:
        sys.exit(str(error))
