"""The kernel of a submission: it knows what Python was like before the submission's first cell.

Checks run in the process of what they check. So they ask first whether the functions by which they
judge are still those that were there at the start.
"""

import builtins
import math
import operator
import os
import sys

import numpy
from ipykernel.kernelapp import IPKernelApp
from IPython import get_ipython

from genlib import classroom
from genlib.classroom import checks

JUDGES = (builtins, math, operator, numpy, numpy.linalg, numpy.testing, checks)
_IPYTHONS = {"exit", "quit", "input"}  # builtins that a shell replaces
_first = {
    module: {name: value for name, value in vars(module).items() if name not in _IPYTHONS}
    for module in JUDGES
}


class Tampered(Exception):
    """What a check relies on was replaced."""

    def _render_traceback_(self):
        return [f"✗ {self}"]


def changed():
    """Names of what is no longer what it was, such as "numpy.allclose"."""
    names = [
        f"{module.__name__}.{name}"
        for module, first in _first.items()
        for name, value in first.items()
        if vars(module).get(name) is not value
    ]
    names += [m.__name__ for m in JUDGES if sys.modules.get(m.__name__) is not m]
    own = {name: value for name, value in vars(checks).items() if not name.startswith("_")}
    names += [f"genlib.classroom.{n}" for n in own if vars(classroom).get(n, own[n]) is not own[n]]
    shell = get_ipython()
    methods = ("run_cell", "run_code", "run_ast_nodes", "showtraceback", "run_cell_async")
    names += [f"IPython's {name}" for name in methods if name in vars(shell)]
    if shell.ast_transformers or shell.custom_exceptions or sys.gettrace() or sys.getprofile():
        names.append("IPython's way to execute cells")
    return names


def intact():
    """Raise ``Tampered`` if what checks rely on was replaced."""
    if names := changed():
        raise Tampered(f"this notebook replaced {', '.join(sorted(names)[:3])}")


def main():
    """Run the kernel. What libraries write past Python, and the kernel's greeting, are dropped."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    IPKernelApp.launch_instance()


if __name__ == "__main__":
    sys.modules["genlib.classroom.guard"] = sys.modules["__main__"]
    main()
