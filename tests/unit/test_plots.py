"""Figures of texts: each character has its place, and each picture says what it shows."""

import inspect
import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genlib import plots, training
from genlib.models import rnn, tokenizers
from genlib.training.backend import keras

words = st.lists(st.text("abλ道,", min_size=1, max_size=14), max_size=20)
spaced = st.lists(st.sampled_from([" ", "\n", "  ", "\n\n"]), min_size=21, max_size=21)


@given(words, spaced, st.integers(1, 12))
def test_a_page_gives_each_character_a_place_of_its_own_in_reading_order(words, spaces, columns):
    written = "".join(map("".join, zip(words, spaces, strict=False)))
    rows, places = plots._lay_out(written, columns)
    assert len(rows) == len(places) == len(written)
    pairs = list(zip(rows.tolist(), places.tolist(), strict=True))
    assert pairs == sorted(set(pairs)) and all(0 <= place < columns for place in places)
    assert pairs[:1] in ([], [(0, 0)])


@given(words, spaced, st.integers(1, 12))
def test_a_page_cuts_only_words_that_are_longer_than_a_line(words, spaces, columns):
    written = "".join(map("".join, zip(words, spaces, strict=False)))
    rows, places = plots._lay_out(written, columns)
    for i in range(1, len(written)):
        if rows[i] == rows[i - 1]:
            assert written[i - 1] != "\n"  # it ends a line
        elif not written[i].isspace() and not written[i - 1].isspace():
            word = written[:i].split()[-1] + written[i:].split()[0]
            assert len(word) > columns and places[i] == 0 and places[i - 1] == columns - 1


def test_a_page_breaks_lines_by_hand():
    rows, places = plots._lay_out("to be or\nnot abcdefg h", 5)
    lines = {}
    for row, place, character in zip(rows, places, "to be or\nnot abcdefg h", strict=True):
        lines[int(row)] = lines.get(int(row), "") + character
        assert place == len(lines[int(row)]) - 1
    assert list(lines.values()) == ["to be", " or\n", "not ", "abcde", "fg h"]


def drawn(picture):
    """The picture as an array, after a look at its alternative text."""
    assert picture.format == "png" and picture.alt == "what it shows"
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"), float)


def test_a_page_shows_chinese_with_its_shades_and_warns_of_nothing():
    poem = {"道德經": "道可道\n非常道", "empty": "", "English": "The way"}
    values = {title: np.full(len(each), np.nan) for title, each in poem.items()}
    values["道德經"][:3] = 1.0
    with warnings.catch_warnings(action="error"):
        plain = drawn(plots.page(poem, columns=8, alt="what it shows"))
        shaded = drawn(plots.page(poem, values, columns=8, alt="what it shows"))
    orange = shaded[..., 0] - shaded[..., 2] > 60
    assert orange.mean() > 0.003 and not np.any(plain[..., 0] - plain[..., 2] > 60)


def test_a_page_draws_each_character_once_and_no_spaces(monkeypatch):
    shown = []
    real = plots.Figure.subplots

    def subplots(*arguments, **options):
        found = real(*arguments, **options)
        for axis in found.flat:
            monkeypatch.setattr(axis, "text", lambda x, y, s, **more: shown.append(s))
        return found

    monkeypatch.setattr(plots.Figure, "subplots", subplots)
    plots.page({"one": "to be, or\nnot", "two": "to be"}, columns=6, alt="two texts")
    assert "".join(shown) == "tobe,ornottobe"


def test_trends_are_a_picture_with_alternative_text():
    lines = {"tokens": {"GPT": ([1, 10, 100], [3, 2, 1]), "LSTM": ([1, 100], [3, 2])}}
    assert drawn(plots.trends(lines, "nats", alt="what it shows")).std() > 5


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_intervals_stand_side_by_side_centred_over_their_name(monkeypatch, count):
    values = np.tile([1.0, 2.0], (count, 1))
    values[count // 2 + 1 :, 0] = np.nan  # the first name has about half of them
    places, axes = [], plots.axes

    def watched(*arguments, **options):
        figure, (axis,) = axes(*arguments, **options)
        draw = axis.errorbar

        def errorbar(x, y, *more, **named):
            places.append(np.where(np.isnan(y), np.nan, x))
            return draw(x, y, *more, **named)

        monkeypatch.setattr(axis, "errorbar", errorbar)
        return figure, [axis]

    monkeypatch.setattr(plots, "axes", watched)
    lines = {f"line {i}": (each, 0.1 + 0 * each) for i, each in enumerate(values)}
    assert drawn(plots.intervals(lines, ["few", "all"], alt="what it shows")).std() > 5
    places = np.array(places)
    assert np.nanmean(places, 0) == pytest.approx([0, 1], abs=1e-9)
    gaps = np.diff(places, axis=0)
    assert (gaps[~np.isnan(gaps)] > 0.05).all()  # none hides another
    assert np.nanmax(places[:, 0]) + 0.1 < np.nanmin(places[:, 1])  # and no group the next


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_has_each_title_above_its_frame(channels):
    frames = np.zeros((2, 4, 8, 8, channels))
    plain = plots.animation(list(frames), 4, alt="a film")
    film = plots.animation(list(frames), 4, alt="a film", titles=("after 0 steps", "after 8 steps"))
    plain, film = (Image.open(io.BytesIO(each.data)) for each in (plain, film))
    assert film.n_frames == 2 and film.width == plain.width
    band = film.height - plain.height
    seen = []
    for i in range(2):
        film.seek(i)
        seen.append(np.asarray(film.convert("L"), float))
    assert all(each[:band].std() > 20 for each in seen)  # dark on light
    assert not np.array_equal(seen[0][:band], seen[1][:band])
    assert np.array_equal(seen[0][band:], seen[1][band:])


def test_a_film_wants_one_title_a_frame():
    with pytest.raises(ValueError, match="shorter"):
        plots.animation([np.zeros((1, 8, 8, 1))] * 2, 1, alt="a film", titles=("one",))


def test_no_picture_can_be_made_without_alternative_text():
    functions = inspect.getmembers(plots, inspect.isfunction)
    takes = {
        name: inspect.signature(function).parameters["alt"]
        for name, function in functions
        if "alt" in inspect.signature(function).parameters and not name.startswith("_")
    }
    assert {"picture", "grid", "rows", "animation", "curves", "bars", "page"} < takes.keys()
    for name, alt in takes.items():
        assert (alt.kind, alt.default) == (alt.KEYWORD_ONLY, alt.empty), name


# Drafts


@pytest.mark.backend
@pytest.mark.once
def test_drafts_are_written_by_the_model_as_it_is_then_and_the_last_by_the_trained_one(capsys):
    letters = tokenizers.CharTokenizer("abc\n")
    model = rnn.LSTMModel(letters, 8, 4, context_length=8)
    windows = training.Windows(letters.encode("abc\n" * 100), 8, 4)  # 12 steps
    drafts = training.Drafts(4, prompts="a", n_tokens=12, top_k=1)
    model.compile(optimizer=keras.optimizers.SGD(3.0))
    options = {"shuffle": False, "verbose": 0, "callbacks": [drafts]}
    model.fit(windows.stream(), epochs=2, **options)
    steps = list(drafts.texts)
    assert steps[0] == 1 and steps[-1] == 2 * len(windows) and 2 < len(steps) <= 4
    assert drafts.texts[steps[-1]] == model.generate("a", 12, top_k=1) != drafts.texts[1]
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"after step {step}: {drafts.texts[step]!r}" for step in steps]


class Talker:
    def generate(self):
        return "words"


@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 30))
def test_at_most_so_many_drafts_are_printed_and_one_at_the_end(epochs, steps, count):
    drafts = training.Drafts(count)
    drafts.set_model(Talker())
    drafts.set_params({"epochs": epochs, "steps": steps})
    drafts.on_train_begin()
    for batch in range(epochs * steps):
        drafts.on_train_batch_end(batch)
    assert 1 <= len(drafts.texts) <= count
    assert max(drafts.texts) == epochs * steps or count == 1
