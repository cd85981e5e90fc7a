"""A class in a folder: assignments released, submissions graded, feedback and grades, by nbgrader.

The folder is one of nbgrader's courses: ``source/``, ``release/``, ``submitted/``, ``autograded/``,
``feedback/``, ``gradebook.db``; so its own commands and its formgrader work there too. Beside them,
``graded/`` holds a file of remarks a submission: what is there is not graded again.
"""

import hashlib
import io
import json
import os
import shutil
import sys
import threading
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from multiprocessing import get_context, parent_process
from pathlib import Path

import nbformat
import pandas as pd
from tqdm import tqdm
from traitlets.config import Config

from genlib import UserError, check_whole
from genlib.classroom import exercises, isolation, submissions
from genlib.files import lock, unwritable, write
from genlib.runs.sweep import THREADS

COLUMNS = ["id", "name", "assignment", "submitted", "points", "of", "to_grade", "remarks"]


def _api(course, **execute):
    """nbgrader for the course of a folder. execute: traits of ``ExecuteForeign``."""
    programs = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name
    if programs not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
    from nbgrader import converters
    from nbgrader.apps import NbGraderAPI

    config, steps = Config(), converters.Autograde.autograde_preprocessors.default()
    steps = [isolation.ExecuteForeign if s.__name__ == "Execute" else s for s in steps]
    config.CourseDirectory.root = str(Path(course).resolve())
    config.Autograde.autograde_preprocessors = steps
    config.ClearSolutions.code_stub = exercises.STUB
    config.ClearSolutions.text_stub = exercises.WORDS
    config.HTMLExporter.sanitize_html = True  # a learner's script would act as the teacher
    config.ExecuteForeign = Config(execute)
    config.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {"remarks"}
    warnings.filterwarnings("ignore", module="nbgrader")  # SQLAlchemy's, of its tables
    return NbGraderAPI(config=config)


def _done(result, what):
    if not result["success"]:
        last = (result.get("error") or result.get("log") or "").strip().splitlines()[-1:]
        raise UserError(f"nbgrader could not {what}: {' '.join(last)}")


def release(lessons, course=".", due=None):
    """Make the exercises of lessons assignments of a class, and one zip to hand out. Its path.

    lessons: names or numbers. due: "2026-12-01 18:00", in this machine's time zone, or None.
    Raises ``UserError`` for an unknown lesson, a time that is none, and a folder that cannot be
    written.
    """
    sources = [exercises.find_exercises(name) for name in lessons]
    course = Path(course)
    try:
        due = due and datetime.fromisoformat(due).astimezone(UTC).replace(tzinfo=None)
    except ValueError:
        raise UserError(f"--due {due} is no time; give one such as '2026-12-01 18:00'.") from None
    packed = io.BytesIO()
    try:
        course.mkdir(parents=True, exist_ok=True)
        for source in sources:
            target = course / "source" / source.stem
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    except OSError as error:
        raise unwritable(course, error) from None
    api = _api(course)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sources:
            _done(api.generate_assignment(source.stem), f"release {source.stem}")
            archive.write(course / "release" / source.stem / source.name, source.name)
            with api.gradebook as book:
                book.update_or_create_assignment(source.stem, duedate=due)
    path = course / "exercises.zip"
    write(path, packed.getvalue())
    return path


def _released(course):
    """{assignment: the notebook as handed out}."""
    paths = sorted(Path(course).glob("release/*/*.ipynb"))
    if not paths:
        raise UserError(f"{course} is no class yet; `genlib class release 02` makes it one.")
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


def grade(folder, course=".", *, roster=None, jobs=None, isolated=True, **limits):
    """Grade what lies in a folder of submissions; what was graded before is not graded again.

    folder, roster: as in ``submissions.collect``. jobs: how many at once, by default the cores.
    isolated: each in a box (``isolation``). limits: ``seconds``, ``cell_seconds`` and ``memory``,
    in GB. Returns the table of ``grades``. Raises ``UserError`` for a folder that is no class,
    holds no submissions or belongs to another process, for limits that are none, and where the
    machine has no boxes.
    """
    jobs = os.cpu_count() if jobs is None else jobs
    check_whole("--jobs", jobs, 1)
    for name, value in limits.items():
        if not value > 0:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} {value:g} is not possible; give a number above 0.")
    released = _released(course)
    rows = submissions.collect(folder, released, roster)
    if isolated:
        isolation.possible()
    course = Path(course).resolve()
    held = lock(course)
    try:
        (course / "graded").mkdir(exist_ok=True)
        due = _prepare(course, rows, released)
        _grade_all(course, due, jobs, dict(isolated=isolated, **limits))
    finally:
        held.release()
    return grades(course)


def _prepare(course, rows, released):
    """Put every submission where nbgrader looks for it. Returns the rows that are to be graded."""
    api, due = _api(course), []
    with api.gradebook as book:
        for id, name in {(row.id, row.name) for row in rows}:
            book.update_or_create_student(id, last_name=name)
        dues = {name: book.find_assignment(name).duedate for name in released}
    old = [note for note in _notes(course) if "digest" in note]
    graded = {(note["id"], note["assignment"]): note["digest"] for note in old}
    for row in rows:
        facts = {"id": row.id, "name": row.name, "assignment": row.assignment}
        if row.notebook is None:
            if (row.id, row.assignment) not in graded:  # perhaps from another folder
                _note(course, {**facts, "remarks": row.remarks})
            continue
        when = datetime.fromtimestamp(row.path.stat().st_mtime, UTC).replace(tzinfo=None)
        if dues[row.assignment] and when > dues[row.assignment]:
            row.remarks.append(f"late by {str(when - dues[row.assignment]).split('.')[0]}")
        text = nbformat.writes(row.notebook)
        master = (course / "source" / row.assignment / f"{row.assignment}.ipynb").read_bytes()
        digest = hashlib.sha256(row.path.read_bytes() + master).hexdigest()
        facts |= {"digest": digest, "submitted": f"{when:%Y-%m-%d %H:%M:%S}"}
        facts["remarks"] = row.remarks
        if graded.get((row.id, row.assignment)) == digest:
            continue
        place = course / "submitted" / row.id / row.assignment
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        write(place / f"{row.assignment}.ipynb", text)
        write(place / "timestamp.txt", f"{when:%Y-%m-%d %H:%M:%S} UTC")
        due.append(facts)
    return due


def _note(course, facts):
    path = course / "graded" / f"{facts['id']}--{facts['assignment']}.json"
    write(path, json.dumps(facts, ensure_ascii=False, indent=1))


def _notes(course):
    return [json.loads(p.read_text(encoding="utf-8")) for p in course.glob("graded/*.json")]


def _grade_all(course, due, jobs, execute):
    if not due:
        return
    with (
        tqdm(total=len(due), desc="graded", unit="") as bar,
        ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (jobs,)) as pool,
    ):
        tasks = {pool.submit(_grade_one, str(course), facts, execute): facts for facts in due}
        for task in as_completed(tasks):
            try:
                graded, remarks = task.result()
            except BrokenProcessPool:
                raise UserError(
                    "a process that grades was ended from outside; run it again: what is graded "
                    "stays."
                ) from None
            tasks[task]["remarks"] += remarks
            if not graded:
                del tasks[task]["digest"]  # so that it is tried again
            _note(course, tasks[task])
            bar.update()


def _begin(jobs):
    """Share the cores, and do not go on grading after the command was killed."""
    os.environ.update(dict.fromkeys(THREADS, str(max(1, os.cpu_count() // jobs))))

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _grade_one(course, facts, execute):
    """Have nbgrader execute and score one submission. Returns whether it did, and what was odd."""
    result = _api(course, **execute).autograde(facts["assignment"], facts["id"])
    name = facts["assignment"]
    path = Path(course) / "autograded" / facts["id"] / name / f"{name}.ipynb"
    if not result["success"] or not path.exists():
        last = (result.get("error") or result.get("log") or "").strip().splitlines()[-1:]
        return False, [f"not graded: {' '.join(last)}"]
    return True, nbformat.read(path, as_version=4).metadata.get("remarks", [])


def feedback(course="."):
    """Write a page for each graded submission, ``feedback/<id>/<assignment>/``. Returns how many.

    Raises ``UserError`` where nothing is graded yet.
    """
    course, api = Path(course).resolve(), _api(course)
    names = sorted({p.parent.name for p in course.glob("autograded/*/*/*.ipynb")})
    if not names:
        raise UserError(f"nothing is graded in {course}; `genlib class grade FOLDER` does it.")
    for name in names:
        _done(api.generate_feedback(name), f"write the feedback to {name}")
    return len(list(course.glob("feedback/*/*/*.html")))


def grades(course="."):
    """A row for each learner and assignment, a pandas table: points, and what is to be known.

    ``points`` count the checks, and the written answers as far as a person has graded them;
    ``to_grade`` says whether one is still to be. Raises ``UserError`` where nothing is graded yet.
    """
    course = Path(course).resolve()
    rows = _notes(course)
    if not rows:
        raise UserError(f"nothing is graded in {course}; `genlib class grade FOLDER` does it.")
    with _api(course).gradebook as book:
        for row in rows:
            row["of"] = book.find_assignment(row["assignment"]).max_score
            row["points"], row["to_grade"] = 0.0, False
            if "digest" in row:
                graded = book.find_submission(row["assignment"], row["id"])
                row["points"], row["to_grade"] = graded.score, graded.needs_manual_grade
            row["remarks"] = "; ".join(row["remarks"])
    table = pd.DataFrame(rows).reindex(columns=COLUMNS).fillna({"submitted": ""})
    return table.sort_values(["assignment", "id"], ignore_index=True)
