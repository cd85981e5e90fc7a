"""Tables of cells in text, Markdown, CSV and HTML. The first of a table's lines holds its headings.

``right``: for each column, whether it holds numbers, which stand at its right.
"""

import csv
import html
import io
import re
from pathlib import Path
from urllib.parse import quote

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


def to_text(lines, right):
    """The table for a terminal: aligned, two spaces between columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    marks = [">" if number else "<" for number in right]
    layout = "  ".join(f"{{:{mark}{width}}}" for mark, width in zip(marks, widths, strict=True))
    return "\n".join(layout.format(*line).rstrip() for line in lines)


def escape_markdown(text):
    """The text with a backslash before what means something in GitHub's Markdown."""
    special = r"[\\|<>*`~&\[\]]|(?<![^\W_])_|_(?![^\W_])"  # not the _ within a word
    return re.sub(special, r"\\\g<0>", text)


def to_markdown(lines, right):
    """The table in GitHub's Markdown, what means something there escaped."""
    lines = [[escape_markdown(each) for each in line] for line in lines]
    lines.insert(1, ["---:" if number else "---" for number in right])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(lines):
    """The lines as CSV; their cells may be numbers, which are written in full, or None."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def to_html(lines, marked=None):
    """A ``<table>``, all cells escaped; the line at the index ``marked`` has the class "best"."""
    head, *body = [[html.escape(each) for each in line] for line in lines]
    rows = []
    for i, line in enumerate(body, 1):
        kind = ' class="best"' if i == marked else ""
        rows.append(f"<tr{kind}><td>{'</td><td>'.join(line)}</td></tr>")
    head = f"<thead><tr><th>{'</th><th>'.join(head)}</th></tr></thead>"
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def link(folder, path, text):
    """``text`` in HTML, a link to a path below the folder of the page if there is such a file."""
    text = html.escape(text)
    return f'<a href="{quote(path)}">{text}</a>' if (folder / path).exists() else text


STYLE = """\
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #8885 }
th { position: sticky; top: 0; background: Canvas }
.best { background: #009e7333; font-weight: 600 }
.wide { overflow: auto; max-height: 80vh }
code, pre { background: #8882; padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere }
pre { white-space: pre-wrap; padding: .5rem }
img { max-width: 100%; height: auto; background: white; border-radius: 4px }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(25rem, 1fr)); gap: 1rem }
.cards figure { margin: 0; padding: .8rem; border: 1px solid #8885; border-radius: 8px }
.cards img { display: block; margin: .4rem 0 }
figcaption, li { overflow-wrap: anywhere }
"""


def to_page(title, body, right=()):
    """A whole HTML page, readable in light and in dark. title: text; body: HTML, escaped where it
    needs to be; right: of the columns of its tables. It may load nothing and run no script."""
    columns = [i for i, number in enumerate(right, 1) if number]
    aligned = ", ".join(f"th:nth-child({i}), td:nth-child({i})" for i in columns)
    style = STYLE + (f"{aligned} {{ text-align: right }}\n" if columns else "")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


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
