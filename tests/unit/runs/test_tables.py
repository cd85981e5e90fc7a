"""Cells, lines and pages: what stands in them is shown letter by letter and executed nowhere."""

import csv
import io

import pytest

from genlib import UserError
from genlib.runs import tables

EVIL = "<img src=x onerror=alert(1)>&\"'"


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
    lines = [["name", "n"], ["a", "12"], ["long name", "3"]]
    assert tables.to_text(lines, [False, True]) == "name        n\na          12\nlong name   3"


def test_csv_keeps_numbers_whole_and_words_apart():
    lines = [["a", "b"], [1 / 3, None], ['x,"y"\n', 2]]
    assert list(csv.reader(io.StringIO(tables.to_csv(lines)))) == [
        ["a", "b"],
        [str(1 / 3), ""],
        ['x,"y"\n', "2"],
    ]


def test_html_escapes_headings_cells_titles_and_links(tmp_path):
    table = tables.to_html([[EVIL], ["plain"], [EVIL]], marked=2)
    (tmp_path / "a ?#&").mkdir()
    link = tables.link(tmp_path, "a ?#&/", EVIL)
    page = tables.to_page(EVIL, table + link, [False])
    assert "<img" not in page and page.count("&lt;img src=x") == 5
    assert '<tr class="best"><td>&lt;img' in table and table.count("best") == 1
    assert link.startswith('<a href="a%20%3F%23%26/">')
    assert tables.link(tmp_path, "nowhere", "a") == "a"
    assert '<html lang="en">' in page and "default-src 'none'" in page


def test_columns_of_numbers_stand_at_the_right_of_a_page():
    page = tables.to_page("t", "", [False, True, True])
    assert "th:nth-child(2), td:nth-child(2), th:nth-child(3), td:nth-child(3) {" in page
    assert "nth-child(1)" not in page


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
