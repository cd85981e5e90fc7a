"""The typed parameters of a notebook: coerced, range-checked, named in errors.

papermill turns ``-p use_ema false`` into the string ``'false'`` and YAML's ``1e-4`` into the string
``'1e-4'``. So the annotation in the parameters cell decides the type, not the value that arrives.
"""

import ast
import math

from genlib import UserError, nearest

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
