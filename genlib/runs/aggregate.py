"""A sweep's runs, seeds aggregated: one table, one figure, one HTML page.

The mean over seeds has a 95% interval by Student's t: with two seeds it is wide, and rightly so.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML
from scipy import stats

from genlib import UserError
from genlib.files import write
from genlib.runs import compare, figures, ledger, pages, tables

MOST = 200  # settings with samples, and failed runs, on a page
LONGEST = 60  # characters of a value in a table; the CSV has all


@dataclass(frozen=True)
class Setting:
    """One combination of the swept values, with all its seeds."""

    values: dict  # {swept parameter: value}
    metric: str
    rows: list  # ``compare.Row`` of each finished run, by seed; its headline is the metric
    failed: dict  # {name of a run: why, in a sentence}
    seconds: float  # of training, all seeds; of whole runs where training was not timed
    mean: float | None  # of the metric; None where no run has finished, NaN where one has NaN
    interval: tuple | None  # of the mean, 95%; None with one seed, or where a number is not finite
    higher_is_better: bool | None  # of the metric; None where no run tells

    @property
    def best(self):
        """The ``Row`` of the best run; None where none has finished, or nobody knows which."""
        if self.higher_is_better is None:
            return None
        return min(self.rows, key=lambda row: self.rank(row.number), default=None)

    def rank(self, number):
        """A key that sorts the best number first, and last what is none or nobody knows."""
        if self.higher_is_better is None or number is None or not math.isfinite(number):
            return (True, 0)
        return (False, -number if self.higher_is_better else number)

    @property
    def name(self):
        said = [f"{k}={tables.cell(v, LONGEST)}" for k, v in self.values.items()]
        return ", ".join(said) or "all seeds"

    def __str__(self):
        if self.mean is None:
            return "failed"
        ends = map(tables.number, self.interval or ())
        return tables.number(self.mean) + (f" ({' to '.join(ends)})" if self.interval else "")


def read(folder, metric=None):
    """Read a sweep. Returns a list of ``Setting``, by their values: the first parameter's first,
    numbers before words.

    metric: the name of one metric; None is the headline of the lesson. A run that failed, that has
    no such number, or whose ``metrics.json`` is not what the sweep recorded, is in ``failed``.

    Raises ``UserError`` for a folder that is no sweep, a sweep of which no run has finished, an
    unknown metric, and numbers that cannot be compared.
    """
    folder = Path(folder).expanduser()
    about, entries = ledger.read(folder)
    groups = _grouped(about["swept"], entries)
    order = [run for group in groups for run in group]
    failed = {run: why for run in order if (why := ledger.problem(folder, entries[run]))}
    done = {run: folder / "runs" / run for run in order if run not in failed}
    if not done:
        first = "".join(f" ({len(failed):,} failed; {run}: {failed[run]})" for run in order[:1])
        raise UserError(f"no run of {folder} has finished{first}.")
    if metric is None:
        metric = compare.read([next(iter(done.values()))])[0].headline
        if metric is None:
            raise UserError(f"the runs of {folder} have measured no number.")
    rows = dict(zip(done, compare.read(done.values(), metric), strict=True))
    failed |= {run: f"it has no {metric}." for run, row in rows.items() if row.headline is None}
    ways = {row.metrics[metric].higher_is_better for row in rows.values() if row.headline} - {None}
    way, settings = ways.pop() if len(ways) == 1 else None, []
    for runs in groups:
        values = {name: entries[runs[0]]["values"].get(name) for name in about["swept"]}
        kept = [rows[run] for run in runs if run not in failed]
        why = {run: failed[run] for run in runs if run in failed}
        times = {run: entries[run]["seconds"] for run in runs}
        for run in times.keys() & rows.keys():
            times[run] = rows[run].machine.get("train_seconds", times[run])
        mean, half = summary([row.number for row in kept])
        interval = None if math.isnan(half) else (mean - half, mean + half)
        facts = (sum(times.values()), mean if kept else None, interval)
        settings.append(Setting(values, metric, kept, why, *facts, way))
    return settings


def _grouped(swept, entries):
    """Lists of runs with the same values of what is swept: by values, numbers before words, and in
    a list by seed."""
    names = [*swept, "seed"]
    values = [[entry["values"].get(name) for name in names] for entry in entries.values()]
    runs = pd.DataFrame(values, list(entries), names, dtype=object)
    runs = runs.sort_index().sort_values("seed", kind="stable")
    groups = runs.groupby(swept or (lambda run: ""), dropna=False)
    return [list(group.index) for _, group in groups]


def summary(numbers):
    """The mean of numbers (n,), and half its 95% interval by Student's t; NaN where there is none:
    with one number, or where one is not finite."""
    numbers, n = np.asarray(numbers, float), len(numbers)
    mean = float(numbers.mean()) if n else math.nan
    if n < 2 or not math.isfinite(mean):
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, n - 1) * numbers.std(ddof=1) / math.sqrt(n))


def ranked(settings):
    """The settings, the best mean first; as they are where it is not known which is better."""
    return sorted(settings, key=lambda each: each.rank(each.mean))


def _failures(settings):
    """[[name of a run, why it has no number]], each in one line."""
    pairs = [pair for each in settings for pair in each.failed.items()]
    return [[tables.cell(run), tables.cell(why)] for run, why in pairs]


def table(settings):
    """The table in words: (a ``DataFrame`` of texts, whether each of its columns is of numbers).

    Columns: what is swept; how many seeds finished; the metric's mean and its interval; the best
    seed's number, and which it is, where it is known what is better; seconds, all seeds together;
    how many runs failed.
    """
    columns = [
        (name, [tables.cell(each.values[name], LONGEST) for each in settings])
        for name in settings[0].values
    ]
    right = [not any(isinstance(s.values[name], str) for s in settings) for name, _ in columns]
    columns.append(("seeds", [str(len(each.rows)) for each in settings]))
    columns.append((settings[0].metric, [str(each) for each in settings]))
    if settings[0].higher_is_better is not None:
        best = [each.best for each in settings]
        columns.append(("best", [(row and tables.number(row.number)) or "" for row in best]))
        seeds = [row and row.parameters.get("seed") for row in best]
        columns.append(("its seed", list(map(tables.cell, seeds))))
    columns.append(("seconds", [tables.number(each.seconds) for each in settings]))
    columns.append(("failed", [str(len(each.failed) or "") for each in settings]))
    return tables.frame(columns), right + [True] * (len(columns) - len(right))


def conclusion(settings):
    """The best setting in a sentence, and how many others are not told apart from it at a look."""
    best, *others = ranked(settings)
    metric = best.metric
    if best.higher_is_better is None:
        return f"Whether higher or lower is better is not known of {metric}: none is called best."
    if best.rank(best.mean)[0]:
        return f"No setting has a finite {metric}."
    way = "higher" if best.higher_is_better else "lower"
    said = f"Best: {best.name}, {metric} {best}; {way} is better."
    ends = [each.interval for each in others if each.interval and best.interval]
    near = sum(low <= best.interval[1] and best.interval[0] <= high for low, high in ends)
    return said + f" {near:,} of {len(others):,} other intervals overlap with its own." * (near > 0)


def to_text(settings):
    """The table for a terminal, the best setting, and a line for each failed run."""
    failures = [f"{run} failed: {why}" for run, why in _failures(settings)]
    return "\n".join([tables.to_text(*table(settings)), conclusion(settings), *failures])


def to_markdown(settings):
    """The same in GitHub's Markdown, what means something there escaped."""
    said = tables.escape_markdown(conclusion(settings))
    text = f"{tables.to_markdown(*table(settings))}\n{said}\n"
    failures = _failures(settings)
    if not failures:
        return text
    columns = zip(("failed run", "why"), zip(*failures, strict=True), strict=True)
    return f"{text}\n{tables.to_markdown(tables.frame(columns), [False] * 2)}"


def to_csv(settings):
    """A line for each setting, numbers in full. For single runs: ``compare.to_csv`` of ``rows``."""
    swept = [(name, [each.values[name] for each in settings]) for name in settings[0].values]
    heads = ("metric", "n_seeds", "mean", "low", "high", "best", "best_run", "seconds", "failed")
    lines = []
    for each in settings:
        best = (each.best.number, each.best.run) if each.best else (None, None)
        measured = (each.metric, len(each.rows), each.mean, *(each.interval or (None, None)))
        lines.append((*measured, *best, each.seconds, len(each.failed)))
    columns = zip(heads, zip(*lines, strict=True), strict=True)
    return tables.to_csv(tables.frame([*swept, *columns]))


def figure(settings):
    """The metric against each swept parameter, as ``figures.effects`` draws it: single runs, and
    the mean over all runs with a value, whatever else differs among them. Returns a PNG picture."""
    metric, panels, told = settings[0].metric, {}, []
    names = list(settings[0].values)
    runs = pd.DataFrame(
        [(*each.values.values(), [row.number for row in each.rows]) for each in settings],
        columns=[*names, "numbers"],
        dtype=object,
    )
    for name in names or ["all seeds"]:
        groups = runs.groupby(name if names else (lambda _: ""), dropna=False)["numbers"].sum()
        numbers = {value: list(filter(math.isfinite, found)) for value, found in groups.items()}
        panels[name] = {value: (found, *summary(found)) for value, found in numbers.items()}
        said = [f"{value} {tables.number(mean)}" for value, (_, mean, _) in panels[name].items()]
        told.append(f"{name}: {', '.join(said[:12])}{', …' if len(said) > 12 else ''}")
    rows = [row for each in settings for row in each.rows]
    floors = [floor for row in rows if (floor := row.metrics[metric].floor) is not None]
    lost = sum(not math.isfinite(row.number) for row in rows) + len(_failures(settings))
    note = f"not drawn: {lost:,} runs that failed or have no finite {metric}" if lost else ""
    alt = f"mean {metric} by {'; by '.join(told)}" + (f"; {note}" if note else "")
    return figures.effects(panels, metric, np.mean(floors) if floors else None, note, alt)


def page(folder, settings):
    """Write ``index.html`` into the sweep's folder: what was swept and what was fixed, the table,
    the figure, samples of each setting's best run, failed runs. Returns its path.

    It is one file that runs no script and loads nothing; its links to runs are relative.
    """
    folder = Path(folder).expanduser()
    about, _ = ledger.read(folder)
    (cells, right), best = table(settings), ranked(settings)
    chosen = {id(each) for each in best[:MOST] if each.rows}
    fixed = {"preset": about["preset"] or "none"} | about["values"]
    html = pages.render(
        "sweep.html",
        title=f"Sweep of {about['lesson']}",
        folder=folder,
        conclusion=conclusion(settings),
        n_done=sum(len(each.rows) for each in settings),
        fixed=[f"{name} = {tables.cell(value, LONGEST)}" for name, value in fixed.items()],
        frame=cells,
        right=right,
        marked=settings.index(best[0]) if best[0].best else None,
        known_best=best[0].higher_is_better is not None,
        figure=figure(settings),
        cards=[_card(folder, each) for each in settings if id(each) in chosen],
        failures=[(run, tables.cell(why, 500)) for run, why in _failures(settings)],
        most=MOST,
    )
    write(folder / "index.html", html.encode(errors="replace"))
    return folder / "index.html"


def _card(folder, setting):
    run = (setting.best or setting.rows[0]).run
    said = {"name": setting.name, "result": f"{setting.metric} {setting}", "run": run}
    return said | {"samples": figures.strip(folder / "runs" / run)}


def show(folder, metric=None):
    """A sweep in a notebook, the table and the figure: ``aggregate.show("../runs/sweeps/02_gan")``.
    Arguments and errors are those of ``read``."""
    settings = read(folder, metric)
    (cells, right), said = table(settings), conclusion(settings)
    picture = figure(settings)
    return HTML(pages.render("shown.html", frame=cells, right=right, said=said, figure=picture))


def report(folder, metric=None, csv_file=None, markdown_file=None, figure_file=None):
    """Print the table; write it as CSV and as Markdown, and the figure as PNG, where a file is
    given. Raises ``UserError`` as ``read`` does, and for a file that cannot be written."""
    tables.check_figure(figure_file)
    settings = read(folder, metric)
    wanted = [(csv_file, to_csv), (markdown_file, to_markdown), (figure_file, _png)]
    tables.save(wanted, settings)
    print(to_text(settings))


def _png(settings):
    return figure(settings).data


def write_all(folder):
    """Write ``sweep.csv``, ``sweep.md``, ``sweep.png`` and ``index.html`` into the sweep's folder,
    by the headline metric. Returns the page's path. Raises ``UserError`` as ``read`` does."""
    folder, settings = Path(folder).expanduser(), read(folder)
    wanted = {"sweep.csv": to_csv, "sweep.md": to_markdown, "sweep.png": _png}
    tables.save([(folder / name, make) for name, make in wanted.items()], settings)
    return page(folder, settings)
