"""What a lesson defines for itself, as a module: for the tests, and for nobody else.

A definition that one lesson alone needs stands in that lesson, in a cell tagged ``definition``.
"""

import ast
import importlib.util
import tempfile
from pathlib import Path

import nbformat

from genlib.runs.lessons import find_lesson


def load(lesson, **given):
    """The cells of a lesson that are tagged ``definition``, imported as one module.

    lesson: its name or number. given: names that those cells take from other cells, such as a
    parameter, with the values that the module gets. The lesson's imports come along; nothing else
    of it is executed. Raises ``UserError`` for a lesson that does not exist.
    """
    path, parts = find_lesson(lesson), []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        if "definition" in cell.metadata.get("tags", []):
            parts.append(cell.source)
        else:
            nodes = ast.parse(cell.source).body
            parts += [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"lesson_{path.stem}.py"
        file.write_text("\n\n".join(parts), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        vars(module).update(given)
        spec.loader.exec_module(module)
    return module
