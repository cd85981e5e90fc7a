"""Tables: numbers in few digits or in full, cells of one line, files all or none."""

import csv
import io

import pytest

from genlib import UserError
from genlib.runs import tables


@pytest.mark.parametrize(
    "number, said",
    [
        *[(1 / 3, "0.3333"), (1234.5, "1,234"), (-1e6, "-1,000,000"), (2e9, "2e+09"), (0, "0")],
        *[(1e-7, "1e-07"), (999.96, "1000"), (float("nan"), "nan"), (float("-inf"), "-inf")],
    ],
)
def test_a_number_has_four_digits_and_thousands_apart(number, said):
    assert tables.number(number) == said


@pytest.mark.parametrize(
    "value, longest, said",
    [
        *[(None, None, ""), (" a\n b\t", None, "a b"), (True, 3, "T…e")],
        *[("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc…fg"), ("abcdefgh", 5, "ab…gh")],
    ],
)
def test_a_cell_is_one_line_cut_in_its_middle(value, longest, said):
    assert tables.cell(value, longest) == said
    assert longest is None or len(tables.cell(value, longest)) <= longest


def test_text_stands_left_and_numbers_right():
    table = tables.frame([("name", ["a", "long name"]), ("n", ["12", "3"])])
    assert tables.to_text(table, [False, True]) == "name        n\na          12\nlong name   3"


def test_csv_keeps_numbers_whole_words_apart_and_nothing_from_no_number():
    values = [("a", [1 / 3, 'x,"y"\n', 7]), ("b", [None, float("nan"), True]), ("b", [1, 2, 3])]
    assert list(csv.reader(io.StringIO(tables.to_csv(tables.frame(values))))) == [
        ["a", "b", "b"],
        [str(1 / 3), "", "1"],
        ['x,"y"\n', "nan", "2"],
        ["7", "True", "3"],
    ]


def test_a_figure_that_is_no_png_is_refused():
    tables.check_figure(None)
    tables.check_figure("a.png")
    with pytest.raises(UserError, match=r"'a\.jpg' must end in \.png"):
        tables.check_figure("a.jpg")


def test_nothing_is_written_if_one_of_several_files_cannot_be_made(tmp_path):
    wanted = [(tmp_path / "a", str), (None, len), (tmp_path / "b", lambda rows: rows[9])]
    with pytest.raises(IndexError):
        tables.save(wanted, [1])
    assert not list(tmp_path.iterdir())
    tables.save(wanted[:2], [1])
    assert (tmp_path / "a").read_text() == "[1]"
