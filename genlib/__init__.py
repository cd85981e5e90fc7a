"""genlib: the small package behind the course. Each module has one job; see CONTRIBUTING.md."""

import contextlib
import difflib
import numbers
import os
import sys
from pathlib import Path

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parents[1]
"""The clone: the folder that holds ``notebooks/``, ``data/`` and ``genlib/``."""


class UserError(ValueError):
    """A user's mistake, told in one sentence: what was given, what is allowed, what to do."""

    def _render_traceback_(self):
        # IPython asks an exception for this method: a learner sees the sentence, not a traceback.
        return [f"{type(self).__name__}: {self}"]


def nearest(name, known):
    """Return " Did you mean 'x'?" for the entry of ``known`` closest to ``name``, or ""."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(name, value, allowed):
    """Raise ``UserError`` if ``value``, given for the option ``name``, is not in ``allowed``."""
    if value not in allowed:
        raise UserError(
            f"{name}={value!r} does not exist; choose one of {', '.join(allowed)}."
            f"{nearest(value, allowed)}"
        )


def check_whole(name, value, low, high=None):
    """Raise ``UserError`` unless ``value``, given for ``name``, is a whole number from ``low`` up,
    to ``high`` if that is given."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        up = "up" if high is None else f"to {high}"
        raise UserError(f"{name}={value!r} is not possible; give a whole number from {low} {up}.")


@contextlib.contextmanager
def quiet_stderr():
    """Silence C++ libraries, which write to file descriptor 2 and obey no Python setting."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
