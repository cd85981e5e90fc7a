"""Every figure of the course. Each function returns a picture with alternative text for a cell.

Colours are Okabe and Ito's (2008), told apart by people with any colour vision.
"""

import io
import os
import re
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image as Pillow
from PIL import ImageDraw

from genlib.data.images import to_uint8, to_unit

BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
COLOURS = [BLUE, ORANGE, GREEN, PINK, SKY, "#E69F00", "#000000", "#F0E442", "#999999", "#882255"]


def is_live():
    """True where a person sits before the page (JupyterLab, VS Code, Colab), false in batch."""
    live = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")
    return any(name in os.environ for name in live) and "pytest" not in sys.modules


def picture(figure, *, alt):
    """Turn a matplotlib figure into a PNG picture with alternative text."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # a script that the font lacks shows as boxes
        figure.savefig(buffer, format="png", dpi=96, bbox_inches="tight", facecolor="white")
    return _png(Pillow.open(buffer).convert("RGB").quantize(128), alt)


def _png(image, alt):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Image(buffer.getvalue(), format="png", alt=alt)


def axes(columns=1, rows=1, size=(4.2, 3.2)):
    """A figure of the course's style with (rows, columns) axes. Returns (figure, list of axes)."""
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure = Figure((size[0] * columns, size[1] * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_prop_cycle(color=COLOURS)
    return figure, list(grid.flat)


def tile(images, columns, pad=1):
    """Tile images (n, height, width, channels) in [0, 1] into one uint8 array, row by row."""
    images = to_uint8(np.asarray(images))
    rows = -(-len(images) // columns)
    height, width, channels = images.shape[1:]
    sheet = np.full((rows * (height + pad) + pad, columns * (width + pad) + pad, channels), 90)
    for i, image in enumerate(images):
        top, left = pad + i // columns * (height + pad), pad + i % columns * (width + pad)
        sheet[top : top + height, left : left + width] = image
    return (sheet[..., 0] if channels == 1 else sheet).astype("uint8")


def _enlarge(sheet, image_size, pixels=56):
    factor = max(1, round(pixels / image_size))
    picture = Pillow.fromarray(sheet)
    return picture.resize((picture.width * factor, picture.height * factor), Pillow.Resampling.BOX)


def grid(images, columns=10, *, alt):
    """A grid of images (n, height, width, channels) in [0, 1], pixels kept sharp."""
    return _png(_enlarge(tile(images, columns), np.shape(images)[1]), alt)


def rows(named, columns=12, *, alt, below=()):
    """Rows of images, one for each entry of {name: images in [0, 1]}, the names at the left.

    below: what stands under the columns of the last row, one text each, or nothing.
    """
    figure, all_axes = axes(1, len(named), (columns * 0.72, 0.78))
    for axis, (name, images) in zip(all_axes, named.items(), strict=True):
        sheet = tile(images[:columns], columns)
        axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_yticks([sheet.shape[0] / 2], [name])
        axis.tick_params(length=0)
        axis.set_xticks([])
        axis.spines[:].set_visible(False)
    if below:
        middles = (np.arange(columns) + 0.5) * (sheet.shape[1] - 1) / columns
        axis.set_xticks(middles[: len(below)], below)
    return picture(figure, alt=alt)


def _headed(sheet, title, height=20):
    page = Pillow.new(sheet.mode, (sheet.width, sheet.height + height), "white")
    page.paste(sheet, (0, height))
    ImageDraw.Draw(page).text((4, 2), title, fill="black", font_size=14)
    return page


def animation(frames, columns=6, seconds=0.25, *, alt, titles=()):
    """An animated GIF of grids; frames: list of image arrays (n, height, width, channels).

    titles: what stands above each frame, one text each, or nothing.
    """
    sheets = [_enlarge(tile(f, columns), np.shape(f)[1]) for f in frames]
    if titles:
        sheets = [_headed(sheet, title) for sheet, title in zip(sheets, titles, strict=True)]
    sheets = [
        sheet.quantize(8, dither=Pillow.Dither.NONE) if sheet.mode == "L" else sheet.quantize(64)
        for sheet in sheets
    ]
    durations = [int(1000 * seconds)] * (len(sheets) - 1) + [2000]  # rest on the last frame
    buffer = io.BytesIO()
    sheets[0].save(
        buffer, "GIF", save_all=True, append_images=sheets[1:], duration=durations, loop=0
    )
    return Image(buffer.getvalue(), format="gif", alt=alt)


def curves(panels, xlabel="epoch", *, alt, x=None, yscale="linear", ylabel=""):
    """Line plots side by side; panels: {title: {label: values}}. One legend a panel. With a
    ``ylabel`` all panels have the same vertical axis."""
    figure, all_axes = axes(len(panels))
    for axis, (title, lines) in zip(all_axes, panels.items(), strict=True):
        for label, values in lines.items():
            where = np.arange(1, len(values) + 1) if x is None else x
            axis.plot(where, values, label=label, marker="o" if len(values) < 15 else None, ms=3)
        axis.set(title=title, xlabel=xlabel, yscale=yscale, ylabel=ylabel)
        if x is None or all(isinstance(place, int) for place in x):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if yscale == "log":
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(ScalarFormatter())
            axis.yaxis.set_minor_formatter(NullFormatter())
        columns = 3 if len("".join(lines)) < 28 else 1
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=columns)
    if ylabel:
        low, high = zip(*(axis.get_ylim() for axis in all_axes), strict=True)
        for axis in all_axes:
            axis.set_ylim(min(low), max(high))
    return picture(figure, alt=alt)


def bars(shares, names, ylabel="", lines=(), *, alt, xlabel=""):
    """Bars; shares: {label: values (k,)} side by side, over k names. ``lines``: dashed levels."""
    figure, (axis,) = axes(size=(7.0, 2.8))
    positions, width = np.arange(len(names)), 0.8 / len(shares)
    for i, (label, values) in enumerate(shares.items()):
        axis.bar(positions + (i - (len(shares) - 1) / 2) * width, values, width, label=label)
    for level in lines:
        axis.axhline(level, color="black", linestyle="--", linewidth=1)
    axis.set_xticks(positions, names, rotation=30 if max(map(len, names)) > 4 else 0)
    axis.set(ylabel=ylabel, xlabel=xlabel)
    if len(shares) > 1:
        axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(shares))
    return picture(figure, alt=alt)


def scatter(panels, *, alt):
    """Point clouds side by side on equal axes; panels: {title: points (n, 2)}."""
    figure, all_axes = axes(len(panels), size=(3.0, 3.2))
    limit = 1.1 * max(np.abs(points).max() for points in panels.values())
    for axis, (title, points) in zip(all_axes, panels.items(), strict=True):
        axis.scatter(*points.T, s=4, alpha=0.3, edgecolors="none")
        axis.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    return picture(figure, alt=alt)


def matrix(colours, texts, rows, columns, *, alt):
    """A table whose cells are coloured from −1 (orange) over 0 (white) to 1 (blue).

    colours: (rows, columns) in [-1, 1]; texts: what stands in the cells; rows, columns: names.
    """
    cell = max(0.95, 0.085 * max(len(text) for line in texts for text in line))  # inches
    figure, (axis,) = axes(size=(1.6 + cell * len(columns), 0.9 + 0.38 * len(rows)))
    shades = LinearSegmentedColormap.from_list("shades", [ORANGE, "white", BLUE])
    axis.imshow(colours, cmap=shades, vmin=-1.6, vmax=1.6, aspect="auto")  # black stays legible
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            axis.text(j, i, text, ha="center", va="center", size=9)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return picture(figure, alt=alt)


def trends(panels, ylabel="", xscale="log", *, alt, yscales=None):
    """Points joined by lines; panels: {xlabel: {label: (x, y)}}; yscales: one a panel."""
    figure, all_axes = axes(len(panels))
    yscales = yscales or ["linear"] * len(panels)
    for axis, yscale, (xlabel, lines) in zip(all_axes, yscales, panels.items(), strict=True):
        for label, (x, y) in lines.items():
            axis.plot(x, y, marker="o", ms=3, label=label)
        axis.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
        if yscale == "log":
            axis.yaxis.set_major_formatter("{x:g}")
        low, high = axis.get_xlim()
        if xscale == "log" and high < 100 * low:  # powers of ten alone may be outside
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return picture(figure, alt=alt)


def intervals(lines, names, xlabel="", ylabel="", *, alt):
    """Values with their intervals over k names; lines: {label: (values (k,), half widths (k,), NaN
    where there is none)}. The values that a name has stand side by side, centred over it."""
    figure, (axis,) = axes(size=(7.0, 3.2))
    positions, step = np.arange(len(names)), min(0.16, 0.8 / len(lines))
    there = ~np.isnan([values for values, _ in lines.values()])  # (lines, names)
    shifts = step * (there.cumsum(0) - (there.sum(0) + 1) / 2)
    for shift, (label, (values, halves)) in zip(shifts, lines.items(), strict=True):
        halves = None if np.isnan(halves).all() else halves  # a legend shows bars if there are any
        axis.errorbar(positions + shift, values, halves, fmt="o", ms=5, capsize=4, label=label)
    axis.set_xticks(positions, names)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        figure.legend(frameon=False, loc="outside lower center", ncols=len(lines))
    return picture(figure, alt=alt)


def slider(draw, low, high, *, alt):
    """Explore a number: a live slider where a person sits before the page, else a row of pictures.

    draw: a function from a number to images (1, height, width, channels) in [0, 1].
    """
    if not is_live():
        steps = np.linspace(low, high, 12)
        drawn = np.concatenate([draw(value) for value in steps])
        return rows({"": drawn}, alt=alt, below=[f"{value:.2g}" for value in steps])
    import ipywidgets

    knob = ipywidgets.FloatSlider(0.5 * (low + high), min=low, max=high, step=(high - low) / 60)
    return ipywidgets.interactive(lambda value: display(grid(draw(value), 1, alt=alt)), value=knob)


def strip(images, side=48, *, alt):
    """A small picture of images, uint8 (n, height, width, channels), in a row, ``side`` pixels
    high, in at most 64 colours: some kilobytes, for pages that hold hundreds."""
    sheet = Pillow.fromarray(tile(to_unit(images), len(images)))
    height = np.shape(images)[1]
    if height <= side:  # pixels kept sharp
        sheet = sheet.resize([length * (side // height) for length in sheet.size], 0)
    else:
        sheet = sheet.resize([max(1, length * side // height) for length in sheet.size])
    return _png(sheet.quantize(64, dither=Pillow.Dither.NONE), alt)


def page(texts, values=None, columns=76, *, alt):
    """Texts set in type, one below the other; texts: {title: text}, broken at ``columns``.

    values: {title: nats (characters,)} that shade the characters, from 0 (white) up; NaN too is
    white. All texts share one scale, which is drawn beside them.
    """
    pages = {title: _lay_out(text, columns) for title, text in texts.items()}
    heights = [rows[-1] + 1 if len(rows) else 1 for rows, _ in pages.values()]
    figure = Figure((columns * 0.1, sum(heights) * 0.2 + 0.4 * len(texts)), layout="constrained")
    all_axes = figure.subplots(len(texts), squeeze=False, height_ratios=[h + 1 for h in heights])
    top = np.nanmax([0.0, *(v for shades in (values or {}).values() for v in shades)]) or 1.0
    for axis, (title, (rows, places)), height in zip(
        all_axes.flat, pages.items(), heights, strict=True
    ):
        shades = np.full((height, columns), np.nan)
        if values:
            shades[rows, places] = values[title]
        shown = axis.imshow(shades, cmap="Oranges", vmin=0, vmax=1.3 * top, aspect="auto")
        for row, place, character in zip(rows, places, texts[title], strict=True):
            if not character.isspace():
                axis.text(
                    place, row, character, family="monospace", size=9, ha="center", va="center"
                )
        axis.set_title(title, loc="left", size=10)
        axis.set_axis_off()
    if values:
        figure.colorbar(shown, ax=list(all_axes.flat), fraction=0.04, aspect=40, label="nats")
    return picture(figure, alt=alt)


def _lay_out(text, columns):
    """The row and the column of each character, NumPy (characters,) each; words are not cut."""
    rows, places, row, place = [], [], 0, 0
    for i, character in enumerate(text):
        word = len(re.match(r"\S*", text[i:]).group()) if i == 0 or text[i - 1].isspace() else 0
        if (place and place + min(word, columns) > columns) or place >= columns:
            row, place = row + 1, 0
        rows.append(row)
        places.append(place)
        row, place = (row + 1, 0) if character == "\n" else (row, place + 1)
    return np.array(rows, int), np.array(places, int)
