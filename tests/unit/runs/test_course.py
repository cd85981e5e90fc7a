"""All lessons become one table and one page, which shows what each drew, said and failed by.

papermill is replaced by a function that leaves a run folder; tests/faults runs them side by side.
"""

import base64
import html.parser
import json
import shutil
import urllib.parse
from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from genlib import ROOT, cli
from genlib.runs import course, lessons

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)> & \'"'
PICTURES = {name: f"picture {name}".encode() for name in ("samples", "a_curve", "unseen")}
FCD = {"name": "FCD", "value": 2.5, "n": 1000, "floor": 1.0, "by": "judge", "interval": [2.0, 3.0]}


def shown(name, alt):
    """A cell whose output is one of ``PICTURES`` with this alternative text."""
    data = {"image/png": base64.b64encode(PICTURES[name]).decode()}
    metadata = {"image/png": {"alt": alt}}
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    return nbformat.v4.new_code_cell("", outputs=[output], execution_count=1)


def leave(folder, metrics, headline, cells=()):
    """A run folder with these metrics, ``PICTURES``, and a notebook of these cells."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in PICTURES.items():
        (folder / "figures" / f"{name}.png").write_bytes(content)
    record = {"metrics": metrics, "headline": headline, "dataset": {"name": "digits"}}
    (folder / "metrics.json").write_text(json.dumps(record))
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / "lesson.ipynb")


@pytest.fixture
def three(stand_in, monkeypatch):
    """Lessons 00 to 02, of which papermill leaves a folder with pictures; 01 breaks."""
    for name in ("01_breaks", "02_<b>"):
        notebook = nbformat.read(stand_in / "00_stand_in.ipynb", as_version=4)
        title = nbformat.v4.new_markdown_cell(f"# {name[:2]} · All of <b>it\n\nAnd a text.")
        notebook.cells.insert(0, title)
        nbformat.write(notebook, stand_in / f"{name}.ipynb")

    def execute(path, output, parameters, **options):
        folder = Path(parameters["run_dir"])
        if "breaks" in path:
            shutil.copy(path, output)
            raise PapermillExecutionError(3, 3, "source", "ValueError", EVIL, [])
        cells = [shown("a_curve", "It falls."), shown("samples", EVIL), shown("a_curve", "Again")]
        leave(folder, {"fcd": FCD}, "fcd", cells)
        shutil.copy(folder / "lesson.ipynb", output)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return lessons.lessons()


class Page(html.parser.HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, attribute):
        return [facts[attribute] for name, facts in self.tags if name == tag and attribute in facts]


@pytest.fixture
def page(three, tmp_path, capsys):
    """The page of the three lessons, and what the command printed."""
    folder = tmp_path / "all"
    assert cli.main(["run", "all", "--run-dir", str(folder), "--jobs", "1"]) == 1  # one failed
    return Page(folder / "index.html"), folder, capsys.readouterr().out


def test_the_table_has_each_lesson_in_its_order_and_the_one_that_failed_with_its_reason(page):
    rows = [line.split() for line in page[2].splitlines() if line[:2].isdigit()]
    assert [row[0] for row in rows] == ["00_stand_in", "01_breaks", "02_<b>"]
    assert rows[0][2:] == ["fcd", "2.5", "(floor", "1.00,", "n", "=", "1,000)", "on", "digits"]
    assert rows[1][2:7] == ["FAILED:", "01_breaks", "failed", "in", "cell"]


def test_a_card_says_title_result_floor_and_n_and_a_failed_one_its_reason(page):
    text = " ".join(page[0].text.split())
    assert "02 · All of <b>it FCD: 2.5 (95% interval 2 to 3), floor 1, n = 1,000 on digits" in text
    assert "Failed. 01_breaks failed in cell 3: ValueError: <script>" in text
    assert "3 lessons, run at the default scale on this machine; 1 failed." in text


def test_every_link_and_picture_is_there_and_nothing_is_executed(page):
    found, folder, _ = page
    links = [urllib.parse.unquote(link) for link in found.all("a", "href") if link[0] != "#"]
    pictures = [urllib.parse.unquote(source) for source in found.all("img", "src")]
    assert {"00_stand_in/lesson.html", "02_<b>/lesson.ipynb", "01_breaks/failed.ipynb"} <= {*links}
    assert all((folder / path).is_file() for path in links + pictures)
    anchors = [link[1:] for link in found.all("a", "href") if link[0] == "#"]
    assert anchors == found.all("h2", "id") != []
    assert not {tag for tag, _ in found.tags} & {"script", "iframe", "object", "link", "form"}
    assert not any(name.startswith("on") for _, facts in found.tags for name in facts)
    (policy,) = [facts["content"] for tag, facts in found.tags if "http-equiv" in facts]
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:; style-src")


def test_a_card_shows_the_samples_and_below_are_all_pictures_captioned_in_their_order(page):
    images = [facts for tag, facts in page[0].tags if tag == "img"]
    assert [facts["src"] for facts in images[:1]] == ["00_stand_in/figures/samples.png"]
    of_one = [i for i in images if i["src"].startswith("00_stand_in") and i["alt"]]
    assert [i["alt"] for i in of_one] == ["It falls.", EVIL, "unseen"]
    assert [Path(i["src"]).stem for i in of_one] == ["a_curve", "samples", "unseen"]


def test_the_longest_lesson_of_a_scale_begins_first(monkeypatch, tmp_path):
    for name, quick, default in (("00_a", 5, 300), ("01_b", 20, 7), ("02_c", 9, 1200)):
        told = f"# A\n\n**Measured times**: quick {quick} s · default {default} s (CPU) · GPU"
        cells = [nbformat.v4.new_markdown_cell(told)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    assert course._longest_first("quick") == ["01_b", "02_c", "00_a"]
    assert course._longest_first(None) == ["02_c", "00_a", "01_b"]


def test_each_lesson_tells_its_title_and_its_time():
    for path in lessons.lessons().values():
        cell = course._first_cell(path)
        assert cell.startswith(f"# {path.stem[:2]} · ")
    times = [course._first_cell(path) for path in lessons.lessons().values()]
    assert all("Measured times" in cell for cell in times) and len(times) == 13
    assert (ROOT / "genlib" / "runs" / "templates" / "course.html").is_file()


def test_jobs_are_for_all_lessons_alone(stand_in, capsys):
    assert cli.main(["run", "00", "--jobs", "2"]) == 2
    assert "--jobs is for `genlib run all`" in capsys.readouterr().err
    assert cli.main(["run", "all", "--jobs", "0"]) == 2
    assert "jobs='0' is not allowed" in capsys.readouterr().err
