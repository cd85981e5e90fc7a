"""A learner alone: a copy to work in, checks that answer in a sentence, the solution afterwards."""

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from genlib import UserError, cli
from genlib.classroom import NotYet, answered, check, close, hand_out


def test_a_copy_is_put_into_a_new_folder_and_answers_are_never_overwritten(tmp_path):
    path = hand_out("02", tmp_path / "a" / "my")
    assert path == tmp_path / "a" / "my" / "02_gan.ipynb"
    nbformat.validate(nbformat.read(path, 4))
    path.write_text("my answers")
    assert hand_out("02_gan", path.parent) == path
    assert path.read_text() == "my answers"


def test_the_solution_is_a_file_of_its_own_without_the_marks_of_the_grader(tmp_path):
    text = hand_out("02", tmp_path, solution=True).read_text(encoding="utf-8")
    assert "softplus(-real_logits)" in text
    assert "nbgrader" not in text and "BEGIN SOLUTION" not in text and "HIDDEN" not in text
    assert not (tmp_path / "02_gan.ipynb").exists()


@pytest.mark.parametrize("name", ["2", "99", "gan", ""])
def test_an_unknown_lesson_is_refused_in_one_sentence(name, tmp_path):
    with pytest.raises(UserError, match="there is no notebook of exercises"):
        hand_out(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "my").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        hand_out("02", tmp_path / "my")


def test_the_command_prints_where_the_copy_is(tmp_path, capsys):
    assert cli.main(["exercise", "02", "--folder", str(tmp_path), "--no-open"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "02_gan.ipynb")
    assert cli.main(["exercise", "77", "--folder", str(tmp_path), "--no-open"]) == 2


def test_in_a_notebook_a_wrong_answer_is_one_line_and_not_a_traceback():
    source = "from genlib.classroom import check\ncheck(False, 'The sum is not 1.')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, allow_errors=True, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.traceback == ["✗ The sum is not 1."]


def test_a_stub_is_no_answer():
    for empty in (None, ...):
        with pytest.raises(NotYet, match="no answer"):
            answered(1.0, empty)
    answered(0, np.zeros(3), "", [])


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        *((2.0, True), (2.0001, True), (np.float32(2), True), (2.1, False), (1e9, False)),
        *((np.nan, False), (None, False), (..., False), ("two", False), ([2.0], False)),
    ],
)
def test_close_says_whether_and_never_breaks(answer, right):
    assert close(answer, 2.0) is right


def test_close_compares_arrays_of_one_shape():
    assert close([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]))
    assert not close([1, 2, 3], [[1, 2, 3]])
    assert not close([1, 2, np.inf], [1, 2, 3])


def test_check_passes_what_is_right():
    check(np.bool_(True), "never said")
