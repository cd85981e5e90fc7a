"""All lessons, side by side: a table in the terminal, and a page to read them from."""

import base64
import contextlib
import json
import os
import re
import time
from pathlib import Path

from genlib import ROOT, UserError
from genlib.files import write
from genlib.runs import cluster, lessons, pages
from genlib.runs.params import coerce
from genlib.runs.progress import Progress
from genlib.runs.results import Result
from genlib.runs.tables import number


def run_all(preset=None, values=None, run_dir=None, timeout=None, jobs=None):
    """Run every lesson, print a table, write ``index.html``. Returns the number that failed.

    preset, values: as for ``lessons.run_lesson``. run_dir: the folder of the runs, by default
    ``runs/<preset>``. timeout: seconds that each may take. jobs: lessons at once; None is one
    more than the machine has cores, as memory allows, and one where ``preset`` is "gpu". A lesson
    gets no fewer threads for its company: their number changes the order of floating-point sums.

    Raises ``UserError`` for jobs that are no number from 1 to 1,024.
    """
    folder = Path(run_dir or ROOT / "runs" / (preset or "default")).expanduser().absolute()
    if jobs is None:
        jobs = 1 if preset == "gpu" else cluster.default_jobs(more=1)  # a lesson waits at times
    jobs = min(coerce("jobs", jobs, int, (1, 1024)), len(lessons.lessons()))
    parent = os.getpid() if jobs > 1 else None
    tasks = {
        name: (name, values, preset, str(folder / name), timeout, parent)
        for name in _longest_first(preset)
    }
    if jobs == 1:
        ended = {name: _run(*tasks[name]) for name in lessons.lessons()}
    else:
        ended = _side_by_side(tasks, jobs)
    cards = [_card(folder, name, *ended[name]) for name in lessons.lessons()]
    print(f"\n{'lesson':24}{'seconds':>8}  result")
    for card in cards:
        result = f"FAILED: {card['error']}" if card["error"] else lessons.headline(card["folder"])
        print(f"{card['name']:24}{card['seconds']:8.1f}  {result}")
    failed = sum(bool(card["error"]) for card in cards)
    page = pages.render(
        "course.html", title="Generative models, executed", cards=cards, preset=preset,
        n_failed=failed,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "index.html", page)
    print(f"\nThe lessons and their pictures: {folder / 'index.html'}")
    return failed


def _longest_first(preset):
    """The lessons' names, by the times that their first cells tell: so all end at about once."""
    scale = "quick" if preset == "quick" else "default"

    def seconds(name):
        told = re.search(rf"Measured times.*?{scale} (\d+) s", _first_cell(lessons.lessons()[name]))
        return int(told[1]) if told else 0

    return sorted(lessons.lessons(), key=seconds, reverse=True)


def _first_cell(path):
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])


def _side_by_side(tasks, jobs):
    """{name: what ``_run`` returned} of tasks {name: its arguments}, begun in their order."""
    ended, waiting = {}, list(tasks)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(cluster.connected(jobs))
        said = Progress("all", "lessons", len(tasks))
        stack.callback(said.close)
        said.now(waiting[:jobs])
        for name, outcome in cluster.outcomes(client, _run, tasks):
            if isinstance(outcome, Exception):
                outcome = 0.0, cluster.why(outcome)
            ended[name] = outcome
            waiting.remove(name)
            said.tell(name, outcome[1], waiting[:jobs])
    return ended


def _run(name, values, preset, folder, timeout, parent=None):
    """One lesson, and it as a page. Returns its seconds, and why it failed or "".

    parent: the process that began it on a worker, which ends with that one; None where it is this.
    """
    if parent is not None:
        cluster.die_with(parent)
    began, error = time.perf_counter(), ""
    try:
        alone = parent is None
        folder = lessons.run_lesson(name, values, preset, folder, progress=alone, timeout=timeout)
        _write_page(folder / "lesson.ipynb")
    except (UserError, lessons.LessonFailed) as failure:
        error = str(failure)
    return time.perf_counter() - began, error


def _write_page(notebook):
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(notebook))
    write(notebook.with_suffix(".html"), body)


def _card(folder, name, seconds, error):
    """What the page says of a lesson; its paths are below ``folder``."""
    run = folder / name
    drawn = [] if error else figures(run)
    views = sorted((path for path, _ in drawn), key=lambda path: Path(path).stem != "samples")
    page, notebook = run / "lesson.html", run / ("failed.ipynb" if error else "lesson.ipynb")
    return {
        "name": name,
        "folder": run,
        "title": _first_cell(lessons.lessons()[name]).partition("\n")[0].lstrip("# "),
        "seconds": seconds,
        "error": error,
        **({"result": "", "dataset": ""} if error else _result(run)),
        "view": f"{name}/{views[0]}" if views else "",
        "page": "" if error or not page.exists() else f"{name}/{page.name}",
        "notebook": f"{name}/{notebook.name}" if notebook.exists() else "",
        "figures": [(f"{name}/{path}", caption) for path, caption in drawn],
    }


def figures(folder):
    """A run's pictures, [(path below its folder, caption)], in the order in which the lesson shows
    them. A caption is the picture's alternative text; the file's name where the lesson has none."""
    shown = {}
    for cell in json.loads((folder / "lesson.ipynb").read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            for kind in ("image/png", "image/gif"):
                if kind in output.get("data", {}):
                    content = base64.b64decode("".join(output["data"][kind]))
                    shown.setdefault(content, output["metadata"].get(kind, {}).get("alt", ""))
    order, found = list(shown), []
    for path in sorted((folder / "figures").glob("*.*")):
        content = path.read_bytes()
        place = order.index(content) if content in shown else len(order)
        caption = shown.get(content) or path.stem.replace("_", " ")
        found.append((place, f"figures/{path.name}", caption))
    return [(path, caption) for _, path, caption in sorted(found, key=lambda each: each[0])]


def _result(folder):
    """A run's headline in words, with its interval, floor and n where it has them, and its data."""
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    name, value = record["headline"], record["metrics"][record["headline"]]
    result = Result.from_dict(value)
    if result is None:
        said = [f"{name.replace('_', ' ')}: {number(value)}"]
    else:
        said = [f"{result.name}: {number(result.value)}"]
        if result.interval:
            low, high = map(number, result.interval)
            said[0] += f" (95% interval {low} to {high})"
        if result.floor is not None:
            said.append(f"floor {number(result.floor)}")
        if result.n is not None:
            said.append(f"n = {result.n:,}")
        if result.higher_is_better is not None:
            said.append(f"{'higher' if result.higher_is_better else 'lower'} is better")
    dataset = record["dataset"]["name"]
    return {"result": ", ".join(said), "dataset": "" if dataset == "none" else dataset}
