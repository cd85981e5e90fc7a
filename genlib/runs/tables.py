"""Tables, each a ``pandas.DataFrame``: for the terminal, in Markdown, as CSV.

``right``: for each column, whether it holds numbers, which stand at its right.
"""

import re
from pathlib import Path

import pandas as pd

from genlib import UserError
from genlib.files import write


def number(value):
    """A number in words: four digits, thousands apart."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def cell(value, longest=None):
    """What a cell says, in one line, its middle left out where it has more than ``longest``
    characters; None is an empty cell."""
    said = "" if value is None else " ".join(str(value).split())
    if longest is None or len(said) <= longest:
        return said
    return f"{said[: longest // 2]}…{said[len(said) - (longest - 1) // 2 :]}"


def frame(columns):
    """A table of [(heading, values)] that leaves values as they are. Headings may repeat."""
    return pd.concat([pd.Series(v, name=head, dtype=object) for head, v in columns], axis=1)


def to_text(table, right):
    """The table for a terminal: aligned, two spaces between columns."""
    lines = [list(table.columns), *table.values.tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    marks = [">" if number else "<" for number in right]
    layout = "  ".join(f"{{:{mark}{width}}}" for mark, width in zip(marks, widths, strict=True))
    return "\n".join(layout.format(*line).rstrip() for line in lines)


def escape_markdown(text):
    """The text with a backslash before what means something in GitHub's Markdown."""
    special = r"[\\|<>*`~&\[\]]|(?<![^\W_])_|_(?![^\W_])"  # not the _ within a word
    return re.sub(special, r"\\\g<0>", text)


def to_markdown(table, right):
    """The table in GitHub's Markdown, what means something there escaped."""
    lines = [list(map(escape_markdown, line)) for line in (table.columns, *table.values)]
    lines.insert(1, ["---:" if number else "---" for number in right])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(table):
    """A table of values as CSV: numbers in full, None an empty cell."""
    blank = table.map(lambda value: "" if value is None else value)
    return blank.to_csv(index=False, na_rep="nan", lineterminator="\n")


def check_figure(file):
    """Raise ``UserError`` for a file, or None, that is no place for a picture."""
    if file is not None and Path(file).suffix != ".png":
        raise UserError(f"the figure is a PNG picture: {str(file)!r} must end in .png.")


def save(wanted, rows):
    """Write what each function of ``rows`` returns, bytes or text, to its file.

    wanted: [(file or None, function)]. Nothing is written where one of the functions fails.
    Raises ``UserError`` for a file that cannot be written.
    """
    made = [(Path(file).expanduser(), make(rows)) for file, make in wanted if file is not None]
    for path, content in made:
        write(path, content)
