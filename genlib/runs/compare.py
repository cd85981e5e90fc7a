"""Runs side by side: any number of run folders become one table and one figure.

A metric that depends on the number of samples is compared at equal numbers alone, by one judge, on
one dataset: a table of incomparable numbers misleads, so there is none.
"""

import base64
import html
import json
import os
import warnings
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from IPython.display import HTML
from matplotlib.ticker import MaxNLocator

from genlib import UserError, nearest, plots
from genlib.data.sources import UNREADABLE
from genlib.runs import tables
from genlib.runs.results import SCHEMA, Result

DEPEND_ON_N = {"fcd", "kid", "precision", "recall", "density", "coverage", "inception_score"}
HIGHER_IS_BETTER = (  # names of metrics, * for any letters; of all others, lower is better
    *("*accuracy", "gain_*", "exact_replies", "auroc_*", "digits_drawn"),
    *("elbo", "bound", "active_units", "inception_score", "*class_coverage"),
    *("precision", "recall", "density", "coverage", "distinct_*", "*_per_second"),
)
NO_COLUMN = {"run_dir", "resume", "dataset"}  # the column "dataset" holds the name that was taken
SPEEDS = ("train_seconds", "images_per_second", "tokens_per_second")
STRIP = 10  # square samples of a run in the figure


@dataclass(frozen=True)
class Row:
    """One run. ``metrics``: {name: ``Result`` or number}, results first; ``headline``: one of its
    names, or None; ``machine``: backend, device and those of ``SPEEDS`` that the run knows."""

    run: str  # its folder, from where all folders have their common parent
    folder: Path
    lesson: str
    dataset: str
    sha256: str  # of the dataset
    parameters: dict
    metrics: dict
    headline: str | None
    machine: dict

    @property
    def number(self):
        """The headline metric as a number."""
        measured = self.metrics[self.headline]
        return measured.value if isinstance(measured, Result) else measured


def read(folders, metric=None):
    """Read run folders. Returns a list of ``Row``, in the order given.

    metric: the name of one metric: it becomes the headline, and the others are left out. Without
    it, all numbers and measured results are kept; what is nested is not.

    Raises ``UserError`` for a folder that holds no finished run, a metric that no run has, and runs
    whose numbers cannot be compared.
    """
    folders = [Path(os.path.abspath(Path(folder).expanduser())) for folder in folders]
    if not folders:
        raise UserError("there is no run to compare; give run folders, such as runs/02_gan.")
    above = os.path.commonpath([folder.parent for folder in folders])
    rows = [_row(folder, folder.relative_to(above).as_posix()) for folder in folders]
    if metric is not None:
        known = _once(name for row in rows for name in row.metrics)
        if metric not in known:
            raise UserError(
                f"no run here has the metric {metric!r} (there are {', '.join(known) or 'none'})."
                f"{nearest(metric, known)}"
            )
        kept = [{metric: row.metrics[metric]} if metric in row.metrics else {} for row in rows]
        rows = [
            replace(row, metrics=one, headline=metric if one else None)
            for row, one in zip(rows, kept, strict=True)
        ]
    _refuse_the_incomparable(rows)
    return rows


def higher_is_better(metric):
    """Whether more of the metric of this name is better."""
    return any(fnmatchcase(metric, pattern) for pattern in HIGHER_IS_BETTER)


def _row(folder, name):
    record = _record(folder)
    try:
        metrics, headline = _measured(record["metrics"]), record["headline"]
        return Row(
            run=name,
            folder=folder,
            lesson=record["lesson"],
            dataset=record["dataset"]["name"],
            sha256=record["dataset"]["sha256"],
            parameters=dict(record["parameters"]),
            metrics=metrics,
            headline=headline if headline in metrics else next(iter(metrics), None),
            machine={key: float(record[key]) for key in SPEEDS if key in record}
            | {key: record[key] for key in ("backend", "device")},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / 'metrics.json'} is not as a run writes it ({type(error).__name__}: {error})"
            "; run the lesson again."
        ) from None


def _record(folder):
    path = folder / "metrics.json"
    if not folder.exists():
        raise UserError(f"{folder} does not exist; give folders that `genlib run` has left.")
    if not path.is_file():
        if (folder / "params.json").is_file():
            why = "is an unfinished run, without metrics.json; run it to its end or leave it out"
        elif any(folder.glob("*/params.json")):
            why = f"holds runs but is none; give {folder}/*/"
        else:
            why = (
                "is no run folder: it has no metrics.json; give folders that `genlib run` has left"
            )
        raise UserError(f"{folder} {why}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable JSON ({error}); run the lesson again.") from None
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise UserError(
            f"{path} has schema {schema!r} and this genlib reads {SCHEMA}; run the lesson again."
        )
    return record


def _measured(metrics):
    """{name: ``Result`` or number} of what can stand in a table, the results first."""
    results, numbers = {}, {}
    for key, value in metrics.items():
        if isinstance(value, dict) and value.keys() == {field.name for field in fields(Result)}:
            low, high = map(float, value["interval"])
            results[key] = Result(
                name=str(value["name"]),
                value=float(value["value"]),
                n=int(value["n"]),
                floor=None if value["floor"] is None else float(value["floor"]),
                interval=(low, high),
                by=str(value["by"]),
            )
        elif isinstance(value, int | float):
            numbers[key] = float(value)
    return results | numbers


def _refuse_the_incomparable(rows):
    first = {}  # the first run that has a metric
    for row in rows:
        for name, b in row.metrics.items():
            if not isinstance(b, Result):
                continue
            if not DEPEND_ON_N & {name, b.name.lower().replace(" ", "_")}:
                continue
            other = first.setdefault((name, b.name), row)
            a = other.metrics[name]
            for what, one, two in (
                ("n is", f"{a.n:,}", f"{b.n:,}"),
                ("they are measured by", a.by, b.by),
                ("they are on", *(f"{r.dataset} ({r.sha256[:8]})" for r in (other, row))),
            ):
                if one != two:
                    raise UserError(
                        f"{name} of {other.run} and {row.run} cannot be compared, as {what} {one} "
                        f"and {two}: run them with the same n_samples on the same dataset, or "
                        "choose another metric (--metric)."
                    )


def _once(names):
    return list(dict.fromkeys(names))


def _headlines(rows):
    return _once(row.headline for row in rows if row.headline is not None)


def _columns(rows):
    """[(heading, values, how a value is said, whether it is a number)]; None is an empty cell."""
    columns = [("run", [row.run for row in rows], str)]
    for name in _once(name for row in rows for name in row.parameters):
        given = [row.parameters[name] for row in rows if name in row.parameters]
        if name not in NO_COLUMN and any(value != given[0] for value in given):
            columns.append((name, [row.parameters.get(name) for row in rows], str))
    columns.append(("lesson", [row.lesson for row in rows], str))
    columns.append(("dataset", [row.dataset for row in rows], str))
    results = [[(k, v) for k, v in row.metrics.items() if isinstance(v, Result)] for row in rows]
    counts = [tuple(_once(v.n for _, v in each)) or None for each in results]
    if any(counts):
        columns.append(("n", counts, _said_counts))
    first = _headlines(rows) + [name for each in results for name, _ in each]
    for name in _once([*first, *(name for row in rows for name in row.metrics)]):
        columns.append((name, [row.metrics.get(name) for row in rows], _said))
    for name in (*SPEEDS, "backend", "device"):
        values = [row.machine.get(name) for row in rows]
        if any(v is not None for v in values) and (name in SPEEDS or len(set(values)) > 1):
            columns.append((name, values, _said if name in SPEEDS else str))
    return [(*column, not any(isinstance(v, str) for v in column[1])) for column in columns]


def _said_counts(counts):
    return " / ".join(f"{n:,}" for n in counts)


def _said(value):
    if isinstance(value, Result):
        low, high = map(_said, value.interval)
        floor = "" if value.floor is None else f", floor {_said(value.floor)}"
        return f"{_said(value.value)} ({low} to {high}){floor}"
    return tables.number(value)


def table(rows):
    """The table in words. Returns a list of lines, each a list of cells; the first are headings.

    Columns: the run; the parameters that differ among the runs that have them; lesson; dataset; n,
    the images or characters measured; "value (low to high), floor" of each result, the headline
    first; plain numbers; the seconds of training and the speed; backend and device, if they differ.
    """
    columns = [
        [heading, *(tables.cell(None if v is None else say(v)) for v in values)]
        for heading, values, say, _ in _columns(rows)
    ]
    return [list(line) for line in zip(*columns, strict=True)]


def to_text(rows):
    """The table for a terminal: aligned, numbers at the right of their columns."""
    return tables.to_text(table(rows), [number for *_, number in _columns(rows)])


def to_markdown(rows):
    """The table in GitHub's Markdown, what means something there escaped."""
    return tables.to_markdown(table(rows), [number for *_, number in _columns(rows)])


def to_csv(rows):
    """The table as CSV, numbers in full; a result's interval, floor, n and judge have columns of
    their own: ``fcd``, ``fcd_low``, ``fcd_high``, ``fcd_floor``, ``fcd_n``, ``fcd_by``."""
    columns = []
    for name, values, say, _ in _columns(rows):
        if any(isinstance(value, Result) for value in values):
            parts = [
                (v.value, *v.interval, v.floor, v.n, v.by)
                if isinstance(v, Result)
                else (v, *[None] * 5)
                for v in values
            ]
            for end, part in zip(
                ("", "_low", "_high", "_floor", "_n", "_by"), zip(*parts, strict=True), strict=True
            ):
                columns.append([name + end, *part])
        elif say is not _said_counts:  # each result has its n
            columns.append([name, *values])
    return tables.to_csv(zip(*columns, strict=True))


def figure(rows):
    """Each run's headline metric with its interval and its floor, beside its first samples.

    Runs with different headlines get a panel for each; a run stands in all whose metric it has.
    Returns a PNG picture with alternative text, as the functions of ``plots`` do.
    """
    names, count = _headlines(rows), len(rows)
    side = min(0.6, 400 / count)  # inches a run; a PNG has room for about 600
    panel, gap = 2.6, 0.35
    widths = [*[panel] * len(names), side * STRIP]
    drawing, all_axes = plots.axes(len(widths))
    drawing.set_layout_engine("none")  # so that a run's samples are as high as its row
    drawing.set_size_inches(sum(widths) + gap * len(names), side * count)
    for i, (axis, width) in enumerate(zip(all_axes, widths, strict=True)):
        total = drawing.get_size_inches()[0]
        axis.set_position([i * (panel + gap) / total, 0, width / total, 1])
        labels = [row.run for row in rows] if i == 0 else [""] * count
        axis.set_yticks(range(count), labels, parse_math=False)
        axis.tick_params(axis="y", length=0)
    for axis, name in zip(all_axes, names, strict=False):
        _draw_metric(axis, [row.metrics.get(name) for row in rows])
        axis.set_xlabel(name, parse_math=False)
    for place, row in enumerate(rows):
        _draw_samples(all_axes[-1], row.folder / "samples.npz", place)
    all_axes[-1].set(xlim=(0, STRIP), xticks=[])
    all_axes[-1].set_title("first samples", loc="left", size=10)
    all_axes[-1].spines[:].set_visible(False)
    for axis in all_axes:
        axis.set_ylim(count - 0.5, -0.5)
    told = [f"{r.run} {r.headline} {_said(r.metrics[r.headline])}" for r in rows if r.headline]
    with warnings.catch_warnings(action="ignore"):  # a script that the font lacks shows as boxes
        return plots.picture(drawing, f"Runs and their first samples: {'; '.join(told)}")


def _draw_metric(axis, values):
    floors = []
    for place, value in enumerate(values):
        if isinstance(value, Result):
            axis.plot(value.interval, [place, place], color=plots.BLUE)
            if value.floor is not None:
                floors.append((value.floor, place))
            value = value.value
        if value is not None:
            axis.plot(value, place, "o", color=plots.BLUE)
    if floors:
        axis.plot(*zip(*floors, strict=True), "k|", ms=14, mew=2, label="floor: real against real")
        axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.04, 0.98), handletextpad=0)
    axis.grid(axis="y", color="0.92")
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _draw_samples(axis, path, place):
    drawn = samples(path)
    if drawn is None or isinstance(drawn, list):
        said = "(no samples)" if drawn is None else first_line(drawn[0])
        axis.text(0, place, said, family="monospace", size=9, va="center", parse_math=False)
        return
    columns = max(1, int(STRIP * drawn.shape[1] / drawn.shape[2]))
    sheet = plots.tile(drawn[:columns] / 255.0, min(columns, len(drawn)))
    width = 0.92 * sheet.shape[1] / sheet.shape[0]
    extent = (0, width, place + 0.46, place - 0.46)
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")


def samples(path):
    """What a run's ``samples.npz`` holds: images, uint8 (N, height, width, channels), or a list of
    texts; None where there is none. Raises ``UserError`` for a damaged file."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(map(str, archive["text"])) if "text" in archive else archive["images"]
    except UNREADABLE as error:
        why = type(error).__name__
        raise UserError(f"{path} is damaged ({why}); run the lesson again.") from None


def first_line(text, longest=72):
    """The start of a text's first line that is not blank."""
    line = next((line for line in text.splitlines() if line.strip()), "(a blank text)")
    return line if len(line) <= longest else line[: longest - 1] + "…"


def samples_html(folder, count=8):
    """The first samples of a run in HTML: a strip of images, or the first lines of half as many
    texts; a file that is damaged or was never written is said, not raised."""
    try:
        drawn = samples(folder / "samples.npz")
    except UserError as error:
        drawn = [str(error)]
    if drawn is None:
        return "<p>(no samples)</p>"
    if isinstance(drawn, list):
        lines = [html.escape(first_line(text)) for text in drawn[: count // 2]]
        return f"<pre>{chr(10).join(lines)}</pre>"
    return picture_html(plots.strip(drawn[:count], alt=f"samples of {folder.name}"))


def show(folders, metric=None):
    """Runs compared in a notebook, the table and the figure: ``compare.show(["../runs/a", …])``.
    Arguments and errors are those of ``read``."""
    rows = read(folders, metric)
    return HTML(tables.to_html(table(rows)) + picture_html(figure(rows)))


def picture_html(picture):
    """A picture of ``plots`` as an ``<img>`` that needs no file, its alternative text escaped."""
    coded = base64.b64encode(picture.data).decode()
    return f'<img alt="{html.escape(picture.alt)}" src="data:image/png;base64,{coded}">'


def report(folders, metric=None, csv_file=None, markdown_file=None, figure_file=None):
    """Print the table; write it as CSV and as Markdown, and the figure as PNG, where a file is
    given. Raises ``UserError`` as ``read`` does, and for a file that cannot be written."""
    tables.check_figure(figure_file)
    rows = read(folders, metric)
    drawn = (figure_file, lambda rows: figure(rows).data)
    tables.save([(csv_file, to_csv), (markdown_file, to_markdown), drawn], rows)
    print(to_text(rows))
