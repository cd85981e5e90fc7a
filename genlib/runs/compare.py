"""Runs side by side: any number of run folders become one table and one figure.

A metric that depends on the number of samples is compared at equal numbers alone, by one judge, on
one dataset: a table of incomparable numbers misleads, so there is none.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from IPython.display import HTML

from genlib import UserError, nearest
from genlib.runs import figures, pages, tables
from genlib.runs.results import SCHEMA, Result

NO_COLUMN = {"run_dir", "resume", "dataset"}  # the column "dataset" holds the name that was taken
SPEEDS = ("train_seconds", "images_per_second", "tokens_per_second")


@dataclass(frozen=True)
class Row:
    """One run. ``metrics``: {name: ``Result``}, first those that say what measured them; of a plain
    number the direction is not known. ``headline``: one of its names, or None; ``machine``:
    backend, device and those of ``SPEEDS`` that the run knows."""

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
        return self.metrics[self.headline].value


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
    if schema not in range(1, SCHEMA + 1):
        raise UserError(
            f"{path} has schema {schema!r} and this genlib reads 1 to {SCHEMA}; run the lesson "
            "again."
        )
    return record


def _measured(metrics):
    """{name: ``Result``} of what can stand in a table, first those that say what measured them."""
    results, numbers = {}, {}
    for name, value in metrics.items():
        result = Result.from_dict(value)
        if result is not None:
            results[name] = replace(result, value=float(result.value))
        elif isinstance(value, int | float):
            plain = (None, None, None, "")  # n, floor, interval and what measured it
            numbers[name] = Result(name, float(value), *plain, higher_is_better=None)
    return results | numbers


def _refuse_the_incomparable(rows):
    first = {}  # the first run that has a metric
    for row in rows:
        for name, b in row.metrics.items():
            if not b.depends_on_n:
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
    counts = [tuple(_once(m.n for m in row.metrics.values() if m.n is not None)) for row in rows]
    if any(counts):
        columns.append(("n", [each or None for each in counts], _said_counts))
    measured = [name for row in rows for name, result in row.metrics.items() if result.by]
    for name in _once([*_headlines(rows), *measured, *(n for row in rows for n in row.metrics)]):
        columns.append((name, [row.metrics.get(name) for row in rows], _said))
    for name in (*SPEEDS, "backend", "device"):
        values = [row.machine.get(name) for row in rows]
        if any(v is not None for v in values) and (name in SPEEDS or len(set(values)) > 1):
            columns.append((name, values, tables.number if name in SPEEDS else str))
    return [(*column, not any(isinstance(v, str) for v in column[1])) for column in columns]


def _said_counts(counts):
    return " / ".join(f"{n:,}" for n in counts)


def _said(result):
    said = tables.number(result.value)
    if result.interval is not None:
        said += f" ({' to '.join(map(tables.number, result.interval))})"
    return said + ("" if result.floor is None else f", floor {tables.number(result.floor)}")


def table(rows):
    """The table in words: (a ``DataFrame`` of texts, whether each of its columns is of numbers).

    Columns: the run; the parameters that differ among the runs that have them; lesson; dataset; n,
    the images or characters measured; "value (low to high), floor" of each result, the headline
    first; plain numbers; the seconds of training and the speed; backend and device, if they differ.
    """
    columns = _columns(rows)
    cells = [
        (heading, [tables.cell(None if v is None else say(v)) for v in values])
        for heading, values, say, _ in columns
    ]
    return tables.frame(cells), [number for *_, number in columns]


def to_text(rows):
    """The table for a terminal: aligned, numbers at the right of their columns."""
    return tables.to_text(*table(rows))


def to_markdown(rows):
    """The table in GitHub's Markdown, what means something there escaped."""
    return tables.to_markdown(*table(rows))


def frame(rows):
    """The table as a ``DataFrame`` of values, numbers in full; a result's interval, floor, n and
    judge have columns of their own: ``fcd``, ``fcd_low``, ``fcd_high``, ``fcd_floor``, ``fcd_n``,
    ``fcd_by``."""
    columns = []
    for name, values, say, _ in _columns(rows):
        if say is _said:
            parts = [
                (v.value, *(v.interval or (None, None)), v.floor, v.n, v.by) if v else [None] * 6
                for v in values
            ]
            ends = ("", "_low", "_high", "_floor", "_n", "_by")
            measured = any(v and v.by for v in values)
            together = list(zip(ends, zip(*parts, strict=True), strict=True))
            columns += [(name + end, part) for end, part in together[: 6 if measured else 1]]
        elif say is not _said_counts:  # each result has its n
            columns.append((name, values))
    return tables.frame(columns)


def to_csv(rows):
    """``frame`` as CSV."""
    return tables.to_csv(frame(rows))


def figure(rows):
    """Each run's headline metric with its interval and its floor, beside its first samples.

    Runs with different headlines get a panel for each; a run stands in all whose metric it has.
    Returns a PNG picture with alternative text, as the functions of ``plots`` do.
    """
    told = [f"{r.run} {r.headline} {_said(r.metrics[r.headline])}" for r in rows if r.headline]
    return figures.beside(rows, _headlines(rows), "; ".join(told))


def show(folders, metric=None):
    """Runs compared in a notebook, the table and the figure: ``compare.show(["../runs/a", …])``.
    Arguments and errors are those of ``read``."""
    rows = read(folders, metric)
    cells, right = table(rows)
    return HTML(pages.render("shown.html", frame=cells, right=right, said="", figure=figure(rows)))


def report(folders, metric=None, csv_file=None, markdown_file=None, figure_file=None):
    """Print the table; write it as CSV and as Markdown, and the figure as PNG, where a file is
    given. Raises ``UserError`` as ``read`` does, and for a file that cannot be written."""
    tables.check_figure(figure_file)
    rows = read(folders, metric)
    drawn = (figure_file, lambda rows: figure(rows).data)
    tables.save([(csv_file, to_csv), (markdown_file, to_markdown), drawn], rows)
    print(to_text(rows))
