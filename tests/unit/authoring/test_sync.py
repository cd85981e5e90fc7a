"""Shown = shipped: a tagged cell differs from genlib in docstrings and annotations at most."""

import nbformat
import pytest

from genlib import UserError
from genlib.authoring import sync

TOY = '''\
import functools


def double(x):
    """Twice x."""
    return 2 * x


@functools.total_ordering
class Box:
    """Holds a value."""

    def __init__(self, value):
        self.value = value

    def grow(self, by=1):
        # A comment.
        return self.value + by
'''


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    """A package with the one module ``toy``."""
    monkeypatch.setattr(sync, "PACKAGE", tmp_path)
    (tmp_path / "toy.py").write_text(TOY)


def lesson(tmp_path, *cells):
    """Write a notebook of (tag, source) cells. Returns its path."""
    made = []
    for tag, source in cells:
        made.append(nbformat.v4.new_code_cell(source))
        made[-1].metadata["tags"] = [tag] if tag else []
    nbformat.write(nbformat.v4.new_notebook(cells=made), tmp_path / "lesson.ipynb")
    return tmp_path / "lesson.ipynb"


@pytest.mark.parametrize(
    "target, first, last",
    [
        ("toy.double", "def double(x):", "    return 2 * x"),
        ("toy.Box", "class Box:", "        return self.value + by"),
        ("toy.Box.grow", "def grow(self, by=1):", "    return self.value + by"),
    ],
)
def test_definition_finds_functions_classes_and_methods(target, first, last):
    lines = sync.definition(target).splitlines()
    assert (lines[0], lines[-1]) == (first, last)
    compile("\n".join(lines), target, "exec")


@pytest.mark.parametrize("target", ["toy.triple", "toy.Box.shrink", "toy.grow"])
def test_definition_refuses_a_name_that_genlib_lacks(target):
    with pytest.raises(UserError, match=f"genlib:{target}"):
        sync.definition(target)


@pytest.mark.parametrize(
    "other, equal",
    [
        ("def f(x: int, *, y: str = 'a') -> float:\n    return x", True),
        ('def f(x, *, y="a"):\n    """A docstring."""\n    # A comment.\n\n    return (x)', True),
        ("@decorated\ndef f(x, *, y='a'):\n    return x", True),
        ("def f(x, *, y='b'):\n    return x", False),
        ("def f(x, y='a'):\n    return x", False),
        ("def g(x, *, y='a'):\n    return x", False),
        ("def f(x, *, y='a'):\n    'text'\n    x\n    return x", False),
    ],
)
def test_trees_are_equal_up_to_docstrings_annotations_and_layout(other, equal):
    plain = "def f(x, *, y='a'):\n    return x"
    assert (sync.tree(plain) == sync.tree(other)) == equal


def test_a_body_of_a_docstring_alone_equals_pass():
    assert sync.tree('class A:\n    """Doc."""') == sync.tree("class A:\n    pass")


def test_differing_names_the_cells_that_are_not_what_genlib_ships(tmp_path):
    path = lesson(
        tmp_path,
        ("genlib:toy.double", "def double(x: int):\n    return 2 * x"),
        ("genlib:toy.Box.grow", "def grow(self, by=2):\n    return self.value + by"),
        ("", "def double(x):\n    return 3 * x"),
    )
    assert sync.differing(path) == ["toy.Box.grow"]


def test_sync_changes_only_the_cells_that_differ(tmp_path):
    same, own = "def double(x: int):\n    return 2 * x", "x = 1"
    path = lesson(
        tmp_path, ("genlib:toy.double", same), ("genlib:toy.Box.grow", "def grow(): 0"), ("", own)
    )
    assert sync.sync(path) == ["toy.Box.grow"]
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    assert sources == [same, sync.definition("toy.Box.grow"), own]
    content = path.read_bytes()
    assert sync.sync(path) == [] and path.read_bytes() == content
