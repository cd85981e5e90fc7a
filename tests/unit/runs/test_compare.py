"""Runs in one table and one figure: what differs is told, what cannot be compared is refused."""

import csv
import io
import re
import warnings

import matplotlib.pyplot as plt
import mistune
import numpy as np
import pytest
from PIL import Image

from genlib import UserError, data, plots, runs
from genlib.cli import main
from genlib.runs import compare, figures
from genlib.runs import run as run_module

SHADES = np.linspace(0, 1, 12 * 8 * 8).reshape(12, 8, 8, 1)


def fcd(value=5.0, n=100, by="judge@1", name="FCD", floor=1.0):
    ends = (value - 0.5, value + 0.25)
    return runs.Result(name, value, n, floor, ends, by, depends_on_n=True)


def bits(value, n=7000, by="an LSTM"):
    return runs.Result("bits per character", value, n, None, (value - 0.1, value + 0.1), by)


@pytest.fixture
def save(tmp_path, monkeypatch):
    """A function that leaves a run folder of a name and returns it."""

    def save(name, results, headline="fcd", lesson="02_gan", drawn=SHADES, **options):
        parameters = options.pop("parameters", {})
        dataset = options.pop("dataset", ("digits", "abc"))
        monkeypatch.setattr(
            run_module, "_describe", lambda _: {"name": dataset[0], "sha256": dataset[1]}
        )
        machine = {"backend": "jax", "device": options.pop("device", "CPU, 2 cores")}
        monkeypatch.setattr(run_module, "environment", lambda: machine)
        run = runs.Run(lesson, parameters | {"run_dir": str(tmp_path / name)})
        run.metrics(None, results, headline, **options)
        if drawn is not None:
            run.samples(drawn)
        return run.folder

    return save


def columns(rows):
    """{heading: cells} of the table."""
    table, _ = compare.table(rows)
    assert table.columns.is_unique
    return {heading: list(cells) for heading, cells in table.items()}


def values(rows):
    """The lines of the CSV as dictionaries."""
    return list(csv.DictReader(io.StringIO(compare.to_csv(rows))))


@pytest.fixture
def family(save):
    """Runs of a GAN, of a VAE and of a language model, in this order."""
    gan = save(
        "gan",
        {"shares": [1.0, 2.0], "missing": None, "fcd": fcd(5.0)},
        parameters={"epochs": 7, "seed": 0, "resume": False},
        train_seconds=12.25,
        images_per_second=2742,
    )
    vae = save(
        "vae",
        {"elbo": -91.888, "kl": 26.0, "fcd": fcd(25.904), "fcd_of_means": fcd(85.0)},
        headline="elbo",
        lesson="04_vae",
        parameters={"epochs": 16, "seed": 0, "resume": True, "beta": 1.0},
    )
    words = save(
        "words",
        {"bits_per_character": bits(2.1824)},
        headline="bits_per_character",
        lesson="08_language_models",
        drawn=["\n \nTo be,\nor not", "second"],
        parameters={"epochs": 7, "seed": 0},
        dataset=("shakespeare", "def"),
        tokens_per_second=56904.28,
    )
    return [gan, vae, words]


# The table


def test_runs_of_several_families_make_one_table_with_empty_cells(family):
    assert columns(compare.read(family)) == {
        "run": ["gan", "vae", "words"],
        "epochs": ["7", "16", "7"],
        "lesson": ["02_gan", "04_vae", "08_language_models"],
        "dataset": ["digits", "digits", "shakespeare"],
        "n": ["100", "100", "7,000"],
        "fcd": ["5 (4.5 to 5.25), floor 1", "25.9 (25.4 to 26.15), floor 1", ""],
        "elbo": ["", "-91.89", ""],
        "bits_per_character": ["", "", "2.182 (2.082 to 2.282)"],
        "fcd_of_means": ["", "85 (84.5 to 85.25), floor 1", ""],
        "kl": ["", "26", ""],
        "train_seconds": ["12.25", "", ""],
        "images_per_second": ["2,742", "", ""],
        "tokens_per_second": ["", "", "56,904"],
    }


def test_headlines_come_first_then_results_then_plain_numbers(family):
    headings = list(columns(compare.read(family)))
    assert headings[-8:-3] == ["fcd", "elbo", "bits_per_character", "fcd_of_means", "kl"]


@pytest.mark.parametrize("headline", [None, "shares"])
def test_a_run_without_a_number_for_a_headline_has_its_first_result_as_one(save, headline):
    results = {"loss": 1.0, "shares": [1, 2], "fcd": fcd(), "bits": bits(2.0)}
    (row,) = compare.read([save("a", results, headline)])
    assert row.headline == "fcd"


def test_rows_stand_in_the_order_given(family):
    assert columns(compare.read(family[::-1]))["run"] == ["words", "vae", "gan"]


def test_a_parameter_is_a_column_only_where_runs_that_have_it_differ_and_is_told_exactly(save):
    one = {"ema": 0.99995, "width": 8, "limit": 20000, "resume": True, "dataset": "auto"}
    two = {"ema": 0.99999, "width": 8, "limit": 0, "resume": False, "dataset": "digits", "eta": 1.0}
    folders = [save("one", {}, parameters=one), save("two", {}, parameters=two)]
    assert columns(compare.read(folders)) == {
        "run": ["one", "two"],
        "ema": ["0.99995", "0.99999"],
        "limit": ["20000", "0"],
        "lesson": ["02_gan"] * 2,
        "dataset": ["digits"] * 2,
    }


def test_the_device_is_a_column_only_where_it_differs(save):
    folders = [save(name, {}, device=f"GPU {name}") for name in "ab"]
    assert columns(compare.read(folders))["device"] == ["GPU a", "GPU b"]
    assert "device" not in columns(compare.read(folders[:1] * 2))


@pytest.mark.parametrize(
    "folders, names",
    [(["a/x", "b/x"], ["a/x", "b/x"]), (["a/x", "a/y"], ["x", "y"]), (["a/x"], ["x"])],
)
def test_a_run_is_called_what_tells_its_folder_from_the_others(save, folders, names):
    rows = compare.read([save(folder, {}) for folder in folders])
    assert [row.run for row in rows] == names


def test_two_sample_sizes_in_one_run_are_both_told(save):
    rows = compare.read([save("a", {"fcd": fcd(n=2000), "bits": bits(1.0)})])
    assert columns(rows)["n"] == ["2,000 / 7,000"]


def test_the_terminal_table_is_aligned_and_no_wider_than_needed(family):
    rows = compare.read(family)
    lines, at = compare.to_text(rows).split("\n"), 0
    for heading, cells in columns(rows).items():
        column = [heading, *cells]
        width = max(map(len, column))
        for line, cell in zip(lines, column, strict=True):
            assert line[at : at + width].strip() == cell and line[at + width :][:2].strip() == ""
        at += width + 2
    assert max(map(len, lines)) == at - 2
    assert lines[1].startswith("gan         7  02_gan ")  # numbers at the right, words at the left


def test_the_csv_holds_numbers_in_full_and_a_result_s_parts_apart(save):
    first = save("a,b", {"fcd": fcd(1 / 3), "loss": 0.1 + 0.2}, parameters={"seed": 0})
    second = save("c", {"fcd": 7.5}, parameters={"seed": 1}, lesson="03", train_seconds=2)
    rows = compare.read([first, second])
    shared = {"dataset": "digits"}
    assert values(rows) == [
        shared
        | {"run": "a,b", "seed": "0", "lesson": "02_gan", "fcd": str(1 / 3), "fcd_n": "100"}
        | {"fcd_low": str(1 / 3 - 0.5), "fcd_high": str(1 / 3 + 0.25), "fcd_floor": "1.0"}
        | {"fcd_by": "judge@1", "loss": str(0.1 + 0.2), "train_seconds": ""},
        shared
        | {"run": "c", "seed": "1", "lesson": "03", "fcd": "7.5", "fcd_n": "", "fcd_low": ""}
        | {"fcd_high": "", "fcd_floor": "", "fcd_by": "", "loss": "", "train_seconds": "2.0"},
    ]


NASTY = ["a|b", r"c\|d\e", "<b>x</b> &amp;", "*x* _y_ __z__ 02_gan_x", "`q` [a](b) ~~s~~", "x\ny"]


def test_the_markdown_table_shows_each_cell_letter_by_letter(save):
    folders = [save(f"run{i}", {}, parameters={"word": word}) for i, word in enumerate(NASTY)]
    text = compare.to_markdown(compare.read(folders))
    assert len(text.splitlines()) == 2 + len(NASTY) and " 02_gan_x |" in text
    head, body = mistune.create_markdown(renderer="ast", plugins=["table"])(text)[0]["children"]
    assert [cell["children"][0]["raw"] for cell in head["children"]][1] == "word"
    for line, word in zip(body["children"], NASTY, strict=True):
        parts = line["children"][1]["children"]
        assert {part["type"] for part in parts} == {"text"}
        assert "".join(part["raw"] for part in parts) == " ".join(word.split())


def test_numbers_stand_at_the_right_of_a_markdown_table(family):
    heads, marks, *_ = compare.to_markdown(compare.read(family, "fcd")).splitlines()
    assert heads.startswith("| run | epochs | lesson | dataset | n | fcd |")
    assert marks.startswith("| --- | ---: | --- | --- | ---: | ---: |")


# What is refused


@pytest.mark.parametrize(
    "one, two, said",
    [
        ({"n": 100}, {"n": 2000}, "n is 100 and 2,000"),
        ({"by": "judge@1"}, {"by": "judge@2"}, "they are measured by judge@1 and judge@2"),
    ],
)
def test_a_metric_that_depends_on_n_is_refused_at_unequal_n_or_by_another_judge(
    save, one, two, said
):
    folders = [save(run, {"x": fcd(**o)}) for run, o in (("a", one), ("b", two))]
    with pytest.raises(UserError, match=f"x of a and b cannot be compared, as {said}: run them"):
        compare.read(folders)


def test_a_metric_on_two_datasets_of_one_name_is_refused(save):
    folders = [save(h, {"fcd": fcd()}, dataset=("photos/", h * 64)) for h in "ab"]
    with pytest.raises(UserError, match=r"on photos/ \(a{8}\) and photos/ \(b{8}\): run them with"):
        compare.read(folders)


def test_runs_that_are_not_neighbours_are_held_against_each_other_too(save):
    folders = [save("a", {"fcd": fcd()}), save("b", {"kl": 1.0}), save("c", {"fcd": fcd(n=50)})]
    with pytest.raises(UserError, match="fcd of a and c"):
        compare.read(folders)


def test_bits_per_character_may_be_of_texts_of_unequal_length(save):
    results = {"a": bits(2.0, 100, "an LSTM"), "b": bits(3.0, 2000, "this GPT")}
    rows = compare.read([save(name, {"bits": result}) for name, result in results.items()])
    assert columns(rows)["n"] == ["100", "2,000"]


def test_one_metric_alone_is_compared_when_others_cannot_be(save):
    folders = [save(f"n{n}", {"fcd": fcd(n=n), "kl": n / 10, "loss": 1.0}) for n in (100, 2000)]
    rows = compare.read(folders, metric="kl")
    assert list(columns(rows)) == ["run", "lesson", "dataset", "kl"]
    assert [row.headline for row in rows] == ["kl", "kl"]


def test_a_run_without_the_metric_asked_for_has_an_empty_cell(family):
    assert columns(compare.read(family, metric="kl"))["kl"] == ["", "26", ""]


# The figure


@pytest.fixture
def drawn(monkeypatch):
    """A function that returns the matplotlib figure and the alternative text of rows."""
    monkeypatch.setattr(plots, "picture", lambda figure, alt: (figure, alt))
    return compare.figure


def points(axis):
    """{place from above: [(x, …) of each line that lies there]} of a panel, without the floors."""
    found = {}
    for line in axis.lines:
        if line.get_marker() != "|":
            assert len(set(line.get_ydata())) == 1
            found.setdefault(int(line.get_ydata()[0]), []).append(tuple(line.get_xdata()))
    return found


def test_each_headline_has_a_panel_where_a_run_is_its_value_interval_and_floor(family, drawn):
    figure, alt = drawn(compare.read(family))
    *panels, strip = figure.axes
    assert [axis.get_xlabel() for axis in panels] == ["fcd", "elbo", "bits_per_character"]
    assert points(panels[0]) == {0: [(4.5, 5.25), (5.0,)], 1: [(25.404, 26.154), (25.904,)]}
    assert points(panels[1]) == {1: [(-91.888,)]}
    (floors,) = [line for line in panels[0].lines if line.get_marker() == "|"]
    assert list(floors.get_xdata()) == [1.0, 1.0] and list(floors.get_ydata()) == [0, 1]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["gan", "vae", "words"]
    assert all(axis.get_ylim() == (2.5, -0.5) for axis in figure.axes)  # the first run on top
    assert alt == (
        "Runs and their first samples: gan fcd 5 (4.5 to 5.25), floor 1; vae elbo -91.89; "
        "words bits_per_character 2.182 (2.082 to 2.282)"
    )
    assert [text.get_text() for text in strip.texts] == ["To be,"]


def test_the_strip_holds_each_run_s_first_samples_at_its_place(save, drawn):
    wide = np.linspace(0, 1, 12 * 8 * 16 * 3).reshape(12, 8, 16, 3)
    folders = [save("a", {}, drawn=SHADES), save("b", {}, drawn=wide), save("c", {}, drawn=None)]
    strip = drawn(compare.read(folders))[0].axes[-1]
    first, second = strip.images
    assert np.array_equal(first.get_array()[1:-1, 1:9], data.to_uint8(SHADES[0, ..., 0]))
    assert first.get_array().shape == (10, 91) and second.get_array().shape == (10, 86, 3)
    for place, image in enumerate(strip.images):
        left, right, bottom, top = image.get_extent()
        assert (left, bottom, top) == (0, place + 0.46, place - 0.46) and right <= figures.STRIP
    assert [text.get_text() for text in strip.texts] == ["(no samples)"]


def test_twelve_hundred_runs_fit_into_one_picture(save, drawn):
    rows = compare.read([save("a", {"fcd": fcd()}, drawn=None)]) * 1200
    figure, _ = drawn(rows)
    assert figure.get_size_inches()[1] * 96 < 2**16  # the most that matplotlib draws


def test_a_long_line_is_cut(save, drawn):
    folder = save("a", {}, drawn=["x" * 500])
    (text,) = drawn(compare.read([folder]))[0].axes[-1].texts
    assert re.fullmatch("x{71}…", text.get_text())


def test_the_figure_is_a_picture_that_warns_of_nothing_whatever_runs_are_called(save):
    results = {"$x_$": fcd(np.nan), "道": bits(2.0)}
    folders = [save(name, results, None, drawn=["道$_$\n"]) for name in ("$a_$", "<b>", "道")]
    with warnings.catch_warnings(action="error"):
        picture = compare.figure(compare.read(folders))
    assert picture.format == "png" and "<b> $x_$ nan" in picture.alt
    assert np.asarray(Image.open(io.BytesIO(picture.data)).convert("L")).std() > 5
    assert not plt.get_fignums()


# From a notebook and from the command line


def test_a_notebook_shows_the_table_and_the_figure_and_runs_no_html_of_a_run(save):
    folder = save("<script>", {"fcd": fcd(), "kl": 1.0}, "kl", drawn=["a"], lesson='"><img>')
    page = compare.show([folder], "fcd")._repr_html_()
    assert ">kl</th>" in compare.show([folder])._repr_html_() and ">kl</th>" not in page
    assert "<td>&lt;script&gt;</td>" in page and ">fcd</th>" in page
    assert "<script>" not in page and page.count("<img") == 1
    assert re.search('<img alt="Runs and .* &lt;script&gt; fcd 5 [^"]*" src="data:image/png;', page)


def test_the_command_prints_the_table_and_writes_what_is_asked_for(family, tmp_path, capsys):
    files = [tmp_path / name for name in ("t.csv", "t.md", "t.png")]
    options = zip(("--csv", "--markdown", "--figure"), map(str, files), strict=True)
    assert main(["compare", *map(str, family), *(word for pair in options for word in pair)]) == 0
    rows = compare.read(family)
    assert capsys.readouterr().out == compare.to_text(rows) + "\n"
    assert files[0].read_text() == compare.to_csv(rows)
    assert files[1].read_text() == compare.to_markdown(rows)
    assert files[2].read_bytes() == compare.figure(rows).data
    assert not list(tmp_path.glob("*.part"))


def test_a_figure_that_cannot_be_drawn_leaves_no_file_at_all(family, tmp_path):
    (family[0] / "samples.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"samples\.npz is damaged"):
        compare.report(family, None, tmp_path / "t.csv", None, tmp_path / "t.png")
    assert not list(tmp_path.glob("t.*"))


def test_a_write_that_fails_is_one_sentence_and_leaves_the_old_file(family, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("old")

    def disk_full(path, content):
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", disk_full)
    with pytest.raises(UserError, match=r"t\.csv cannot be written \(No space left on device\)"):
        compare.report(family, csv_file=tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "old"
