"""Lesson 08 merges byte pairs by hand, and draws results with their intervals."""

import json
from collections import Counter

from genlib import data
from genlib.authoring import definitions
from genlib.models import tokenizers
from genlib.runs.results import Result


def test_a_pair_is_joined_wherever_it_stands_from_the_left():
    lesson = definitions.load("08")
    assert lesson.joined(("a", "b", "a", "b", "c"), ("a", "b")) == ("ab", "ab", "c")
    assert lesson.joined(("a", "a", "a"), ("a", "a")) == ("aa", "a")
    assert lesson.joined(("b", "a"), ("a", "b")) == ("b", "a")


def test_merges_weigh_a_word_by_how_often_it_occurs():
    words = {tuple("low"): 5, tuple("newest"): 6, tuple("widest"): 3}  # Sennrich et al. 2016
    assert definitions.load("08").merges_of(words, 2) == [("e", "s"), ("es", "t")]


def test_the_first_merges_of_a_text_are_the_librarys():
    text = data.load_text("pydoc").train
    pieces, words = tokenizers.BPETokenizer.train(text, 300), Counter()
    for line in text.splitlines(keepends=True):
        cut = pieces.tokenizer.pre_tokenizer.pre_tokenize_str(line)
        words.update(tuple(word) for word, _ in cut)
    library = [tuple(pair) for pair in json.loads(pieces.rules)["model"]["merges"][:8]]
    assert definitions.load("08").merges_of(words, 8) == library


def test_results_are_drawn_with_their_intervals_and_floors():
    results = {t: Result("x", t, 20, 0.5, (t - 0.1, t + 0.2), "counting") for t in (0.3, 1.0)}
    drawn = definitions.load("08").bands({"x": results}, "temperature", alt="x by temperature")
    assert drawn.data.startswith(b"\x89PNG") and drawn.alt == "x by temperature"
