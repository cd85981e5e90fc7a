"""What every stored lesson promises, read from the file without running it."""

import re
import statistics
from pathlib import Path

import nbformat
import pytest
import yaml

from genlib import ROOT
from genlib.authoring import sync
from genlib.runs import lessons, params

LESSONS = lessons.lessons()
MACHINE_PATHS = re.compile(r"/(home|root|Users|tmp|work|var)/\w")


@pytest.fixture(params=LESSONS)
def path(request):
    return LESSONS[request.param]


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def questions(notebook):
    return [c for c in notebook.cells if "questions" in c.metadata.get("tags", [])]


def outputs(notebook):
    return [(cell, output) for cell in code_cells(notebook) for output in cell.outputs]


def test_the_file_is_a_valid_notebook_for_the_kernel_python3(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_it_was_executed_once_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_no_error_warning_or_machine_path_is_stored(notebook):
    for _, output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text", "")[:300]
    text = "".join(
        str(o.get("text", "")) + str(o.get("data", {}).get("text/plain"))
        for _, o in outputs(notebook)
    )
    assert not MACHINE_PATHS.search(text + "".join(c.source for c in notebook.cells))


def test_every_picture_has_alternative_text(notebook):
    pictures = 0
    for _, output in outputs(notebook):
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                pictures += 1
                assert output.metadata.get(kind, output.metadata).get("alt"), output.metadata
    assert pictures


def test_one_parameters_cell_with_a_type_and_a_comment_a_line(notebook):
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    for line in cells[0].source.splitlines():
        assert re.fullmatch(r"\w+: (int|float|bool|str) = \S.*  # \S.+", line), line


def test_every_number_among_the_parameters_says_what_it_may_be(path):
    for name, declared in params.declared(path).items():
        if declared.kind in (int, float):
            assert (
                params.coerce(name, declared.default, declared.kind, declared.allowed) is not None
            )
            assert declared.allowed, name


def test_it_checks_its_parameters_in_the_next_code_cell(notebook):
    cells = code_cells(notebook)
    place = next(i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))
    assert "params.check(" in cells[place + 1].source


def test_presets_name_only_parameters_that_the_lesson_has(path):
    for preset in ("quick", "gpu"):
        file = lessons.NOTEBOOKS / "params" / preset / f"{path.stem}.yaml"
        assert set(yaml.safe_load(file.read_text()) or {}) <= set(params.declared(path))


def test_cells_that_print_numbers_are_compared_when_it_runs_twice(notebook):
    marked = [c for c in code_cells(notebook) if "nbval-check-output" in c.metadata.get("tags", [])]
    assert marked
    assert all(re.search(r"\d", str(cell.outputs)) for cell in marked)


def test_code_cells_are_short(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert max(lengths) <= 30
    assert statistics.median(lengths) <= 10


def test_prose_and_size_are_within_budget(path, notebook):
    prose = [
        c for c in notebook.cells if c.cell_type == "markdown" and c not in questions(notebook)
    ]
    words = sum(len(c.source.split()) for c in prose)
    assert 600 <= words <= 2800  # formulas and references counted
    assert path.stat().st_size < 600 * 1024


def test_five_questions_with_hidden_answers_stand_near_the_end(notebook):
    (cell,) = questions(notebook)
    asked = re.findall(
        r"<details><summary>(\d)\. [^\n]+</summary>\n\n.+?\n\n</details>", cell.source, re.S
    )
    assert asked == list("12345")
    assert notebook.cells.index(cell) >= len(notebook.cells) - 4


def test_links_to_files_lead_somewhere(notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith(("http", "attachment:")):
            assert (lessons.NOTEBOOKS / target).exists(), target


def test_shown_definitions_are_the_shipped_ones(path):
    assert sync.differing(path) == []


def test_each_definition_is_shown_in_one_lesson_only():
    targets = [
        target
        for file in LESSONS.values()
        for _, target in sync.tagged_cells(nbformat.read(file, as_version=4))
    ]
    assert targets and len(targets) == len(set(targets))


def test_no_numbered_notebook_is_left_out_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"notebooks/{Path(file).name}" in readme for file in LESSONS.values())
