"""Re-execute lessons at the default scale, in place, as they are stored in the repository.

``python -m genlib.authoring.execute [LESSON…]`` (``make notebooks`` for all). Each lesson first
runs at the quick scale, for its time. What changes from run to run without saying anything is left
out; the measured times and results go into the lesson's first cell and into the README's table.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat

from genlib import ROOT, UserError
from genlib.runs.lessons import NOTEBOOKS, LessonFailed, find_lesson, headline, lessons, run_lesson


def clean(notebook):
    """Remove volatile metadata and papermill's traces, and number the cells anew. In place."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    injected = "injected-parameters"
    notebook.cells = [c for c in notebook.cells if injected not in c.metadata.get("tags", [])]
    number = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            number += bool(cell.source.strip())
            cell.execution_count = number
            cell.outputs = _join_streams(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number
    return notebook


def _join_streams(outputs):
    """Text that was printed in pieces becomes one output, as a live page shows it."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def store(name):
    """Execute a lesson at both scales and store the default one in place. Returns its headline."""
    with tempfile.TemporaryDirectory() as new:  # a sweep in an old folder would be taken up
        return _store(find_lesson(name), Path(new))


def _store(path, new):
    before = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    quick = run_lesson(path.stem, preset="quick", run_dir=new / "quick")
    folder = run_lesson(path.stem, run_dir=new / "default")
    executed = clean(nbformat.read(folder / "lesson.ipynb", as_version=4))
    if before != [cell.source for cell in executed.cells]:
        raise LessonFailed(f"{path.stem} was edited while it ran; run it again.")
    times = (
        f"**Measured times**: quick {_record(quick)['seconds']:.0f} s · default "
        f"{_record(folder)['seconds']:.0f} s ({_record(folder)['device']})"
    )
    first = executed.cells[0]
    first.source = re.sub(r"\*\*Measured times\*\*: .*?(?= · GPU)", times, first.source)
    nbformat.write(executed, path)
    pictures = NOTEBOOKS / "pictures"
    pictures.mkdir(exist_ok=True)
    drawn = sorted((folder / "figures").glob("*.png"), key=lambda f: f.stem != "samples")
    shutil.copy(drawn[0], pictures / f"{path.stem}.png")  # the samples, where they are a picture
    _write_row(path, quick, folder)
    return headline(folder)


def _record(folder):
    return json.loads((folder / "metrics.json").read_text())


def _write_row(path, quick, folder):
    """Rewrite a lesson's row in the README's table."""
    seconds = " | ".join(f"{_record(run)['seconds']:.0f}" for run in (quick, folder))
    row = f"| [{path.stem}](notebooks/{path.name}) | {seconds} | {headline(folder)} |"
    readme = ROOT / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| [")]
    kept = [line for line in rows if not line.startswith(f"| [{path.stem}]")]
    place = lines.index("|---|---|---|---|") + 1
    lines[place : place + len(rows)] = sorted([*kept, row])
    readme.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        for lesson in sys.argv[1:] or lessons():
            print(store(lesson), flush=True)
    except (UserError, LessonFailed) as error:
        sys.exit(str(error))
