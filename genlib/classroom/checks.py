"""What the check cells of the exercises say: right, or what is wrong, in a sentence."""

import numpy as np


class NotYet(AssertionError):
    """An answer that is not right yet. In a notebook its sentence is shown, without a traceback."""

    def _render_traceback_(self):
        return [f"✗ {self}"]


def check(right, hint):
    """Raise ``NotYet`` with the hint, one sentence, unless the answer is ``right``."""
    if not right:
        raise NotYet(hint)


def answered(*answers):
    """Raise ``NotYet`` where an answer is still the stub's ``...`` or None."""
    check(not any(a is None or a is ... for a in answers), "There is no answer yet.")


def numbers(value, *shape):
    """Whether an answer holds finite numbers of this shape, ``()`` for a single one."""
    try:
        value = np.asarray(value, "float64")
    except (TypeError, ValueError):
        return False
    return value.shape == shape and bool(np.isfinite(value).all())


def close(answer, expected, tolerance=1e-4):
    """Whether an answer, a number or an array, is ``expected``, up to ``tolerance`` times (1 + its
    size). One of the wrong shape or kind, or with NaN, is not."""
    expected = np.asarray(expected, "float64")
    if not numbers(answer, *expected.shape):
        return False
    answer = np.asarray(answer, "float64")
    return bool(np.all(np.abs(answer - expected) <= tolerance * (1 + np.abs(expected))))
