"""Which room of genlib imports which, read from the source: ``python -m genlib.authoring.rooms``.

A room is a folder of the package, or one of the modules that stand beside the folders.
"""

import ast
import textwrap
from collections import Counter

from genlib import ROOT

LEVELS = [
    ["cli"],
    ["doctor", "authoring", "classroom"],
    ["metrics", "models", "runs"],
    ["training"],
    ["plots", "data", "files"],
    ["genlib"],
]
"""The rooms from the top down: one imports from those on the levels below it."""
ROOMS = [place for level in LEVELS for place in level]


def modules():
    """{name: path} of all modules; a folder's name stands for its ``__init__``."""
    paths = sorted((ROOT / "genlib").rglob("*.py"))
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(dotted, paths, strict=True)}


def room(module):
    """The room of a module: "data" of ``genlib.data.images``, "genlib" of the package itself."""
    return f"{module}.genlib".split(".")[1]


def imports(module, known):
    """The modules among ``known``, {name: path}, that a module imports: at its top, inside its
    functions, or through ``lazy_loader.attach``."""
    found = []
    for node in ast.walk(ast.parse(known[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in known else node.module for name in names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_loader.attach":
            inner = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
            found += [f"{module}.{name}" for name in inner]
    return {name for name in found if name in known}


def draw():
    """The rooms, their modules with lines, and how many modules of one import how many of another,
    as text."""
    known = modules()
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()
    }
    text = [f"{sum(lines.values()):,} lines in {len(known)} modules", ""]
    for place in ROOMS:
        inside = {name: count for name, count in lines.items() if room(name) == place}
        parts = [f"{name.split('.')[-1]} {count}" for name, count in inside.items()]
        listed = ", ".join(parts) if len(parts) > 1 else ""
        head = f"{place:10}{sum(inside.values()):6,}  "
        text += textwrap.wrap(listed, 100, initial_indent=head, subsequent_indent=" " * 18) or [
            head
        ]
    pairs = {(name, other) for name in known for other in imports(name, known)}
    counts = Counter((room(a), room(b)) for a, b in pairs)
    text += ["", "imports of modules, from the room on the left into the one above", ""]
    text += [" " * 10 + "".join(f"{place:>10}" for place in ROOMS)]
    for row in ROOMS:
        cells = (counts[row, column] if row != column else "\\" for column in ROOMS)
        text += [f"{row:10}" + "".join(f"{cell or '·':>10}" for cell in cells)]
    return "\n".join(line.rstrip() for line in text)


if __name__ == "__main__":
    print(draw())
