"""Shown = shipped: the cells of a lesson that hold genlib's own definitions, kept equal to it.

Such a cell is tagged ``genlib:<room>.<module>.<Name>``, or for a method
``genlib:<room>.<module>.<Class>.<method>``. Equal means the same syntax tree, docstrings and
annotations aside. ``python -m genlib.authoring.sync`` copies genlib's definitions into the cells.
"""

import ast
import sys
import textwrap
from pathlib import Path

import nbformat

from genlib import UserError

PACKAGE = Path(__file__).parents[1]


def tagged_cells(notebook):
    """Yield (cell, target) for each cell tagged ``genlib:target``."""
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("genlib:"):
                yield cell, tag.removeprefix("genlib:")


def definition(target):
    """The source of ``room.module.Name`` or ``room.module.Class.method``, decorators left out.

    Raises ``UserError`` where genlib has no such definition.
    """
    file, names = PACKAGE, target.split(".")
    while file.is_dir() and names:
        file /= names.pop(0)
        file = file if file.is_dir() else file.with_suffix(".py")
    if not file.is_file():
        raise UserError(f"a cell is tagged genlib:{target}, but genlib has no such definition.")
    source = file.read_text(encoding="utf-8")
    node = ast.parse(source)
    for name in names:
        found = [n for n in node.body if getattr(n, "name", None) == name]
        if not found:
            raise UserError(f"a cell is tagged genlib:{target}, but genlib has no such definition.")
        node = found[0]
    return textwrap.dedent(ast.get_source_segment(source, node, padded=True))


def tree(source):
    """The syntax tree of a definition as text, without docstrings and annotations."""
    module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            node.decorator_list = []
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(module)


def differing(path):
    """Targets of a lesson whose cells are not what genlib ships."""
    notebook = nbformat.read(path, as_version=4)
    return [t for cell, t in tagged_cells(notebook) if tree(cell.source) != tree(definition(t))]


def sync(path):
    """Copy definitions that differ from genlib into a lesson's cells. Returns their names."""
    notebook = nbformat.read(path, as_version=4)
    changed = differing(path)
    for cell, target in tagged_cells(notebook):
        if target in changed:
            cell.source = definition(target)
    if changed:
        nbformat.write(notebook, path)
    return changed


if __name__ == "__main__":
    from genlib.runs.lessons import lessons

    try:
        for lesson, file in lessons().items():
            print(f"{lesson}: {', '.join(sync(file)) or 'nothing to do'}")
    except UserError as error:
        sys.exit(str(error))
