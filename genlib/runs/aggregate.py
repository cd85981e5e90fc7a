"""A sweep's runs, seeds aggregated: one table, one figure, one HTML page.

The mean over seeds has a 95% interval by Student's t: with two seeds it is wide, and rightly so.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from IPython.display import HTML
from scipy import stats

from genlib import UserError
from genlib.files import write
from genlib.runs import compare, figures, ledger, tables
from genlib.runs.results import Result

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

    @property
    def best(self):
        """The ``Row`` of the best run, or None."""
        return min(self.rows, key=lambda row: _rank(row.number, self.metric), default=None)

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
    about, lines = ledger.read(folder)
    keys = {
        run: [_order(line["values"].get(name)) for name in (*about["swept"], "seed")]
        for run, line in lines.items()
    }
    order = sorted(lines, key=lambda run: (keys[run], run))
    failed = {run: why for run in order if (why := _problem(folder, lines[run]))}
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
    groups = {}
    for run in order:
        groups.setdefault(json.dumps(keys[run][:-1]), []).append(run)
    settings = []
    for runs in groups.values():
        values = {name: lines[runs[0]]["values"].get(name) for name in about["swept"]}
        kept = [rows[run] for run in runs if run not in failed]
        why = {run: failed[run] for run in runs if run in failed}
        times = {run: lines[run]["seconds"] for run in runs}
        for run in times.keys() & rows.keys():
            times[run] = rows[run].machine.get("train_seconds", times[run])
        mean, half = summary([row.number for row in kept])
        interval = None if math.isnan(half) else (mean - half, mean + half)
        facts = (sum(times.values()), mean if kept else None, interval)
        settings.append(Setting(values, metric, kept, why, *facts))
    return settings


def _order(value):
    return [0, value, ""] if isinstance(value, int | float) else [1, 0, str(value)]


def _problem(folder, line):
    """Why a run has no numbers, in a sentence, or None."""
    if line["status"] != "done":
        return line["error"] or "it failed."
    try:
        content = (folder / "runs" / line["run"] / "metrics.json").read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() == line["sha256"]:
        return None
    return "its metrics.json is gone or was changed; start the sweep again."


def summary(numbers):
    """The mean of numbers (n,), and half its 95% interval by Student's t; NaN where there is none:
    with one number, or where one is not finite."""
    numbers, n = np.asarray(numbers, float), len(numbers)
    mean = float(numbers.mean()) if n else math.nan
    if n < 2 or not math.isfinite(mean):
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, n - 1) * numbers.std(ddof=1) / math.sqrt(n))


def _rank(number, metric):
    """A key that sorts the best number first, and last what is none."""
    if number is None or not math.isfinite(number):
        return (True, 0)
    return (False, -number if compare.higher_is_better(metric) else number)


def ranked(settings):
    """The settings, the best mean first."""
    return sorted(settings, key=lambda each: _rank(each.mean, each.metric))


def _failures(settings):
    """[[name of a run, why it has no number]], each in one line."""
    pairs = [pair for each in settings for pair in each.failed.items()]
    return [[tables.cell(run), tables.cell(why)] for run, why in pairs]


def table(settings):
    """The table in words: (its lines, the first of headings; whether each column is of numbers).

    Columns: what is swept; how many seeds finished; the metric's mean and its interval; the best
    seed's number, and which it is; seconds, all seeds together; how many runs failed.
    """
    swept, lines = list(settings[0].values), []
    for each in settings:
        values = [tables.cell(value, LONGEST) for value in each.values.values()]
        best = [tables.number(row.number) for row in (each.best,) if row] or [""]
        seed = each.best and each.best.parameters.get("seed")
        end = [tables.number(each.seconds), str(len(each.failed) or "")]
        lines.append([*values, str(len(each.rows)), str(each), *best, tables.cell(seed), *end])
    words = [any(isinstance(each.values[name], str) for each in settings) for name in swept]
    heads = [*swept, "seeds", settings[0].metric, "best", "its seed", "seconds", "failed"]
    return [heads, *lines], [*(not word for word in words), *[True] * 6]


def conclusion(settings):
    """The best setting in a sentence, and how many others are not told apart from it at a look."""
    best, *others = ranked(settings)
    metric = best.metric
    if _rank(best.mean, metric)[0]:
        return f"No setting has a finite {metric}."
    way = "higher" if compare.higher_is_better(metric) else "lower"
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
    text = (
        f"{tables.to_markdown(*table(settings))}\n{tables.escape_markdown(conclusion(settings))}\n"
    )
    failures = [["failed run", "why"], *_failures(settings)]
    return text + (f"\n{tables.to_markdown(failures, [False] * 2)}" if failures[1:] else "")


def to_csv(settings):
    """A line for each setting, numbers in full. For single runs: ``compare.to_csv`` of ``rows``."""
    heads = ("metric", "n_seeds", "mean", "low", "high", "best", "best_run", "seconds", "failed")
    lines = [[*settings[0].values, *heads]]
    for each in settings:
        best = (each.best.number, each.best.run) if each.best else (None, None)
        measured = (each.metric, len(each.rows), each.mean, *(each.interval or (None, None)))
        lines.append([*each.values.values(), *measured, *best, each.seconds, len(each.failed)])
    return tables.to_csv(lines)


def figure(settings):
    """The metric against each swept parameter, as ``figures.effects`` draws it: single runs, and
    the mean over all runs with a value, whatever else differs among them. Returns a PNG picture."""
    metric, panels, told = settings[0].metric, {}, []
    for name in list(settings[0].values) or ["all seeds"]:
        groups = {}
        for each in sorted(settings, key=lambda each: _order(each.values.get(name))):
            numbers = groups.setdefault(each.values.get(name, ""), [])
            numbers += [row.number for row in each.rows if math.isfinite(row.number)]
        panels[name] = {value: (numbers, *summary(numbers)) for value, numbers in groups.items()}
        said = [f"{value} {tables.number(mean)}" for value, (_, mean, _) in panels[name].items()]
        told.append(f"{name}: {', '.join(said[:12])}{', …' if len(said) > 12 else ''}")
    rows = [row for each in settings for row in each.rows]
    measured = [row.metrics[metric] for row in rows]
    floors = [m.floor for m in measured if isinstance(m, Result) and m.floor is not None]
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
    (lines, right), failures, best = table(settings), _failures(settings), ranked(settings)
    marked = settings.index(best[0]) + 1 if best[0].best else None
    chosen = {id(each) for each in best[:MOST] if each.best}
    cards = [_card(folder, each) for each in settings if id(each) in chosen]
    some = f" ({MOST} best of {len(settings):,} settings)" if len(settings) > MOST else ""
    fixed = {"preset": about["preset"] or "none"} | about["values"]
    fixed = [f"<code>{escape(f'{k} = {tables.cell(v, LONGEST)}')}</code>" for k, v in fixed.items()]
    parts = [
        f"<p><b>{escape(conclusion(settings))}</b></p><p>{sum(len(s.rows) for s in settings):,} "
        f"runs done, {len(failures):,} failed. Fixed: {' '.join(fixed)}</p>",
        f'<div class="wide" tabindex="0">{tables.to_html(lines, marked)}</div>',
        f"<p>{compare.picture_html(figure(settings))}</p>",
        f'<h2>Samples of the best runs{some}</h2><div class="cards">{"".join(cards)}</div>',
    ]
    if failures:
        some = f" ({MOST} of {len(failures):,}; all are in sweep.md)" * (len(failures) > MOST)
        items = [
            f"<li>{tables.link(folder, f'runs/{run}/', run)}: {escape(tables.cell(why, 500))}</li>"
            for run, why in failures[:MOST]
        ]
        parts.append(f"<h2>Failed runs{some}</h2><ul>{''.join(items)}</ul>")
    html = tables.to_page(f"Sweep of {about['lesson']}", "\n".join(parts), right)
    write(folder / "index.html", html.encode(errors="replace"))
    return folder / "index.html"


def _card(folder, setting):
    run = setting.best.run
    caption = f"<b>{escape(setting.name)}</b><br>{escape(f'{setting.metric} {setting}')}"
    links = [("", f"best run: {run}"), ("lesson.ipynb", "its notebook")]
    links = [tables.link(folder, f"runs/{run}/{file}", text) for file, text in links]
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f"{compare.samples_html(folder / 'runs' / run)}{'<br>'.join(links)}</figure>"
    )


def show(folder, metric=None):
    """A sweep in a notebook, the table and the figure: ``aggregate.show("../runs/sweeps/02_gan")``.
    Arguments and errors are those of ``read``."""
    settings = read(folder, metric)
    told = f"<p>{escape(conclusion(settings))}</p>"
    return HTML(tables.to_html(table(settings)[0]) + told + compare.picture_html(figure(settings)))


def report(folder, metric=None, csv_file=None, markdown_file=None, figure_file=None):
    """Print the table; write it as CSV and as Markdown, and the figure as PNG, where a file is
    given. Raises ``UserError`` as ``read`` does, and for a file that cannot be written."""
    tables.check_figure(figure_file)
    settings = read(folder, metric)
    drawn = (figure_file, lambda settings: figure(settings).data)
    tables.save([(csv_file, to_csv), (markdown_file, to_markdown), drawn], settings)
    print(to_text(settings))


def write_all(folder):
    """Write ``sweep.csv``, ``sweep.md``, ``sweep.png`` and ``index.html`` into the sweep's folder,
    by the headline metric. Returns the page's path. Raises ``UserError`` as ``read`` does."""
    folder = Path(folder).expanduser()
    settings = read(folder)
    wanted = {"sweep.csv": to_csv, "sweep.md": to_markdown}
    wanted["sweep.png"] = lambda settings: figure(settings).data
    tables.save([(folder / name, make) for name, make in wanted.items()], settings)
    return page(folder, settings)
