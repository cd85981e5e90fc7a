"""A sweep with its seeds aggregated: means and intervals that are right, every run accounted for,
and a page that shows what it is given and executes none of it."""

import csv
import hashlib
import html.parser
import io
import itertools
import json
import urllib.parse

import numpy as np
import pytest
from scipy import stats

from genlib import UserError, cli, plots
from genlib.runs import aggregate, figures

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)> & \'"'


class Made:
    """A sweep's folder, written by hand. ``runs``: {name: its line of ``sweep.jsonl``}."""

    def __init__(self, folder, swept, **about):
        self.folder, self.runs = folder, {}
        about = {"lesson": "02_gan", "code": "", "preset": "quick", "values": {"epochs": 3}} | about
        (folder / "runs").mkdir(parents=True)
        self.about = {"schema": 1, "swept": swept} | about
        (folder / "sweep.json").write_text(json.dumps(self.about))

    def add(self, number, error="", drawn=None, name=None, n=None, schema=2, **values):
        """A run with this number as its metric "fcd"; with n, it has a floor too."""
        name = name or ",".join(f"{k}={v}" for k, v in values.items())
        value = {"name": "FCD", "value": number, "n": n, "floor": None, "interval": None}
        value |= {"by": "judge", "higher_is_better": False, "depends_on_n": n is not None}
        accuracy = value | {"name": "accuracy", "value": number / 10, "higher_is_better": True}
        accuracy |= {"depends_on_n": False}
        if n is not None:
            value |= {"floor": 1.0, "interval": [number - 1, number + 1]}
        if schema == 1:
            for told in ("higher_is_better", "depends_on_n"):
                del value[told], accuracy[told]
        record = {
            "schema": schema,
            "lesson": "02_gan",
            "parameters": values,
            "dataset": {"name": "digits", "sha256": "abc", "n": 9},
            "headline": "fcd",
            "metrics": {"fcd": value, "accuracy": accuracy, "plain": number},
            "train_seconds": 10.0,
            "backend": "jax",
            "device": "CPU",
        }
        content = json.dumps(record).encode()
        folder = self.folder / "runs" / name
        if not error:
            folder.mkdir()
            (folder / "metrics.json").write_bytes(content)
            (folder / "lesson.ipynb").write_text("{}")
            if drawn is not None:
                key = "text" if isinstance(drawn[0], str) else "images"
                np.savez(folder / "samples.npz", **{key: drawn})
        line = {"run": name, "status": "failed" if error else "done", "values": values}
        line |= {"seconds": 20.0, "error": error}
        self.write(line | {"sha256": "" if error else hashlib.sha256(content).hexdigest()})
        return self

    def write(self, line):
        with (self.folder / "sweep.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def rates(tmp_path):
    """Two rates with three seeds each, one of which failed."""
    made = Made(tmp_path / "sweep", ["rate"])
    for seed, number in enumerate([5.0, 6.0, 10.0]):
        made.add(number, rate=0.1, seed=seed)
    made.add(3.0, rate=0.01, seed=1)
    made.add(4.0, rate=0.01, seed=0)
    return made.add(0.0, error="02_gan failed in cell 7: the loss is NaN.", rate=0.01, seed=2)


def lines_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_mean_over_seeds_has_students_interval(rates):
    low, high = aggregate.read(rates.folder)
    assert low.values == {"rate": 0.01} and high.values == {"rate": 0.1}  # sorted by value
    assert high.mean == 7.0
    expected = stats.t.interval(0.95, 2, 7.0, stats.sem([5.0, 6.0, 10.0]))
    assert high.interval == pytest.approx(expected)
    assert [row.number for row in low.rows] == [4.0, 3.0]  # by seed
    assert low.seconds == 2 * 10.0 + 20.0  # the failed run cost its 20 s too


@pytest.mark.parametrize("numbers", [[1.0], [], [1.0, float("nan")], [1.0, float("inf")]])
def test_where_there_is_no_interval_none_is_given(numbers):
    assert np.isnan(aggregate.summary(numbers)[1])


def test_one_seed_has_a_mean_and_no_interval(tmp_path):
    (setting,) = aggregate.read(Made(tmp_path / "s", []).add(5.0, seed=0).folder)
    assert setting.mean == 5.0 and setting.interval is None and setting.name == "all seeds"


def test_a_failed_run_is_told_with_its_reason_and_a_setting_without_results_is_failed(rates):
    rates.add(0.0, error="it broke.", rate=1.0, seed=0)
    settings = aggregate.read(rates.folder)
    assert settings[0].failed == {"rate=0.01,seed=2": "02_gan failed in cell 7: the loss is NaN."}
    assert settings[2].mean is None and str(settings[2]) == "failed"
    text = aggregate.to_text(settings)
    assert "rate=0.01,seed=2 failed: 02_gan failed in cell 7" in text
    assert "rate=1.0,seed=0 failed: it broke." in text
    assert "Best: rate=0.01" in text


@pytest.mark.parametrize("metric, best", [("fcd", 0.01), ("accuracy", 0.1)])
def test_the_best_is_the_lowest_or_the_highest_as_the_metric_wants_it(rates, metric, best):
    settings = aggregate.read(rates.folder, metric)
    assert aggregate.ranked(settings)[0].values == {"rate": best}
    (high,) = [each for each in settings if each.values == {"rate": 0.1}]
    assert high.best.parameters["seed"] == (0 if metric == "fcd" else 2)
    assert ("higher" if metric == "accuracy" else "lower") in aggregate.conclusion(settings)


def test_where_the_direction_is_not_known_nothing_is_called_best(rates):
    settings = aggregate.read(rates.folder, "plain")
    assert aggregate.ranked(settings) == settings and not any(each.best for each in settings)
    assert "best" not in aggregate.table(settings)[0].columns
    said = "Whether higher or lower is better is not known of plain: none is called best."
    assert said in aggregate.to_text(settings) and said in aggregate.to_markdown(settings)
    assert {line["best"] for line in lines_of(aggregate.to_csv(settings))} == {""}
    aggregate.page(rates.folder, settings)
    page = (rates.folder / "index.html").read_text(encoding="utf-8")
    assert 'class="best"' not in page and "best run" not in page and "a run: rate=0.01" in page


def test_a_sweep_of_runs_that_told_no_direction_is_read(tmp_path):
    made = Made(tmp_path / "s", ["rate"])
    for rate in (0.1, 0.2):
        made.add(5.0, n=100, rate=rate, seed=0, schema=1)
    settings = aggregate.read(made.folder)
    assert [each.mean for each in settings] == [5.0, 5.0] and settings[0].higher_is_better is None


def test_the_best_says_how_many_other_intervals_overlap_with_its_own(tmp_path):
    made = Made(tmp_path / "s", ["rate"])
    for rate, numbers in {0.1: (1.0, 1.1), 0.2: (1.1, 1.2), 0.3: (50.0, 50.1)}.items():
        for seed, number in enumerate(numbers):
            made.add(number, rate=rate, seed=seed)
    said = aggregate.conclusion(aggregate.read(made.folder))
    assert said.endswith("lower is better. 1 of 2 other intervals overlap with its own.")


def test_a_run_that_is_not_finite_is_never_the_best(rates):
    rates.add(float("nan"), rate=0.001, seed=0)
    settings = aggregate.read(rates.folder)
    assert aggregate.ranked(settings)[0].values == {"rate": 0.01}
    assert aggregate.figure(settings).data[:4] == b"\x89PNG"


def test_of_a_run_that_was_done_again_the_last_line_counts(rates):
    line = {"run": "rate=0.1,seed=0", "status": "failed", "values": {"rate": 0.1, "seed": 0}}
    rates.write(line | {"seconds": 1.0, "error": "killed.", "sha256": ""})
    with (rates.folder / "sweep.jsonl").open("a") as file:
        file.write('{"run": "rate=0.1,seed=1", "status": "fai')  # torn: not a line
    high = aggregate.read(rates.folder)[1]
    assert high.failed == {"rate=0.1,seed=0": "killed."} and high.mean == 8.0


def test_a_result_that_is_not_the_one_recorded_does_not_count(rates):
    path = rates.folder / "runs" / "rate=0.1,seed=2" / "metrics.json"
    path.write_text(path.read_text().replace('"value": 10.0', '"value": 1.0'))
    high = aggregate.read(rates.folder)[1]
    assert high.mean == 5.5 and "was changed" in high.failed["rate=0.1,seed=2"]


def test_a_run_without_the_number_asked_for_is_told_as_failed(rates):
    path = rates.folder / "runs" / "rate=0.1,seed=2" / "metrics.json"
    content = path.read_bytes().replace(b'"accuracy": {', b'"other": {')
    path.write_bytes(content)
    line = {"run": "rate=0.1,seed=2", "status": "done", "values": {"rate": 0.1, "seed": 2}}
    digest = hashlib.sha256(content).hexdigest()
    rates.write(line | {"seconds": 1.0, "error": "", "sha256": digest})
    high = aggregate.read(rates.folder, "accuracy")[1]
    assert high.failed == {"rate=0.1,seed=2": "it has no accuracy."} and high.mean == 0.55


def test_settings_stand_by_value_numbers_before_words_whatever_ended_first(tmp_path):
    made = Made(tmp_path / "s", ["size", "kind"])
    for size, kind in [(10, "b"), (9, "b"), ("auto", "a"), (10, "a"), (9, "a")]:
        made.add(1.0, size=size, kind=kind, seed=0)
    found = [tuple(each.values.values()) for each in aggregate.read(made.folder)]
    assert found == [(9, "a"), (9, "b"), (10, "a"), (10, "b"), ("auto", "a")]


def test_numbers_that_cannot_be_compared_are_refused(tmp_path):
    made = Made(tmp_path / "s", ["n_samples"])
    made.add(5.0, n=100, n_samples=100, seed=0).add(5.0, n=200, n_samples=200, seed=0)
    with pytest.raises(UserError, match="cannot be compared, as n is 100 and 200"):
        aggregate.read(made.folder)
    assert len(aggregate.read(made.folder, "accuracy")) == 2


def test_what_is_no_sweep_or_has_no_result_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"is no sweep: it has no sweep\.json"):
        aggregate.read(tmp_path)
    made = Made(tmp_path / "s", ["rate"])
    with pytest.raises(UserError, match=r"no run of .*s has finished\.$"):
        aggregate.read(made.folder)
    made.add(0.0, error="it broke.", rate=1, seed=0)
    with pytest.raises(UserError, match=r"\(1 failed; rate=1,seed=0: it broke\.\)"):
        aggregate.read(made.folder)
    made.add(1.0, rate=1, seed=1)
    with pytest.raises(UserError, match=r"no run here has the metric 'fdc'.*Did you mean 'fcd'"):
        aggregate.read(made.folder, "fdc")


def test_the_csv_has_the_numbers_in_full_and_the_table_in_words(tmp_path):
    made = Made(tmp_path / "s", ["rate"])
    for seed, number in enumerate([1 / 3, 2 / 3]):
        made.add(number, rate=1e-5, seed=seed)
    settings = aggregate.read(made.folder)
    (line,) = lines_of(aggregate.to_csv(settings))
    assert float(line["rate"]) == 1e-5 and float(line["mean"]) == 0.5
    assert (float(line["low"]), float(line["high"])) == settings[0].interval
    assert float(line["best"]) == 1 / 3 and line["best_run"] == "rate=1e-05,seed=0"
    assert (line["n_seeds"], line["failed"], line["metric"]) == ("2", "0", "fcd")
    assert list(aggregate.table(settings)[0]["fcd"]) == ["0.5 (-1.618 to 2.618)"]
    assert "| 1e-05 | 2 |" in aggregate.to_markdown(settings)


def test_the_command_compares_a_sweep_and_writes_what_is_asked_for(rates, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("t.csv", "t.md", "t.png")]
    options = zip(["--csv", "--markdown", "--figure"], files, strict=True)
    arguments = ["compare", str(rates.folder), *itertools.chain(*options)]
    assert cli.main([*arguments, "--metric", "accuracy"]) == 0
    assert "Best: rate=0.1, accuracy 0.7" in capsys.readouterr().out
    assert len(lines_of((tmp_path / "t.csv").read_text())) == 2
    assert (tmp_path / "t.md").read_text().startswith("| rate |")
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "values",
    [
        [0.1],
        [1e-5, 1e-3, 1e-1],
        [0, 1, 5],
        list(range(12)),
        [f"a name of some length, {i}" for i in range(20)],
        [True, False],
        ["試験", "$x_1$ & <b>", "1e-3"],
    ],
    ids=str,
)
def test_any_values_make_a_figure_that_says_the_numbers(tmp_path, values):
    made = Made(tmp_path / "s", ["a_parameter", "other"])
    for i, value in enumerate(values):
        for seed in range(2):
            made.add(float(i + seed), name=f"{i}-{seed}", a_parameter=value, other=1, seed=seed)
    picture = aggregate.figure(aggregate.read(made.folder))
    assert picture.data[:4] == b"\x89PNG"
    assert "mean fcd by a_parameter: " in picture.alt and " 0.5" in picture.alt
    assert "; by other: 1 " in picture.alt


@pytest.fixture
def drawn(monkeypatch):
    """A function that returns the matplotlib axes of a sweep's figure, and its alternative text."""
    monkeypatch.setattr(plots, "picture", lambda figure, alt: (figure, alt))

    def drawn(made):
        figure, alt = aggregate.figure(aggregate.read(made.folder))
        return [axis for axis in figure.axes if axis.axison], alt

    return drawn


def test_a_panel_has_all_runs_in_view_and_the_mean_over_whatever_else_differs(tmp_path, drawn):
    made = Made(tmp_path / "s", ["rate", "size"])
    for rate, size in itertools.product([1e-4, 1e-2], [8, 16]):
        for seed in range(2):
            made.add(1e4 * rate + size + seed, n=100, rate=rate, size=size, seed=seed)
    (rates, sizes), _ = drawn(made)
    assert [axis.get_xscale() for axis in (rates, sizes)] == ["log", "linear"]
    assert (rates.get_xlabel(), sizes.get_xlabel()) == ("rate", "size")
    dots = rates.collections[0].get_offsets()
    assert sorted(map(tuple, dots)) == [
        (rate, 1e4 * rate + more) for rate in (1e-4, 1e-2) for more in (8, 9, 16, 17)
    ]
    low, high = rates.get_ylim()
    assert low < 1 and high > 117  # the floor, and the highest run
    (bars,) = rates.containers
    assert bars[0].get_ydata() == pytest.approx([13.5, 112.5])  # over both sizes and all seeds
    half = stats.t.ppf(0.975, 3) * stats.sem([8, 9, 16, 17])
    assert bars[2][0].get_segments()[0][:, 1] == pytest.approx([13.5 - half, 13.5 + half])
    labels = rates.get_legend_handles_labels()[1]
    assert "floor: real against real" in labels and "mean, 95% interval" in labels


def test_dots_stand_alone_where_bars_would_say_nothing(tmp_path, drawn):
    single, many = Made(tmp_path / "a", ["x"]), Made(tmp_path / "b", ["x"])
    for i in range(figures.MOST_BARS + 1):
        single.add(float(i), x=i, seed=0)
        many.add(float(i), x=i, seed=0).add(float(i + 1), x=i, seed=1)
    for made, runs in ((single, figures.MOST_BARS + 1), (many, 2 * figures.MOST_BARS + 2)):
        (axis,), alt = drawn(made)
        assert not axis.containers and len(axis.collections[0].get_offsets()) == runs
        assert axis.get_ylim()[1] > figures.MOST_BARS and axis.get_xlim()[1] > figures.MOST_BARS
        assert alt.endswith(", …")


def test_a_figure_says_how_many_runs_it_does_not_draw(rates, drawn):
    rates.add(float("inf"), rate=0.1, seed=3)
    (axis,), alt = drawn(rates)
    assert len(axis.collections[0].get_offsets()) == 5
    assert axis.containers[0][0].get_ydata() == pytest.approx([3.5, 7.0])
    assert alt.endswith("; not drawn: 2 runs that failed or have no finite fcd")


@pytest.mark.parametrize("words, turned", [(["a", "b"], 0), (["some words"] * 9, 90)])
def test_names_that_would_touch_are_turned(tmp_path, drawn, words, turned):
    made = Made(tmp_path / "s", ["word"])
    for i, word in enumerate(words):
        made.add(1.0, word=f"{word}{i}", seed=0)
    (axis,), _ = drawn(made)
    assert {label.get_rotation() for label in axis.get_xticklabels()} == {turned}


class Page(html.parser.HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, attribute):
        return [facts.get(attribute) for name, facts in self.tags if name == tag]


def page_of(made):
    aggregate.write_all(made.folder)
    return Page((made.folder / "index.html").read_text(encoding="utf-8"))


def test_a_page_shows_table_figure_samples_and_failures_and_its_links_lead_somewhere(rates):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), "uint8")
    rates.add(2.0, drawn=images, rate=0.5, seed=0)
    page = page_of(rates)
    assert "Sweep of 02_gan" in page.text and "02_gan failed in cell 7" in page.text
    rates.add(1.0, name="best", rate=0.3, seed=0)
    aggregate.page(rates.folder, aggregate.read(rates.folder))
    source = (rates.folder / "index.html").read_text(encoding="utf-8")
    assert (
        source.count('class="best"') == 1
        and '<tr class="best"><td class="number">0.3</td>' in source
    )
    assert "epochs = 3" in page.text and "preset = quick" in page.text
    pictures = page.all("img", "src")
    assert len(pictures) == 2 and all(p.startswith("data:image/png;base64,") for p in pictures)
    assert all(page.all("img", "alt"))
    links = [urllib.parse.unquote(link) for link in page.all("a", "href")]
    assert "runs/rate=0.5,seed=0/lesson.ipynb" in links
    assert all((rates.folder / link).exists() for link in links)
    for name in ("sweep.csv", "sweep.md", "sweep.png"):
        assert (rates.folder / name).stat().st_size > 50


def test_a_page_executes_nothing_that_it_is_given(tmp_path):
    made = Made(tmp_path / "s", ["dataset"], values={EVIL: EVIL}, lesson=EVIL)
    made.add(1.0, name="a", drawn=[f"{EVIL}\nSecond line", EVIL], dataset=EVIL, seed=0)
    made.add(1.0, name="b", error=EVIL, dataset=EVIL, seed=1)
    page = page_of(made)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "link", "form"}
    assert not any(name.startswith("on") for _, facts in page.tags for name in facts)
    assert all(source.startswith("data:image/png") for source in page.all("img", "src"))
    assert page.text.count('alert("1")') >= 4  # it is shown, as text


def test_a_page_of_very_many_settings_shows_the_best_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(aggregate, "MOST", 3)
    made = Made(tmp_path / "s", ["rate"])
    for i in range(6):
        made.add(float(i), name=f"{i}", drawn=["to be"], rate=i, seed=0)
        made.add(0.0, name=f"broken {i}", error="it broke.", rate=i, seed=1)
    page = page_of(made)
    assert page.text.count("it broke.") == 3 and "(3 of 6; all are in sweep.md)" in page.text
    assert (made.folder / "sweep.md").read_text().count("it broke.") == 6
    assert [link for link in page.all("a", "href") if link.endswith("ipynb")] == [
        f"runs/{i}/lesson.ipynb" for i in range(3)
    ]
    assert "3 best of 6 settings" in page.text


def test_a_damaged_sample_file_spoils_no_page(rates):
    folder = rates.folder / "runs" / "rate=0.01,seed=1"
    (folder / "samples.npz").write_bytes(b"no zip")
    assert "damaged" in page_of(rates).text


def test_a_notebook_shows_the_table_and_the_figure(rates):
    shown = Page(aggregate.show(rates.folder).data)
    assert "7 (0.4276 to 13.57)" in shown.text and len(shown.all("img", "alt")) == 1
