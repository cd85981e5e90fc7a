"""What learners hand in: found in a folder of a learning platform, and put right for the grader."""

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pandas as pd

from genlib import UserError

LARGEST = 20_000_000  # bytes of a notebook
LOOK_AT = re.compile(
    r"get_ipython|os\._exit|sys\.modules|ctypes|__builtins__|\bgc\.|settrace|ast_transformers"
    r"|genlib\.classroom\.\w+\s*=|setattr|inspect\.|subprocess|socket"
)


@dataclass
class Submission:
    """One learner's file for one assignment, or that there is none."""

    id: str
    name: str
    assignment: str
    path: Path | None = None
    remarks: list = field(default_factory=list)  # sentences for the teacher
    notebook: nbformat.NotebookNode | None = None  # put right; None: nothing to grade


def collect(folder, released, roster=None):
    """All learners' submissions for all assignments: a list of ``Submission``, sorted.

    folder: holds a folder ``<id>_<name>`` a learner, as learning platforms pack them. released:
    {assignment: notebook as handed out}. roster: a CSV file with a column ``id`` and perhaps
    ``name``, of all learners, so that who handed in nothing is not forgotten. Raises ``UserError``
    for a folder without such folders, and for a roster that cannot be read.
    """
    folder, found = Path(folder), {}
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give one that holds a folder for each learner.")
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        id, _, name = place.name.partition("_")
        found.setdefault(_safe(id), []).append((name.strip("_ "), place))
    if not found:
        raise UserError(
            f"{folder} holds no folders; each learner's is named <id>_<name>, such as 17_Ada."
        )
    names = _roster(roster)
    names |= {id: places[0][0] or names.get(id, "") for id, places in found.items()}
    rows = []
    for id in sorted(names):
        places = found.get(id, [])
        files = _read_all(places[0][1]) if len(places) == 1 else []
        for assignment, handed_out in released.items():
            row = Submission(id, names[id], assignment)
            rows.append(row)
            if len(places) > 1:
                row.remarks.append(f"{len(places)} folders begin with {id}_: rename all but one")
            elif notebook := _take(row, files, released):
                row.notebook = mend(notebook, handed_out, row.remarks)
            else:
                row.remarks = row.remarks or ["missing"]
    return rows


def _safe(id):
    """An identity that may be part of a path, for nbgrader too."""
    return re.sub(r"[^\w.@ -]", "_", id).strip(". ") or "_"


def _roster(path):
    if path is None:
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}).") from None
    if "id" not in table:
        raise UserError(f"{path} needs a column named id; it has {', '.join(table.columns)}.")
    names = table["name"] if "name" in table else [""] * len(table)
    return {_safe(id): name for id, name in zip(table["id"], names, strict=True)}


def _read_all(place):
    """[(path, notebook, or why it is none)] of a learner's folder."""
    files = []
    for path in sorted(place.rglob("*.ipynb")):
        if not path.is_symlink() and ".ipynb_checkpoints" not in path.parts:
            try:
                files.append((path, read(path)))
            except ValueError as error:
                files.append((path, str(error)))
    return files


def _take(row, files, released):
    """The notebook that answers the row's assignment; or None, and a remark that says why."""
    fitting = []
    for path, notebook in files:
        named = path.stem == row.assignment
        if isinstance(notebook, str):
            if row.assignment in path.stem:
                row.remarks = [f"broken: {path.name} {notebook}"]
            continue
        held = _belongs(notebook, released)
        if named and held not in (row.assignment, None):
            row.remarks = [f"{path.name} holds {held}"]
        elif named or held == row.assignment:
            fitting.append((not named, path, notebook))
    if not fitting:
        return None
    fitting.sort(key=lambda file: file[:2])
    renamed, path, notebook = fitting[0]
    if renamed and len(fitting) > 1:
        row.remarks = [f"{len(fitting)} files and none is named {row.assignment}.ipynb: keep one"]
        return None
    row.path, row.remarks = path, [f"renamed: {path.name}"] if renamed else []
    return notebook


def read(path):
    """A notebook of a stranger's. Raises ``ValueError`` that says why it is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"is larger than {LARGEST / 1e6:.0f} MB")
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except ValueError:
        raise
    except Exception as error:  # whatever a file can do to a parser
        raise ValueError(f"is not a notebook ({type(error).__name__})") from None
    return notebook


def _id(cell):
    facts = cell.metadata.get("nbgrader")
    return facts.get("grade_id") if isinstance(facts, dict) else None


def _belongs(notebook, released):
    """The assignment most of whose cells a notebook has, or None if it has none of any."""
    ids = {_id(cell) for cell in notebook.cells} - {None}
    shared = {name: len(ids & set(map(_id, given.cells))) for name, given in released.items()}
    best = max(shared, key=shared.get)
    return best if shared[best] else None


def mend(notebook, handed_out, remarks):
    """The notebook as handed out, with a learner's answers and the cells that the learner added.

    So checks that were edited, deleted, moved or copied, another kernel and forged outputs are
    gone; what was found is appended to ``remarks``. An answer that is missing stays the stub.
    """
    given = {_id(cell): cell for cell in handed_out.cells if _id(cell)}
    answers, added, after = {}, {None: []}, None
    for cell in notebook.cells:
        name = _id(cell)
        if name in given:
            if name in answers:
                remarks.append(f"mended: {name} stands twice, the first counts")
                continue
            answers[name], after = cell, name
        elif name:
            remarks.append(f"mended: a cell of the grader's named {name} was added")
        elif not any(cell.source == other.source for other in handed_out.cells):
            added.setdefault(after, []).append(cell)
    mended = copy.deepcopy(handed_out)
    mended.cells = [_plain(cell) for cell in added[None]]
    for cell in copy.deepcopy(handed_out.cells):
        name = _id(cell)
        answer, facts = answers.get(name), cell.metadata.get("nbgrader", {})
        if name and answer is None:
            remarks.append(f"mended: {name} was deleted")
        elif name and facts.get("solution"):
            cell.source = answer.source
        elif name and answer.source != cell.source:
            remarks.append(f"mended: {name} was edited")
        mended.cells += [cell, *map(_plain, added.get(name, []) if name else [])]
    kernel = notebook.metadata.get("kernelspec", {}).get("name", "python3")
    if kernel != handed_out.metadata.kernelspec.name:
        remarks.append(f"mended: another kernel, {kernel}")
    foreign = "\n".join(c.source for c in mended.cells if not _id(c) or _id(c) in answers)
    own = "\n".join(cell.source for cell in handed_out.cells)
    words = set(LOOK_AT.findall(foreign)) - set(LOOK_AT.findall(own))
    remarks += [f"look at: {', '.join(sorted(words))}"] if words else []
    return mended


def _plain(cell):
    """A learner's own cell, without metadata and outputs."""
    if cell.cell_type == "code":
        return nbformat.v4.new_code_cell(cell.source)
    return nbformat.v4.new_markdown_cell(cell.source)
