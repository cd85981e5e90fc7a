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


def close(answer, expected, tolerance=1e-4):
    """Whether an answer, a number or an array, is ``expected``, up to ``tolerance`` times (1 + its
    size). One of the wrong shape or kind, or with NaN, is not."""
    try:
        answer = np.asarray(answer, "float64")
    except (TypeError, ValueError):
        return False
    expected = np.asarray(expected, "float64")
    if answer.shape != expected.shape:
        return False
    return bool(np.all(np.abs(answer - expected) <= tolerance * (1 + np.abs(expected))))
