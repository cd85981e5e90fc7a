"""nbgrader itself takes the notebooks: it releases them, and grades what comes back."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbgrader.apps import NbGraderAPI
from traitlets.config import Config

from genlib.classroom import find_exercises


def test_it_gives_a_solution_every_point_and_a_stub_none(tmp_path, monkeypatch):
    programs = Path(sys.executable).parent  # nbgrader calls alembic by its name
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    source = find_exercises("07")  # needs NumPy alone
    name, config = source.stem, Config()
    config.CourseDirectory.root = str(tmp_path)
    api = NbGraderAPI(config=config)
    (tmp_path / "source" / name).mkdir(parents=True)
    shutil.copy(source, tmp_path / "source" / name)
    assert api.generate_assignment(name, force=True)["success"]
    released = tmp_path / "release" / name / source.name
    for student, answers in {"solver": source, "stub": released}.items():
        (tmp_path / "submitted" / student / name).mkdir(parents=True)
        shutil.copy(answers, tmp_path / "submitted" / student / name)
        graded = api.autograde(name, student)
        assert graded["success"], graded["log"]
    checks = [
        cell.metadata.nbgrader.points
        for cell in nbformat.read(source, 4).cells
        if cell.cell_type == "code" and cell.metadata.nbgrader.grade
    ]
    scores = {s: api.get_submission(name, s)["code_score"] for s in ("solver", "stub")}
    assert scores == {"solver": sum(checks), "stub": 0}
