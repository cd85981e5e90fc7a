"""Pages: what they are given is shown letter by letter and executed nowhere."""

import jinja2
import pytest

from genlib.runs import pages, tables

EVIL = "<img src=x onerror=alert(1)>&\"'"


class Picture:
    """What ``plots`` returns, as far as a page uses it."""

    alt, data = EVIL, b"bytes"


def shown(**values):
    table = tables.frame([(EVIL, [EVIL, "plain"]), ("n", ["1", "2"])])
    facts = {"frame": table, "right": [False, True], "said": EVIL, "figure": Picture} | values
    return pages.render("shown.html", **facts)


def test_headings_cells_sentences_and_alternative_texts_are_escaped():
    page = shown()
    assert page.count("<img") == 1 and page.count("&lt;img src=x") == 4
    assert 'src="data:image/png;base64,Ynl0ZXM="' in page


def test_columns_of_numbers_stand_at_the_right():
    page = shown()
    assert '<th class="number">n</th>' in page and '<td class="number">1</td>' in page
    assert "<td>plain</td>" in page


def test_a_value_that_a_page_lacks_is_an_error_and_no_blank():
    with pytest.raises(jinja2.UndefinedError, match="conclusion"):
        pages.render("sweep.html", title="t")
