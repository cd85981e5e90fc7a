"""All metrics of images on one dataset: the same real images, one n, and clear refusals."""

from dataclasses import replace

import numpy as np
import pytest

from genlib import UserError, metrics

BY_CLASS = {"inception_score", "class_coverage"}
NAMES = {"fcd", "kid", "precision", "recall", "density", "coverage", "memorised"}
LOWER = {"fcd", "kid", "memorised"}  # is better


@pytest.fixture(scope="module")
def judge():
    return metrics.Judge.shipped("digits")


def test_all_metrics_come_with_n_floor_interval_and_judge(judge, digits):
    found = metrics.measure_images(digits.test_images / 255.0, digits, judge=judge)
    assert set(found) == NAMES | BY_CLASS
    assert {r.n for r in found.values()} == {len(digits.test_images)}
    assert all(r.interval[0] <= r.value <= r.interval[1] for r in found.values())
    assert {r.by for name, r in found.items() if name != "memorised"} == {judge.name}
    assert found["fcd"].value == pytest.approx(0, abs=1e-6)  # the test images themselves
    assert found["recall"].value == found["coverage"].value == 1
    assert found["memorised"].value <= 0.05
    assert {name for name, r in found.items() if not r.higher_is_better} == LOWER
    assert {name for name, r in found.items() if not r.depends_on_n} == {"memorised"}


def test_samples_that_come_in_turn_get_no_wider_interval_than_shuffled_ones(judge, digits):
    """Groups that the jackknife leaves out must not be classes."""
    n = 350
    by_class = [np.flatnonzero(digits.labels == c) for c in range(10)]
    in_turn = digits.images[[by_class[i % 10][i // 10] for i in range(n)]] / 255.0
    shuffled = in_turn[np.random.default_rng(7).permutation(n)]
    pair = [metrics.measure_images(x, digits, judge=judge)["fcd"] for x in (in_turn, shuffled)]
    widths = [np.ptp(found.interval) for found in pair]
    assert pair[0].value == pytest.approx(pair[1].value, abs=1e-6)
    assert widths[0] < 1.5 * widths[1]


def test_copies_of_the_training_images_are_seen_by_one_metric_only(judge, digits):
    found = metrics.measure_images(digits.images[:200] / 255.0, digits, judge=judge)
    assert found["memorised"].value == 1
    assert all(found[m].value > found[m].floor - 0.15 for m in ("precision", "recall", "coverage"))


def test_a_missing_class_lowers_coverage_and_class_coverage(judge, digits):
    few = digits.test_images[digits.test_labels < 5] / 255.0
    found = metrics.measure_images(few, digits, judge=judge, n=150)
    for name in ("coverage", "class_coverage", "recall"):
        assert found[name].interval[1] < found[name].floor
    assert found["class_coverage"].value == pytest.approx(0.5, abs=0.1)
    assert found["inception_score"].value < 0.8 * found["inception_score"].floor


def test_a_generator_that_makes_one_image_is_measured(judge, digits):
    same = np.repeat(digits.test_images[:1] / 255.0, 150, axis=0)
    found = metrics.measure_images(same, digits, judge=judge)
    assert found["inception_score"].value == pytest.approx(1) and found["recall"].value < 0.1
    assert all(np.isfinite([r.value, *r.interval]).all() for r in found.values())


def test_without_labels_there_is_nothing_by_class(digits):
    none = dict.fromkeys(("labels", "validation_labels", "test_labels", "judge_labels"))
    mine = replace(digits, name="mine", class_names=(), **none)
    judge = metrics.Judge(mine)
    found = metrics.measure_images(mine.test_images / 255.0, mine, judge=judge, n=100)
    assert set(found) == NAMES


@pytest.mark.parametrize("n, count", [(None, 3), (60, 200), (300, 200)])
def test_numbers_of_samples_that_cannot_be_judged_are_refused(judge, digits, n, count):
    with pytest.raises(UserError, match=f"n={n or count} is not possible.*70 images.*{count} sam"):
        metrics.measure_images(digits.test_images[:count] / 255.0, digits, judge=judge, n=n)


def test_a_dataset_whose_test_images_are_all_equal_is_refused(judge, digits):
    same = replace(digits, test_images=np.repeat(digits.test_images[:1], 100, axis=0))
    with pytest.raises(UserError, match="all 100 test images of digits are equal"):
        metrics.measure_images(digits.images[:100] / 255.0, same, judge=judge)
