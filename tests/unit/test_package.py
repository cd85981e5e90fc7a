"""The package keeps to its rooms: imports go one way, what reads needs no Keras, modules are short,
and a lesson takes nothing that is private."""

import ast
import graphlib
import subprocess
import sys

import nbformat
import pytest

from genlib import ROOT
from genlib.authoring import rooms
from genlib.runs import lessons

MODULES = rooms.modules()
IMPORTS = {name: rooms.imports(name, MODULES) for name in MODULES}

SIDEWAYS = {  # from room to module, on one level
    ("metrics", "genlib.runs.results"),
    ("plots", "genlib.data.images"),
    ("data", "genlib.files"),
}
LONG = {}  # {a module of more than 300 lines: why it is right to be}


def level(room):
    return next(number for number, known in enumerate(rooms.LEVELS) if room in known)


def goes_up(module, other):
    """Whether an import is against the order of the rooms."""
    here, there = rooms.room(module), rooms.room(other)
    down = level(here) < level(there)
    return not (down or here == there or (here, other) in SIDEWAYS)


def test_imports_go_one_way_through_the_rooms():
    assert [(a, b) for a in IMPORTS for b in IMPORTS[a] if goes_up(a, b)] == []


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter(IMPORTS).prepare()  # raises CycleError


def test_an_import_is_seen_wherever_it_stands(tmp_path):
    """The tests above must be able to fail."""
    lines = ["import genlib.a", "def f():", "    from genlib import b, UserError"]
    lines += ["    from genlib.c import C", "import lazy_loader"]
    lines += ["lazy_loader.attach(__name__, submodules=['d'], submod_attrs={'e': ['E']})"]
    (tmp_path / "x.py").write_text("\n".join(lines))
    known = dict.fromkeys(("genlib", *(f"genlib.{name}" for name in "abcdefg")))
    known["genlib"] = tmp_path / "x.py"
    assert rooms.imports("genlib", known) == set(known) - {"genlib.f", "genlib.g"}
    assert goes_up("genlib.data.images", "genlib.training.backend")
    assert goes_up("genlib.runs.run", "genlib.models.gan")


def test_the_picture_of_the_rooms_fits_a_screen():
    picture = rooms.draw()
    assert all(name.split(".")[-1] in picture for name in MODULES)
    assert picture.count("\n") < 60


@pytest.mark.parametrize(
    "module", ["genlib.data", "genlib.runs.compare", "genlib.runs.sweep", "genlib.cli"]
)
def test_what_only_reads_data_and_runs_loads_no_backend(module):
    """It would cost seconds, and a sweep's process hundreds of megabytes."""
    code = f"import sys, {module}; print({{'keras', 'tensorflow', 'jax'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_no_module_is_longer_than_300_lines():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name for name, count in lines.items() if count > 300} == set(LONG)


def refusals(node, owner=None):
    """Yield (definition, the class that it is a method of or None) of what raises ``UserError``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from refusals(child, child)
        elif isinstance(child, ast.FunctionDef):
            raised = [n.exc for n in ast.walk(child) if isinstance(n, ast.Raise) and n.exc]
            if any(ast.unparse(error).startswith("UserError(") for error in raised):
                yield child, owner


@pytest.mark.parametrize("module", MODULES)
def test_what_refuses_a_users_mistake_says_so(module):
    for function, owner in refusals(ast.parse(MODULES[module].read_text("utf-8"))):
        public = not function.name.startswith("_") or function.name.startswith("__")
        said = "".join(ast.get_docstring(node) or "" for node in (function, owner) if node)
        assert "UserError" in said or not public, f"{function.name}, line {function.lineno}"


@pytest.mark.parametrize("name", lessons.lessons())
def test_a_lesson_takes_nothing_private_from_genlib(name):
    cells = nbformat.read(lessons.find_lesson(name), as_version=4).cells
    ours = set()
    for cell in (c for c in cells if c.cell_type == "code"):
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("genlib"):
                names = {alias.name for alias in node.names}
                assert not [n for n in (*node.module.split("."), *names) if n.startswith("_")]
                ours |= {alias.asname or alias.name for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] in ours:
                assert not node.attr.startswith("_"), ast.unparse(node)
