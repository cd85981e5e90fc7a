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
_DECLARATION = re.compile(r"^\w+: (int|float|bool|str) = ", re.MULTILINE)
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check(namespace):
    """Check the parameters of a notebook, put the coerced values back, and return them.

    namespace: the notebook's ``globals()``; every annotated name in it is a parameter. What it may
    be stands in brackets at the end of its line's comment: ``[1 to 100]``, or choices such as
    ``[linear, cosine]``. Without them it may have any value of its type.

    Raises ``UserError`` that names the parameter, the value given and what is allowed, also for a
    name that papermill injected and the notebook does not have.
    """
    types, history = namespace["__annotations__"], namespace.get("In", ())
    for name in _injected(history):
        if name not in types:
            raise unknown(name, types)
    limits = {}
    for source in filter(_DECLARATION.search, history):  # an edited cell that ran again wins
        limits |= {name: found.allowed for name, found in _read(source).items()}
    values = {n: coerce(n, namespace[n], kind, limits.get(n)) for n, kind in types.items()}
    namespace.update(values)
    return values


@dataclass(frozen=True)
class Declared:
    """A parameter as a lesson's source declares it. ``allowed`` is as ``coerce`` takes it."""

    kind: type
    default: object
    help: str
    allowed: tuple | list | None


def declared(path):
    """Read {name: ``Declared``} from the cells of the notebook at ``path``; nothing is executed.

    Raises ``UserError`` for a notebook without a cell tagged ``parameters``.
    """
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    tagged = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ())]
    if not tagged:
        raise UserError(f"{path} has no cell with the tag `parameters`; give the cell of them one.")
    return _read(tagged[0])


def _read(source):
    """{name: ``Declared``} of the lines ``name: type = literal  # help [what is allowed]``."""
    found, lines = {}, source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.annotation, "id", None) in _TYPES:
            kind = _TYPES[node.annotation.id]
            line = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            allowed = _allowed(re.search(r"\[([^][]*)\]\s*$", line), kind)
            found[node.target.id] = Declared(kind, _number(node.value), line.strip(" #"), allowed)
    return found


def _allowed(brackets, kind):
    """(lowest, highest) of "[1 to 10**7]", a list of "[cosine, linear]", None without brackets."""
    if brackets is None:
        return None
    ends = brackets[1].split(" to ")
    if len(ends) == 2:
        return tuple(_number(ast.parse(end.strip(), mode="eval").body) for end in ends)
    return [kind(choice.strip()) for choice in brackets[1].split(",")]


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
    """Return ``value`` as ``kind`` (int, float, bool or str), or raise a ``UserError``.

    allowed: for a number, a tuple (lowest, highest), both allowed; for any kind, a list of choices.
    """
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
    choices = isinstance(allowed, list)
    if allowed and not (number in allowed if choices else allowed[0] <= number <= allowed[1]):
        raise wrong
    return kind(number)


def _describe(kind, allowed):
    if not allowed:
        return _NAMES[kind]
    if isinstance(allowed, list):
        return "one of " + ", ".join(map(str, allowed))
    return f"{_NAMES[kind]} from {allowed[0]:,} to {allowed[1]:,}"


def _injected(history):
    """Names assigned by the cell that papermill injected, if the last run had one."""
    cells = [source for source in history if source.startswith("# Parameters\n")]
    tree = ast.parse(cells[-1]) if cells else ast.Module(body=[], type_ignores=[])
    return [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
