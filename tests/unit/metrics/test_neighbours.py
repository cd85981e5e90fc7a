"""Metrics by nearest neighbours equal brute force and known answers; their intervals cover."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genlib import UserError, metrics


def cloud(seed, n=200, d=3, shift=0.0):
    points = np.random.default_rng(seed).standard_normal((n, d))
    points[:, 0] += shift
    return points


def grid(start, count=100):
    """Points on a line, one apart."""
    return np.arange(start, start + count, dtype="float64")[:, None] * [1.0, 0.0]


def brute(real, drawn, k):
    """Precision, recall, density and coverage straight from their definitions."""
    within = np.sort(cdist(real, real), 1)[:, k]
    inside = cdist(drawn, real) <= within
    within_drawn = np.sort(cdist(drawn, drawn), 1)[:, k]
    recalled = (cdist(real, drawn) <= within_drawn).any(1)
    return (
        inside.any(1).mean(),
        recalled.mean(),
        inside.sum() / k / len(drawn),
        inside.any(0).mean(),
    )


def all_four(drawn, real, other):
    """Precision, recall, density and coverage: {name: ``Result``}."""
    options = {"floor": other, "by": "me"}
    return {
        **metrics.precision_recall(drawn, real, **options),
        **metrics.density_coverage(drawn, real, **options),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_all_four_equal_their_definitions(k):
    real, drawn, other = cloud(0), cloud(1, shift=1.5), cloud(2)
    found = (
        *metrics.precision_recall(drawn, real, floor=other, by="me", k=k).values(),
        *metrics.density_coverage(drawn, real, floor=other, by="me", k=k).values(),
    )
    assert [r.name for r in found] == ["precision", "recall", "density", "coverage"]
    assert [r.value for r in found] == pytest.approx(brute(real, drawn, k))
    assert [r.floor for r in found] == pytest.approx(brute(real, other, k))
    assert all(r.n == 200 and r.by == "me" and r.interval[0] <= r.value for r in found)


def test_in_a_large_cloud_the_parts_that_are_worked_off_make_no_difference():
    points, centres = cloud(0, 60), cloud(1, 40)
    whole = metrics.balls(points, centres, np.full(40, 0.7))
    parts = metrics.balls(points, centres, np.full(40, 0.7), chunk=7)
    assert all(map(np.array_equal, whole, parts)) and 0 < whole[1].mean() < 1


def test_a_point_on_the_edge_of_a_ball_is_inside():
    counts, held = metrics.balls(grid(0, 3), grid(1, 1), np.array([1.0]))
    assert counts.tolist() == [1, 1, 1] and held.tolist() == [True]


def test_half_of_the_modes_is_perfect_precision_and_half_recall_and_coverage():
    real = np.concatenate([grid(0), grid(10_000)])
    drawn = np.concatenate([grid(0), grid(0) + 0.3])  # near the first half, twice as dense
    found = all_four(drawn, real, real)
    assert [found[m].value for m in ("precision", "recall", "coverage")] == [1, 0.5, 0.5]
    assert [found[m].floor for m in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found["density"].value > 1  # all samples where half of the images are


def test_one_outlier_among_the_real_images_raises_precision_but_not_density():
    real = np.concatenate([cloud(0, 199), [[60.0, 0, 0]]])
    drawn = cloud(1, shift=30)  # nowhere near the cloud, inside the outlier's wide ball
    found = all_four(drawn, real, cloud(2))
    assert found["precision"].value > 0.9
    assert found["density"].value < 0.25 and found["coverage"].value < 0.02


def test_samples_that_are_all_equal_have_no_recall():
    drawn = np.zeros((200, 3))
    found = metrics.precision_recall(drawn, cloud(0), floor=cloud(1), by="me")
    assert found["precision"].value == 1 and found["recall"].value == 0


# Memorisation


def test_copies_are_counted_and_fresh_samples_are_not():
    train, held, fresh = cloud(0, 2000, 8), cloud(1, 1000, 8), cloud(2, 500, 8)
    mixed = np.concatenate([train[:200], fresh[:300]])
    honest = metrics.memorised(fresh, train, held_out=held, by="me")
    copied = metrics.memorised(mixed, train, held_out=held, by="me")
    assert honest.value < 0.03 and honest.floor == 0.01
    assert honest.interval[0] <= 0.01 <= honest.interval[1]
    assert copied.value == pytest.approx(0.4, abs=0.02) and copied.interval[0] > 0.35
    assert copied.n == 500


def test_samples_that_are_near_to_everything_are_not_taken_for_copies():
    train, held = cloud(0, 2000, 8), cloud(1, 1000, 8)
    middle = 0.3 * cloud(2, 500, 8)  # as blurred images are
    assert metrics.memorised(middle, train, held_out=held, by="me").value < 0.05


def test_memorisation_looks_at_images_of_any_shape_and_repeats_with_its_seed():
    train, held, drawn = (cloud(i, 100, 12).reshape(-1, 2, 3, 2) for i in range(3))
    drawn = np.concatenate([train[:30], drawn[:70]])
    one, two, three = (
        metrics.memorised(drawn, train, held_out=held, by="me", seed=s) for s in (1, 1, 2)
    )
    assert one == two != three and one.value >= 0.3


# Intervals


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_intervals_cover_the_expected_values_about_as_often_as_they_claim(shift):
    rows = []
    for seed in range(40):
        clouds = cloud([seed, 2], 100, shift=shift), cloud([seed, 1], 100), cloud(0, 100)
        rows.append(all_four(*clouds).values())
    value = np.array([[r.value for r in row] for row in rows])
    low, high = np.array([[r.interval for r in row] for row in rows]).transpose(2, 0, 1)
    expected = value.mean(0)
    assert np.all(np.mean((low <= expected) & (expected <= high), 0) >= 0.8)
    assert np.all((high - low).mean(0) < 8 * value.std(0))  # not by being endless


# Refusing


@pytest.mark.parametrize(
    "clouds, words",
    [
        ((cloud(0, 100), cloud(1, 90), cloud(2, 100)), "equal numbers.*got 100 and 90 and 100"),
        ((cloud(0, 49), cloud(1, 49), cloud(2, 49)), "at least 50 each"),
        ((cloud(0), cloud(1, d=4), cloud(2)), r"shapes \(3,\) and \(4,\)"),
        ((cloud(0), cloud(1) * np.nan, cloud(2)), "NaN or infinite"),
    ],
)
def test_precision_and_recall_refuse(clouds, words):
    with pytest.raises(UserError, match=words):
        metrics.precision_recall(*clouds[:2], floor=clouds[2], by="me")


def test_density_and_memorisation_refuse_too_few():
    few = cloud(0, 69), cloud(1, 69), cloud(2, 69)
    with pytest.raises(UserError, match="at least 70 each; got 69 and 69 and 69"):
        metrics.density_coverage(*few[:2], floor=few[2], by="me")
    with pytest.raises(UserError, match="at least 40 each; got 3 and 69 and 69"):
        metrics.memorised(few[0][:3], few[1], held_out=few[2], by="me")
