"""The annotation decides a parameter's type, whatever papermill or YAML made of the value."""

import json

import pytest

from genlib import UserError
from genlib.runs import params


@pytest.mark.parametrize(
    "kind, given, coerced",
    [
        *((bool, text, True) for text in ("true", "True", "yes", "on", "ON", True)),
        *((bool, text, False) for text in ("false", "False", "no", "off", False)),
        *((int, number, 8) for number in (8, 8.0, "8", "8.0", " 8 ", "8e0")),
        (int, "007", 7),
        (int, -3, -3),
        *((float, number, 1e-4) for number in (1e-4, "1e-4", "0.0001", "1.0e-4")),
        (float, 2, 2.0),
        (float, "2", 2.0),
        *((str, text, text) for text in ("007", "[1,2]", "false", "", "/a/path", "1e-4")),
        (str, 7, "7"),
        (str, None, ""),
    ],
)
def test_coerce_gives_the_annotated_type(kind, given, coerced):
    value = params.coerce("name", given, kind)
    assert value == coerced and type(value) is kind


@pytest.mark.parametrize(
    "kind, given",
    [
        *((bool, value) for value in ("maybe", "", 1, 0, None, "1", [True])),
        *((int, value) for value in ("ten", "", "8.5", 8.5, True, False, None, "[1,2]", [8])),
        *((int, value) for value in ("inf", "nan", float("nan"), 10**400)),
        *((float, value) for value in ("tiny", "", True, None, "1e-4x", "nan", "-inf", [1e-4])),
        (float, 10**400),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_coerce_refuses_in_one_sentence_that_names_parameter_and_value(kind, given):
    with pytest.raises(UserError) as caught:
        params.coerce("rate", given, kind)
    assert f"rate={given!r} is not allowed: give " in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("value, good", [(1, 1), (100, 1), ("50", 1), (0, 0), (101, 0), (1e9, 0)])
def test_a_range_allows_both_its_ends_and_nothing_beyond(value, good):
    if good:
        assert params.coerce("epochs", value, int, (1, 100)) == int(value)
    else:
        with pytest.raises(UserError, match="give a whole number from 1 to 100"):
            params.coerce("epochs", value, int, (1, 100))


def test_a_choice_is_kept_and_another_is_refused_with_the_nearest_one():
    choices = ["cosine", "linear"]
    assert params.coerce("schedule", "linear", str, choices) == "linear"
    with pytest.raises(UserError, match=r"one of cosine, linear.* mean 'cosine'"):
        params.coerce("schedule", "cosin", str, choices)


def test_a_choice_of_numbers_leaves_out_what_lies_between():
    assert params.coerce("channels", "3", int, [0, 1, 3]) == 3
    with pytest.raises(UserError, match=r"channels=2 is not allowed: give one of 0, 1, 3\."):
        params.coerce("channels", 2, int, [0, 1, 3])


CELL = """\
epochs: int = 2  # passes over the images [1 to 10]
rate: float = 0.1  # of Adam (see [3]) [1e-6 to 2**-1]
use_ema: bool = True  # average the weights
"""


def notebook(injected=None, cell=CELL, **values):
    """The globals of a notebook after its parameters cell and papermill's cell."""
    namespace = {"__annotations__": {"epochs": int, "rate": float, "use_ema": bool}}
    namespace |= {"epochs": 2, "rate": 0.1, "use_ema": True, "other": "x"} | values
    history = ["", "%matplotlib inline", cell]
    return namespace | {"In": history if injected is None else [*history, injected]}


def test_check_puts_the_coerced_values_back_and_leaves_other_names_alone():
    namespace = notebook(epochs="8", rate="1e-4", use_ema="false")
    values = params.check(namespace)
    assert values == {"epochs": 8, "rate": 1e-4, "use_ema": False}
    assert {name: namespace[name] for name in values} == values
    assert namespace["other"] == "x"


def test_check_changes_nothing_when_one_value_is_wrong():
    namespace = notebook(epochs="8", rate="ten")
    with pytest.raises(UserError, match="rate='ten'"):
        params.check(namespace)
    assert namespace["epochs"] == "8"


def test_check_refuses_a_name_that_papermill_injected_and_the_notebook_lacks():
    with pytest.raises(UserError, match=r"'epoch' is not a parameter.*mean 'epochs'"):
        params.check(notebook("# Parameters\nepoch = 3\n"))
    assert params.check(notebook("# Parameters\nepochs = 3\n", epochs=3))["epochs"] == 3


def test_check_reads_only_the_last_injected_cell_of_a_session():
    namespace = notebook("# Parameters\nepoch = 3\n")
    namespace["In"] += ["# Parameters\nepochs = 3\n"]
    assert params.check(namespace)["epochs"] == 2


@pytest.mark.parametrize(
    "wrong, allowed", [({"epochs": 11}, "from 1 to 10"), ({"rate": 0.6}, "from 1e-06 to 0.5")]
)
def test_check_takes_the_range_from_the_comment(wrong, allowed):
    with pytest.raises(UserError, match=f"is not allowed: give a.* number.* {allowed}"):
        params.check(notebook(**wrong))


def test_check_follows_a_learner_who_edits_the_cell_and_runs_it_again():
    namespace = notebook(epochs=11)
    namespace["In"] += [CELL.replace("[1 to 10]", "[1 to 20]")]
    assert params.check(namespace)["epochs"] == 11


def test_declared_reads_types_defaults_help_and_what_is_allowed(tmp_path):
    kind = 'kind: str = "a"  # naïve "#" of it [a, b]\n'
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [CELL, kind]}
    (tmp_path / "lesson.ipynb").write_text(json.dumps({"cells": [cell]}))
    found = params.declared(tmp_path / "lesson.ipynb")
    assert found["epochs"] == params.Declared(int, 2, "passes over the images [1 to 10]", (1, 10))
    assert found["rate"].allowed == (1e-6, 0.5) and found["use_ema"].allowed is None
    assert found["kind"].allowed == ["a", "b"]
