"""Every notebook of exercises: its solution gets all points, its stub none, and each typical wrong
answer in ``wrong_answers/`` what it should.

The cells are executed here, in one process, as a kernel would. A wrong answer is the solution with
a piece of its text replaced; only the checks up to the next answer see it.
"""

import symtable
from pathlib import Path

import nbformat
import pytest
import yaml
from nbgrader import preprocessors

from genlib.classroom import NotYet, notebooks, released
from genlib.runs import lessons

EXERCISES = notebooks()
WRONG = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "wrong_answers").glob("*.yaml"))
}


def facts(cell):
    return cell.metadata.get("nbgrader", {})


def run(source, space):
    exec(compile(source, "<cell>", "exec"), space)


def points(cells, space):
    """Points by check for cells that are executed in turn; only a check may say ``NotYet``."""
    found = {}
    for cell in cells:
        if cell.cell_type != "code":
            continue
        if not facts(cell).get("grade"):
            run(cell.source, space)
            continue
        try:
            run(cell.source, space)
            found[facts(cell)["grade_id"]] = facts(cell)["points"]
        except NotYet:
            found[facts(cell)["grade_id"]] = 0
    return found


@pytest.fixture(scope="module")
def solved():
    """{notebook: (its cells, {answer: the variables before it})}, with the points of solutions."""
    kept = {}

    def solve(name):
        if name not in kept:
            cells, space, before, found = nbformat.read(EXERCISES[name], 4).cells, {}, {}, {}
            for cell in cells:
                if facts(cell).get("solution"):
                    before[facts(cell)["grade_id"]] = dict(space)
                found |= points([cell], space)
            kept[name] = cells, before, found
        return kept[name]

    return solve


def test_every_lesson_has_exercises():
    assert list(EXERCISES) == list(lessons.lessons())


@pytest.mark.backend
@pytest.mark.parametrize("name", EXERCISES)
def test_its_solution_gets_every_point(name, solved):
    cells, _, found = solved(name)
    checks = [c for c in cells if c.cell_type == "code" and facts(c).get("grade")]
    assert found == {facts(c)["grade_id"]: facts(c)["points"] for c in checks}


@pytest.mark.parametrize("name", EXERCISES)
def test_its_stub_runs_as_it_stands_and_gets_no_point(name, capsys):
    found = points(released(EXERCISES[name]).cells, {})
    assert found and set(found.values()) == {0}
    assert "✓" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "what"), [(name, case["what"]) for name in WRONG for case in WRONG[name]]
)
def test_a_typical_wrong_answer_gets_what_it_should(name, what, solved):
    cells, before, _ = solved(name)
    case = next(case for case in WRONG[name] if case["what"] == what)
    places = [facts(c).get("grade_id") for c in cells]
    start = places.index(case["answer"])
    answer = nbformat.from_dict(cells[start])
    old, new = case["replace"]
    assert answer.source.count(old) == 1, f"{old!r} stands {answer.source.count(old)} times"
    answer.source = answer.source.replace(old, new)
    later = [i for i in range(start + 1, len(cells)) if facts(cells[i]).get("solution")]
    upto = cells[start + 1 : later[0] if later else None]
    found = points([answer, *upto], dict(before[case["answer"]]))
    assert found == case["points"]


@pytest.mark.parametrize("name", EXERCISES)
def test_at_least_five_typical_wrong_answers_are_tried(name):
    assert len({case["what"] for case in WRONG[name]}) == len(WRONG[name]) >= 5


@pytest.mark.parametrize("name", EXERCISES)
def test_its_points_are_20_to_40_and_its_ids_unique(name):
    cells = nbformat.read(EXERCISES[name], 4).cells
    assert 20 <= sum(facts(c).get("points", 0) for c in cells) <= 40
    names = [facts(c)["grade_id"] for c in cells]
    assert len(set(names)) == len(names)
    assert sum(bool(facts(c).get("grade")) for c in cells) >= 4


@pytest.mark.parametrize("name", EXERCISES)
def test_its_checks_leave_the_names_of_answers_alone(name):
    """An answer reads its own variables at each call: a check makes none that could be one, only
    ``hint`` and names with a leading underscore."""
    for cell in nbformat.read(EXERCISES[name], 4).cells:
        if cell.cell_type == "code" and facts(cell).get("grade"):
            names = symtable.symtable(cell.source, "<cell>", "exec").get_symbols()
            made = {n.get_name() for n in names if n.is_assigned() or n.is_imported()}
            assert {n for n in made if n[0] != "_"} <= {"hint"}, facts(cell)["grade_id"]


@pytest.mark.parametrize("name", EXERCISES)
def test_nbgrader_takes_its_cells(name):
    notebook = nbformat.read(EXERCISES[name], 4)
    for step in (preprocessors.CheckCellMetadata(), preprocessors.LockCells()):
        step.preprocess(notebook, {})  # raises what nbgrader refuses


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_handed_out_holds_no_solution_and_no_hidden_test(name):
    """Lines of some length that stand inside the marks alone stand nowhere in the released copy."""
    inside, outside = set(), set()
    for cell in nbformat.read(EXERCISES[name], 4).cells:
        secret = False
        for line in map(str.strip, cell.source.splitlines()):
            if line.startswith("### "):
                secret = line.startswith("### BEGIN")
            elif len(line) > 15 and not line.endswith("("):
                (inside if secret else outside).add(line)
    text = "\n".join(cell.source for cell in released(EXERCISES[name]).cells)
    assert inside - outside
    assert [line for line in inside - outside if line in text] == []
    assert "SOLUTION" not in text and "HIDDEN" not in text
