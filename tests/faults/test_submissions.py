"""Submissions of all kinds, graded in one go: right, half, late, broken, hostile. Nobody gets
points that are not earned, nothing outside a box changes, and no learner is without a row."""

import os
import shutil
import subprocess
import sys
import time
import zipfile

import nbformat
import pandas as pd
import pytest

from genlib import UserError, cli
from genlib.classroom import exercises, gradebook, isolation, submissions

ANSWERS = {"double": "def double(x):\n    return 2 * x", "total": "total = 6"}
SECRET = "a hidden test"


def cell(name, source, points=None, solution=False):
    facts = {"grade_id": name, "schema_version": 3, "locked": not solution, "solution": solution}
    facts |= {"grade": points is not None, "task": False}
    facts |= {} if points is None else {"points": points}
    return nbformat.v4.new_code_cell(source, metadata={"nbgrader": facts})


def exercise():
    """Two answers of 2 and 3 points, and one in words, of 4."""
    wrap = "### BEGIN SOLUTION\n{}\n### END SOLUTION"
    hidden = "### BEGIN HIDDEN TESTS\ncheck({}, 'a hidden test')\n### END HIDDEN TESTS"
    says = "from genlib.classroom import check\n"
    cells = [
        nbformat.v4.new_markdown_cell("# Exercises"),
        cell("double", wrap.format(ANSWERS["double"]), solution=True),
        cell(
            "double_check",
            f"{says}check(double(2) == 4, 'no')\n{hidden.format('double(3) == 6')}",
            2,
        ),
        cell("total", wrap.format(ANSWERS["total"]), solution=True),
        cell("total_check", f"{says}check(total == 6, 'no')\n{hidden.format('total > 0')}", 3),
        cell("words", "why = 'to be read'", 4, solution=True),
    ]
    cells[-1].cell_type = "markdown"
    del cells[-1]["outputs"], cells[-1]["execution_count"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@pytest.fixture(scope="module")
def boxes():
    try:
        isolation.possible()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A class with one released assignment, ``00_sums``."""
    folder = tmp_path_factory.mktemp("class")
    source = folder / "notebooks" / "exercises" / "00_sums"
    source.mkdir(parents=True)
    nbformat.write(exercise(), source / "00_sums.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genlib.classroom.exercises.NOTEBOOKS", folder / "notebooks")
        gradebook.release(["00"], folder / "course", due="2026-12-01 18:00")
    return folder / "course"


def answered(course, **answers):
    """The released notebook with answers in place."""
    notebook = nbformat.read(course / "release" / "00_sums" / "00_sums.ipynb", 4)
    for one in notebook.cells:
        name = one.metadata.get("nbgrader", {}).get("grade_id")
        one.source = answers.get(name, one.source)
    return notebook


def find(notebook, name):
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name)


def before(code):
    """The right answers, after code of a cheat's."""
    return {**ANSWERS, "double": f"{code}\n{ANSWERS['double']}"}


HOSTILE = {  # {learner: (answers, points for them, a word of the remarks)}
    "loop": (before("while True:\n    pass"), 3, "took too long"),
    "stubborn": (
        before("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True:\n    pass"),
        0,
        "could not be interrupted",
    ),
    "memory": (before("import numpy as np\nx = np.ones(2**29)"), 0, "GB of memory"),
    "exit": ({**ANSWERS, "total": "import os\nos._exit(0)"}, 2, "Python ended"),
    "flood": (before("for i in range(100):\n    print('x' * 1_000_000)"), 5, "output cut"),
    "check": ({"double": "import genlib.classroom as c\nc.check = print"}, 0, "replaced"),
    "own": ({"double": "def check(*_): pass\ndouble = abs"}, 0, ""),
    "swallow": (
        {"total": "get_ipython().set_custom_exc((Exception,), lambda *a, **k: None)\ntotal = 1"},
        0,
        "replaced",
    ),
    "strip": ({"total": "get_ipython().ast_transformers.append(print)\ntotal = 1"}, 0, "look at"),
    "stop": (
        {"total": "class T:\n    def __eq__(s, o):\n        raise SystemExit\ntotal = T()"},
        0,
        "",
    ),
    "numpy": ({**ANSWERS, "total": "import numpy\nnumpy.abs = max\ntotal = 6"}, 2, "numpy.abs"),
}
THEFT = """
import glob, os, shutil, socket
places = [p for p in ("{course}", "{other}", os.path.expanduser("~root"), "/home", "/etc")]
found = [f for p in places for f in glob.glob(p + "/**", recursive=True)]
print("seen", [f for f in found if os.path.isfile(f)])
for place in places:
    shutil.rmtree(place, ignore_errors=True)
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=2)
    print("connected")
except OSError:
    print("no network")
print("empty" if not os.listdir(".") else "not empty")
try:
    open("{data}/taken", "w")
    print("written")
except OSError:
    print("read only")
print("secret" if any("hidden" + " test" in str(v) for v in dict(globals()).values()) else "safe")
"""


@pytest.fixture(scope="module")
def graded(course, boxes, tmp_path_factory):
    """Every kind of submission at once: the table by learner, and their outputs."""
    folder = tmp_path_factory.mktemp("handed in")
    victim = tmp_path_factory.mktemp("other") / "work.txt"
    victim.write_text("mine")
    server = __import__("socket").create_server(("127.0.0.1", 0))
    facts = {"course": course, "other": victim.parent, "port": server.getsockname()[1]}
    theft = THEFT.format(**facts, data=isolation.ROOT / "data")
    kinds = {
        "right_Ada Lövelace": answered(course, **ANSWERS),
        "half_Çelik Öz": answered(course, double=ANSWERS["double"], words="It grows."),
        "wrong_": answered(course, double="def double(x):\n    return x + 2", total="total = 5"),
        "stub_": answered(course),
        "thief_": answered(course, **before(theft)),
        **{f"{name}_x": answered(course, **kind[0]) for name, kind in HOSTILE.items()},
    }
    edited = answered(course, double="double = abs", total="total = 7")
    find(edited, "double_check").source = "pass"
    copied = nbformat.from_dict(find(edited, "total_check"))
    copied.source, copied.id = "print('✓ right')", "copied"
    edited.cells = [c for c in edited.cells if c is not find(edited, "total_check")] + [copied]
    edited.metadata.kernelspec.name = "bash"
    for one in edited.cells:
        if one.cell_type == "code":
            one.outputs = [nbformat.v4.new_output("stream", text="✓ right\n")]
    kinds["edited_"] = edited
    helped = answered(course, double="def double(x):\n    return helper(x)", total="total = 6")
    helped.cells.insert(1, nbformat.v4.new_code_cell("def helper(x):\n    return 2 * x"))
    kinds["helped_"] = helped
    for name, notebook in kinds.items():
        (folder / name).mkdir()
        nbformat.write(notebook, folder / name / "00_sums.ipynb")
        os.utime(folder / name / "00_sums.ipynb", (1.79e9, 1.79e9))
    late = folder / "right_Ada Lövelace" / "00_sums.ipynb"
    os.utime(late, (time.mktime((2026, 12, 1, 20, 0, 0, 0, 0, -1)),) * 2)
    (folder / "renamed_").mkdir()
    shutil.copy(late, folder / "renamed_" / "meine Lösung (1).ipynb")
    for name, content in (("broken_", b"{"), ("binary_", bytes(range(256))), ("empty_", b"")):
        (folder / name).mkdir()
        (folder / name / "00_sums.ipynb").write_bytes(content)
    (folder / "nothing_").mkdir()
    (folder / "two_").mkdir()
    for name in ("one.ipynb", "other.ipynb"):
        shutil.copy(late, folder / "two_" / name)
    for name in ("twice_a", "twice_b"):
        shutil.copytree(folder / "wrong_", folder / name)
    (folder / "link_").mkdir()
    (folder / "link_" / "00_sums.ipynb").symlink_to(course / "source" / "00_sums" / "00_sums.ipynb")
    roster = folder / "roster.csv"
    roster.write_text("id,name\nabsent,Zoë\nwrong,Bob\n", encoding="utf-8")
    untouched = {
        p: p.read_bytes() for p in (*folder.rglob("*.ipynb"), victim) if not p.is_symlink()
    }
    table = gradebook.grade(
        folder, course, roster=roster, seconds=12, cell_seconds=3, memory=1, jobs=2
    )
    assert {p: p.read_bytes() for p in untouched} == untouched
    return table.set_index("id")


def test_totals_equal_a_hand_count(graded):
    expected = {"right": 5, "half": 2, "wrong": 0, "stub": 0, "helped": 5, "renamed": 5}
    assert {id: graded.points[id] for id in expected} == expected
    assert set(graded.of) == {9}


def test_an_answer_in_words_waits_for_a_person_and_an_untouched_one_does_not(graded):
    assert graded.to_grade["half"] and not graded.to_grade["stub"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_submission_gets_what_it_earned_and_is_reported(graded, name):
    _, points, word = HOSTILE[name]
    assert graded.points[name] == points
    assert word in graded.remarks[name]


def test_tampering_is_mended_and_reported(graded):
    assert graded.points["edited"] == 0
    remarks = graded.remarks["edited"]
    for found in ("double_check was edited", "another kernel, bash", "total_check was edited"):
        assert found in remarks


def test_a_submission_sees_nothing_of_the_class_no_network_and_an_empty_folder(graded, course):
    path = course / "autograded" / "thief" / "00_sums" / "00_sums.ipynb"
    (said,) = (o.text for o in find(nbformat.read(path, 4), "double").outputs)
    lines = said.split("\n")
    assert lines[0] == "seen ['/etc/ld.so.cache']"
    assert lines[1:5] == ["no network", "empty", "read only", "safe"]
    assert graded.points["thief"] == 5
    assert (course / "gradebook.db").exists() and (course / "source").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *(("late by 2:00:00", "right"), ("renamed: meine Lösung (1).ipynb", "renamed")),
        *(("broken: 00_sums.ipynb", "broken"), ("broken: 00_sums.ipynb", "binary")),
        *(("broken: 00_sums.ipynb", "empty"), ("missing", "nothing"), ("missing", "absent")),
        *(("2 folders begin with twice_", "twice"), ("missing", "link")),
        ("2 files and none is named 00_sums.ipynb: keep one", "two"),
    ],
)
def test_what_is_odd_is_a_row_with_a_reason(graded, name, why):
    assert name in graded.remarks[why]


def test_names_keep_their_letters(graded):
    assert graded.name["right"] == "Ada Lövelace" and graded.name["absent"] == "Zoë"


def test_feedback_is_a_page_without_scripts_of_the_learner_and_grades_are_a_csv(
    graded, course, tmp_path, capsys
):
    assert cli.main(["class", "feedback", "--class-folder", str(course)]) == 0
    page = (course / "feedback" / "wrong" / "00_sums" / "00_sums.html").read_text(encoding="utf-8")
    assert "✗ no" in page
    csv = tmp_path / "grades.csv"
    assert cli.main(["class", "export", str(csv), "--class-folder", str(course)]) == 0
    table = pd.read_csv(csv, index_col="id")
    assert table.points["half"] == 2 and "late" in table.remarks["right"]
    assert "rows in" in capsys.readouterr().out


def test_a_zip_to_hand_out_holds_the_notebooks_alone(course):
    with zipfile.ZipFile(course / "exercises.zip") as archive:
        assert archive.namelist() == ["00_sums.ipynb"]
        text = archive.read("00_sums.ipynb").decode()
    assert SECRET not in text and "2 * x" not in text


def test_a_file_that_answers_another_assignment_is_a_row_with_a_reason(course, tmp_path):
    (tmp_path / "1_x").mkdir()
    nbformat.write(answered(course, **ANSWERS), tmp_path / "1_x" / "01_more.ipynb")
    sums = nbformat.read(course / "release" / "00_sums" / "00_sums.ipynb", 4)
    more = nbformat.from_dict(sums)
    for one in more.cells[1:]:
        one.metadata.nbgrader.grade_id += "_more"
    found = submissions.collect(tmp_path, {"00_sums": sums, "01_more": more})
    assert [row.remarks for row in found] == [
        ["renamed: 01_more.ipynb"],
        ["01_more.ipynb holds 00_sums"],
    ]
    assert found[0].notebook and found[1].notebook is None


def test_what_a_class_and_a_learner_alone_get_is_the_same(course):
    source = course / "source" / "00_sums" / "00_sums.ipynb"
    given = nbformat.read(course / "release" / "00_sums" / "00_sums.ipynb", 4)
    alone = exercises.released(source)
    assert [c.source for c in given.cells] == [c.source for c in alone.cells]


def test_a_grading_that_was_killed_goes_on_where_it_stopped(course, boxes, tmp_path):
    own, folder = tmp_path / "own", tmp_path / "in"
    shutil.copytree(course, own, ignore=shutil.ignore_patterns("graded", "autograded", ".lock"))
    for i in range(4):
        (folder / f"{i}_x").mkdir(parents=True)
        nbformat.write(answered(course, **ANSWERS), folder / f"{i}_x" / "00_sums.ipynb")
    command = [sys.executable, "-m", "genlib.cli", "class", "grade", folder, "--jobs", "1"]
    command = [*map(str, command), "--class-folder", str(own)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((own / "graded").glob("*.json")) and running.poll() is None:
        time.sleep(0.05)
    running.kill()
    running.wait()
    done = {p: p.stat().st_mtime_ns for p in (own / "graded").glob("*.json")}
    assert 1 <= len(done) < 4
    table = gradebook.grade(folder, own)
    assert table.points.tolist() == [5, 5, 5, 5]
    assert {p: p.stat().st_mtime_ns for p in done} == done


def test_what_nbgrader_could_not_grade_is_a_row_and_is_tried_again(course, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(course, own, ignore=shutil.ignore_patterns("graded", "autograded", ".lock"))
    facts = {"id": "7", "name": "x", "assignment": "00_sums", "remarks": [], "digest": "abc"}
    (own / "graded").mkdir()
    gradebook._grade_all(own, [facts], 1, {})  # nothing lies in submitted/7
    (row,) = gradebook.grades(own).to_dict("records")
    assert row["points"] == 0 and row["remarks"].startswith("not graded: ")
    assert "digest" not in gradebook._notes(own)[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["release", "77"], "there is no notebook of exercises"),
        (["release", "02", "--due", "soon"], "is no time"),
        (["grade", "nowhere"], "is no class yet"),
        (["grade", "nowhere", "--jobs", "0"], "--jobs=0 is not possible"),
        (["grade", "nowhere", "--cell-seconds", "-1"], "--cell-seconds -1 is not possible"),
        (["feedback"], "nothing is graded"),
        (["export", "grades.csv"], "nothing is graded"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["class", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_boxes_nothing_is_graded_unless_it_is_asked_for(
    course, tmp_path, monkeypatch
):
    (tmp_path / "1_x").mkdir()
    nbformat.write(answered(course, **ANSWERS), tmp_path / "1_x" / "00_sums.ipynb")
    own = tmp_path / "own"
    shutil.copytree(course, own, ignore=shutil.ignore_patterns("graded", "autograded", ".lock"))
    monkeypatch.setattr(isolation, "NAMESPACES", ("no-such-program",))
    with pytest.raises(UserError, match="no-such-program is not installed"):
        gradebook.grade(tmp_path, own)
    assert not (own / "graded").exists()
