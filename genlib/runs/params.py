"""The typed parameters of a notebook: coerced, range-checked, named in errors.

papermill turns ``-p use_ema false`` into the string ``'false'`` and YAML's ``1e-4`` into the string
``'1e-4'``. So the annotation in the parameters cell decides the type, not the value that arrives.
"""

import ast
import json
import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path

from genlib import UserError, nearest

_OPERATORS = {ast.Pow: operator.pow, ast.Sub: operator.sub, ast.Mult: operator.mul}
_TYPES = {"int": int, "float": float, "bool": bool, "str": str}
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check(namespace, **allowed):
    """Check the parameters of a notebook, put the coerced values back, and return them.

    namespace: the notebook's ``globals()``; every annotated name in it is a parameter.
    allowed: for a number, a pair (lowest, highest), both allowed; for a text, a collection of
        choices. A parameter that is not named here may have any value of its type.

    Raises ``UserError`` that names the parameter, the value given and what is allowed, also for a
    name that papermill injected and the notebook does not have.
    """
    types = namespace["__annotations__"]
    for name in _injected(namespace.get("In", ())):
        if name not in types:
            raise unknown(name, types)
    values = {n: coerce(n, namespace[n], kind, allowed.get(n)) for n, kind in types.items()}
    namespace.update(values)
    return values


@dataclass(frozen=True)
class Declared:
    """A parameter as a lesson's source declares it. ``allowed`` is as ``check`` takes it, or None
    where every value of its type is allowed or the source computes it."""

    kind: type
    default: object
    help: str
    allowed: tuple | None


def declared(path):
    """Read {name: ``Declared``} from the cells of the notebook at ``path``; nothing is executed.

    Raises ``UserError`` for a notebook without a cell tagged ``parameters``.
    """
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    tagged = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ())]
    if not tagged:
        raise UserError(f"{path} has no cell with the tag `parameters`; give the cell of them one.")
    lines, limits, found = tagged[0].splitlines(), _limits(sources), {}
    for node in ast.parse(tagged[0]).body:
        name, comment = node.target.id, lines[node.end_lineno - 1][node.end_col_offset :]
        found[name] = Declared(
            _TYPES[node.annotation.id], _number(node.value), comment.strip(" #"), limits.get(name)
        )
    return found


def _limits(sources):
    """{name: allowed} of the call ``params.check(…)``, where its source has plain values."""
    source = next((s for s in sources if re.search(r"\bparams\.check\(", s)), "")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    limits = {}
    for call in calls:
        if ast.unparse(call.func) == "params.check":
            for keyword in call.keywords:
                try:
                    limits[keyword.arg] = tuple(map(_number, keyword.value.elts))
                except (AttributeError, ValueError):  # a constant of genlib: checked when it runs
                    continue
    return limits


def _number(node):
    """The value of a literal; of 2**31 - 1 and the like too."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_number(node.left), _number(node.right))
    return ast.literal_eval(node)


def unknown(name, known):
    """The error for a parameter that a lesson does not have."""
    return UserError(
        f"{name!r} is not a parameter of this lesson (it has {', '.join(known)})."
        f"{nearest(name, known)}"
    )


def coerce(name, value, kind, allowed=None):
    """Return ``value`` as ``kind`` (int, float, bool or str), or raise a ``UserError``."""
    wrong = UserError(f"{name}={value!r} is not allowed: give {_describe(kind, allowed)}.")
    if kind is bool:
        value = _BOOLS.get(str(value).lower())
        if value is None:
            raise wrong
        return value
    if kind is str:
        value = "" if value is None else str(value)
        if allowed and value not in allowed:
            raise UserError(f"{wrong}{nearest(value, allowed)}")
        return value
    if isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise wrong
    if allowed and not allowed[0] <= number <= allowed[1]:
        raise wrong
    return kind(number)


def _describe(kind, allowed):
    if not allowed:
        return _NAMES[kind]
    if kind is str:
        return "one of " + ", ".join(map(str, allowed))
    return f"{_NAMES[kind]} from {allowed[0]:,} to {allowed[1]:,}"


def _injected(history):
    """Names assigned by the cell that papermill injected, if the last run had one."""
    cells = [source for source in history if source.startswith("# Parameters\n")]
    tree = ast.parse(cells[-1]) if cells else ast.Module(body=[], type_ignores=[])
    return [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
