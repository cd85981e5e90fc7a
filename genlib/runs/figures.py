"""The figures of many runs: side by side with their samples, and what a swept setting does."""

import textwrap
import warnings

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import offset_copy

from genlib import UserError, plots
from genlib.data.images import to_unit
from genlib.data.readers import UNREADABLE

MOST_BARS = 60  # in a panel of ``effects``
STRIP = 10  # square samples of a run in ``beside``


def effects(panels, ylabel, level=None, note="", alt=""):
    """What a number does as settings change, a panel for each setting.

    panels: {xlabel: {value: (numbers (k,), their mean, half its interval or NaN)}}: the numbers
    are faint dots at the left of their mean; where no value has two, or there are more values than
    bars have room for, the dots stand alone. Values that are numbers have an axis of numbers,
    logarithmic where they are positive and span ten times or more; others stand in their order.
    level: a dashed line, the floor; note: words below.
    """
    words = [_words(found) for found in panels.values() if not _are_numbers(found)]
    turned = max((len(w) for names, crowded in words if crowded for w in names), default=0)
    most, columns = max((len(names) for names, _ in words), default=0), min(3, len(panels))
    size = (float(np.clip(0.3 * most, 4.2, 9)), 3.4 + 0.08 * turned)  # inches
    figure, all_axes = plots.axes(columns, -(-len(panels) // columns), size)
    for axis in all_axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (xlabel, found) in zip(all_axes, panels.items(), strict=False):
        places = _places(axis, list(found))
        groups, means, halves = zip(*found.values(), strict=True)
        counts = list(map(len, groups))
        barred = max(counts) > 1 and len(found) <= MOST_BARS
        beside = offset_copy(axis.transData, figure, x=-6 if barred else 0, units="points")
        where, numbers = np.repeat(places, counts), np.concatenate(groups)
        style = {"s": 16, "color": plots.SKY, "edgecolors": "none", "transform": beside}
        axis.scatter(where, numbers, label="single runs", **style)
        axis.update_datalim(np.column_stack([where, numbers]))  # not done for points set aside
        axis.margins(x=0.08)
        axis.autoscale_view()
        if barred:
            bars = {"fmt": "o", "ms": 5, "capsize": 4, "color": plots.BLUE}
            axis.errorbar(places, means, halves, label="mean, 95% interval", **bars)
        if level is not None:
            axis.axhline(level, color="black", ls="--", lw=1, label="floor: real against real")
        axis.set_xlabel(textwrap.fill(xlabel, 36), parse_math=False)
        axis.set_ylabel(textwrap.fill(ylabel, 30), parse_math=False)
    drawn = {}
    for handles, labels in (axis.get_legend_handles_labels() for axis in all_axes):
        drawn |= dict(zip(labels, handles, strict=True))
    figure.legend(
        drawn.values(),
        drawn,
        frameon=False,
        loc="outside lower center",
        ncols=3 if columns > 1 else 1,
        title=textwrap.fill(note, 48 * columns),
        title_fontsize=9,
    )
    with warnings.catch_warnings(action="ignore"):  # a script that the font lacks shows as boxes
        return plots.picture(figure, alt=alt)


def _are_numbers(values):
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _words(values):
    """What values are called on an axis, and whether these names need to be turned."""
    names = [v if len(v) <= 24 else f"{v[:12]}…{v[-11:]}" for v in map(str, values)]
    return names, len(names) * (max(map(len, names)) + 2) > 44


def _places(axis, values):
    """Where values stand on the x axis of ``axis``, whose scale and ticks are set for them."""
    if not _are_numbers(values):
        names, crowded = _words(values)
        step, turned = -(-len(values) // 40), {"rotation": 90} if crowded else {}
        axis.set_xticks(range(0, len(values), step), names[::step], parse_math=False, **turned)
        axis.set_xlim(-0.6, len(values) - 0.4)
        return np.arange(len(values))
    low, high = min(values), max(values)
    if low == high:
        axis.set_xticks([low], [f"{low:g}"])
    elif low > 0 and high >= 10 * low:
        axis.set_xscale("log")
        if high < 1000 * low:  # powers of ten alone would be few
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1, 3)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    elif min(np.diff(sorted(values))) >= (high - low) / 6:  # there is room for all of them
        axis.set_xticks(values, [f"{value:g}" for value in values])
    else:
        whole = all(isinstance(value, int) for value in values)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.6g}"))
    return np.array(values, float)


def beside(rows, names, told):
    """Numbers of runs with their intervals and floors, beside the runs' first samples.

    rows: ``compare.Row``s; names: of metrics, a panel each, where a run stands whose metric it is;
    told: what the alternative text says of the runs. Returns a PNG picture.
    """
    count = len(rows)
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
    with warnings.catch_warnings(action="ignore"):  # a script that the font lacks shows as boxes
        return plots.picture(drawing, alt=f"Runs and their first samples: {told}")


def _draw_metric(axis, results):
    floors = []
    for place, result in enumerate(results):
        if result is None:
            continue
        if result.interval is not None:
            axis.plot(result.interval, [place, place], color=plots.BLUE)
        if result.floor is not None:
            floors.append((result.floor, place))
        axis.plot(result.value, place, "o", color=plots.BLUE)
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
    sheet = plots.tile(to_unit(drawn[:columns]), min(columns, len(drawn)))
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


def strip(folder, count=8):
    """The first samples of a run as a small picture, or the first lines of half as many texts in
    one text; None where there are none. What is damaged is said, not raised."""
    try:
        drawn = samples(folder / "samples.npz")
    except UserError as error:
        return str(error)
    if isinstance(drawn, list):
        return "\n".join(map(first_line, drawn[: count // 2]))
    return drawn if drawn is None else plots.strip(drawn[:count], alt=f"samples of {folder.name}")
