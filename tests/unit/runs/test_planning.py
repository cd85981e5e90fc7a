"""A sweep's plan: each value with each, repeatable draws, seeds, names for every disk."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genlib import UserError
from genlib.runs import planning


def values_of(runs):
    return [tuple(run.values.items()) for run in runs]


@pytest.fixture(autouse=True)
def seeded(stand_in):
    """Give the stand-in a seed and a rate."""
    path = stand_in / "00_stand_in.ipynb"
    notebook = json.loads(path.read_text())
    lines = "seed: int = 3  # of all\nrate: float = 0.1  # how fast\n"
    notebook["cells"][0]["source"] = lines + "".join(notebook["cells"][0]["source"])
    path.write_text(json.dumps(notebook))


def test_a_grid_is_each_value_with_each_and_with_each_seed_the_seed_fastest():
    runs = planning.plan("00", {"epochs": ["1", "2"], "rate": [0.5]}, seeds=2)
    assert values_of(runs) == [
        (("epochs", e), ("rate", 0.5), ("seed", s)) for e in (1, 2) for s in (3, 4)
    ]
    assert [run.name for run in runs][:2] == [
        "epochs=1,rate=0.5,seed=3",
        "epochs=1,rate=0.5,seed=4",
    ]


def test_the_first_seed_can_be_given_and_seeds_can_be_the_grid():
    assert values_of(planning.plan("00", seeds=2, seed=7)) == [(("seed", 7),), (("seed", 8),)]
    runs = planning.plan("00", {"seed": [5, 1], "epochs": [1]})
    assert values_of(runs) == [(("epochs", 1), ("seed", 5)), (("epochs", 1), ("seed", 1))]


def test_values_given_twice_are_run_once():
    assert len(planning.plan("00", {"rate": ["0.5", ".50", 0.5]})) == 1


def test_draws_lie_in_their_range_are_repeatable_and_go_with_each_grid_value():
    ranges = {"rate": (1e-4, 1e-1, "log"), "epochs": (1, 100)}
    runs = planning.plan("00", {"use_ema": [True, False]}, ranges, 200)
    assert len(runs) == 400
    rates = [run.values["rate"] for run in runs]
    assert rates[:200] == rates[200:]  # the same draws for both grid values
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert 70 < sum(rate < math.sqrt(1e-5) for rate in rates[:200]) < 130  # log: half below
    assert {type(run.values["epochs"]) for run in runs} == {int}
    assert planning.plan("00", {"use_ema": [True, False]}, ranges, 200) == runs


def test_whole_numbers_are_drawn_with_both_ends():
    drawn = [r.values["epochs"] for r in planning.plan("00", None, {"epochs": (1, 3)}, 300)]
    assert set(drawn) == {1, 2, 3}
    drawn = [r.values["epochs"] for r in planning.plan("00", None, {"epochs": (1, 3, "log")}, 300)]
    assert set(drawn) == {1, 2, 3}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_different_values_get_different_names_that_every_disk_takes(texts):
    names = [planning._name({"dataset": text}) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert name.isascii() and len(name) < 140 and not set(name) & set('/\\:*?"<>| \n\0')


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(grid={"epoch": [1]}), "'epoch' is not a parameter"),
        (dict(grid={"epochs": [1, 101]}), "epochs=101 is not allowed"),
        (dict(grid={"epochs": []}), "makes 0 runs"),
        (dict(grid={"run_dir": ["a"]}), "run_dir cannot be swept"),
        (dict(grid={"seed": [1]}, seeds=2), "seed cannot be swept here"),
        (dict(grid={"epochs": [1]}, random={"epochs": (1, 2)}, n_random=2), "choose one"),
        (dict(seeds=0), "seeds=0 is not allowed"),
        (dict(n_random=3), "the number of draws=3 is not allowed"),
        (dict(random={"rate": (0.1, 1)}, n_random=0), "the number of draws=0"),
        (dict(random={"rate": (1, 0.1)}, n_random=2), "rate=1:0.1 is no range"),
        (dict(random={"rate": (0, 1, "log")}, n_random=2), "low above 0"),
        (dict(random={"rate": (0.1, 1, "lin")}, n_random=2), "rate=0.1:1:lin is no range"),
        (dict(random={"dataset": ("a", "b")}, n_random=2), "dataset is no number"),
        (dict(random={"epochs": (1, 500)}, n_random=2), "epochs=500 is not allowed"),
        (dict(grid={"epochs": range(1, 101)}, seeds=2000), "200,000 runs"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_before_anything_runs(arguments, words):
    with pytest.raises(UserError, match=words):
        planning.plan("00", **arguments)
