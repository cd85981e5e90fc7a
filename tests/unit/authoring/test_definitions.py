"""What a lesson defines for itself can be imported and tested like the package's own code."""

import nbformat
import pytest

from genlib import UserError
from genlib.authoring import definitions


@pytest.fixture
def lesson(stand_in):
    """A lesson whose tagged cells need an import of an untagged one, each other and a parameter."""
    sources = {
        "from math import sqrt\n\nprint('executed')\nraise RuntimeError": [],
        "def root(x):\n    return sqrt(x) + OFFSET": ["definition"],
        "other = 1": [],
        "class Twice:\n    value = 2 * root(4)": ["definition"],
    }
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        for source, tags in sources.items()
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), stand_in / "01_defines.ipynb")


def test_the_tagged_cells_and_the_imports_are_all_that_is_executed(lesson, capsys):
    module = definitions.load("01", OFFSET=10)
    assert module.root(9) == 13 and module.Twice.value == 24
    assert not hasattr(module, "other") and capsys.readouterr().out == ""


def test_a_lesson_that_does_not_exist_is_one_sentence(lesson):
    with pytest.raises(UserError, match="there is no lesson '77'"):
        definitions.load("77")
