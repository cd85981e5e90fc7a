"""Which runs a sweep has: grids, draws and seeds combined, each with a folder's name."""

import hashlib
import itertools
import math
import re
from dataclasses import dataclass

import numpy as np

from genlib import UserError
from genlib.runs.lessons import find_lesson
from genlib.runs.params import coerce, declared, unknown

MOST = 100_000  # runs of one sweep


@dataclass(frozen=True)
class Planned:
    """A run of a sweep: the name of its folder, and the values of what is swept and of ``seed``."""

    name: str
    values: dict


def plan(lesson, grid=None, random=None, n_random=0, seeds=1, seed=None):
    """List the runs of a sweep: each value of ``grid`` with each other's, with each draw, and with
    each seed, which varies fastest.

    lesson: its name. grid: {parameter: values}. random: {parameter: (low, high) or (low, high,
    "log")}: the parameters are drawn together, n_random times, the same at each call. seeds: how
    many; seed: the first of them, None for the lesson's own. Returns a list of ``Planned``.

    Raises ``UserError`` for a parameter or value that the lesson does not have, and too many runs.
    """
    known, grid, random = declared(find_lesson(lesson)), dict(grid or {}), random or {}
    for name in (*grid, *random):
        if name not in known:
            raise unknown(name, known)
        if name in ("run_dir", "resume") or (name == "seed" and (seeds != 1 or name in random)):
            raise UserError(f"{name} cannot be swept here; leave it out (--seeds gives seeds).")
        if name in grid and name in random:
            raise UserError(f"{name} is in the grid and drawn at random; choose one of the two.")
    seeds = coerce("seeds", seeds, int, (1, MOST))
    n_random = coerce("the number of draws", n_random, int, (1, MOST) if random else (0, 0))
    if "seed" in known:
        first = known["seed"].default if seed is None else seed
        grid["seed"] = grid.pop("seed", range(first, first + seeds))  # to the end
    elif seeds != 1:
        raise UserError(f"{lesson} has no parameter seed, so it has one run; leave seeds out.")
    axes = [[{name: _typed(known, name, v)} for v in grid[name]] for name in grid]
    axes.insert(-1, _draws(known, random, n_random))
    count = math.prod(map(len, axes))
    if not 1 <= count <= MOST:
        raise UserError(f"this makes {count:,} runs; a sweep has 1 to {MOST:,}.")
    points = [dict(i for part in point for i in part.items()) for point in itertools.product(*axes)]
    return list({(run := Planned(_name(values), values)).name: run for values in points}.values())


def _typed(known, name, value):
    return coerce(name, value, known[name].kind, known[name].allowed)


def _draws(known, random, n):
    rng, columns = np.random.default_rng(0), {}
    for name, (low, *rest) in random.items():
        kind, wrong = known[name].kind, ":".join(map(str, (low, *rest)))
        if kind not in (int, float):
            raise UserError(f"{name} is no number, so nothing is drawn for it; use --grid.")
        wrong = UserError(
            f"{name}={wrong} is no range: give low:high, or low:high:log with low above 0."
        )
        if not rest or rest[1:] not in ([], ["log"]):
            raise wrong
        low, high, scale = _typed(known, name, low), _typed(known, name, rest[0]), rest[1:]
        if not low < high or (scale and low <= 0):
            raise wrong
        if scale:
            column = np.exp(rng.uniform(math.log(low), math.log(high), n))
        else:
            column = rng.uniform(low, high + (kind is int), n)
        columns[name] = [
            min(int(v if not scale else round(v)), high) if kind is int else float(f"{v:.8g}")
            for v in column
        ]
    return [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ] or [{}]


def _name(values):
    """A folder's name that tells the values, and is valid on every disk."""
    said = ",".join(f"{name}={value}" for name, value in values.items())
    name = re.sub(r"[^\w.,=+-]", "_", said, flags=re.ASCII)[:120]
    if name != said:  # what was replaced or cut may have told two runs apart
        name += "-" + hashlib.sha256(said.encode()).hexdigest()[:8]
    return name
