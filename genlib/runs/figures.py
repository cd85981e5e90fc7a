"""The figures of many runs: a sweep's effects."""

import textwrap
import warnings

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import offset_copy

from genlib import plots

MOST_BARS = 60  # in a panel of ``effects``


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
        return plots.picture(figure, alt)


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
