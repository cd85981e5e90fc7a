"""Quality metrics equal their closed forms, and their intervals cover what they claim to."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from genlib import UserError, data, metrics, runs
from genlib.data import checkpoints


def gaussian(seed, d):
    """A mean (d,) and a covariance (d, d) at random."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((d, d + 2))
    return rng.standard_normal(d), root @ root.T / d


def features(seed, n=100, d=3, shift=0.0):
    cloud = np.random.default_rng(seed).standard_normal((n, d))
    cloud[:, 0] += shift
    return cloud


@given(st.integers(0, 10**6), st.integers(1, 10))
def test_frechet_distance_equals_the_closed_form_for_independent_gaussians(seed, d):
    rng = np.random.default_rng(seed)
    (m1, m2), (s1, s2) = rng.standard_normal((2, d)), rng.uniform(0, 3, (2, d))
    distance = metrics.frechet_distance(m1, np.diag(s1**2), m2, np.diag(s2**2))
    assert distance == pytest.approx(np.sum((m1 - m2) ** 2) + np.sum((s1 - s2) ** 2), abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 10))
def test_frechet_distance_equals_the_formula_with_a_matrix_square_root(seed, d):
    (m1, c1), (m2, c2) = gaussian(seed, d), gaussian(seed + 1, d)
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert metrics.frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 10))
def test_frechet_distance_is_symmetric_and_zero_only_for_equals(seed, d):
    one, two = gaussian(seed, d), gaussian(seed + 1, d)
    there, back = metrics.frechet_distance(*one, *two), metrics.frechet_distance(*two, *one)
    assert there == pytest.approx(back, rel=1e-6) and there > 1e-3
    assert metrics.frechet_distance(*one, *one) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_is_a_real_number_for_singular_covariances():
    flat = np.diag([1.0, 0.0])
    assert metrics.frechet_distance(np.zeros(2), flat, np.zeros(2), flat[::-1, ::-1]) == 2.0


def test_fcd_is_the_distance_of_the_moments_and_its_floor_that_of_the_real_images():
    real, drawn, other = features(0), features(1, shift=2), features(2)
    result = metrics.fcd(drawn, real, floor=other, by="me")

    def distance(a, b):
        return metrics.frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))

    assert result.value == distance(real, drawn) and result.floor == distance(real, other)
    assert result.n == 100 and result.by == "me"
    low, high = result.interval
    assert low < result.value < high and result.floor < low
    assert all(f"{number:.2f}" in str(result) for number in (result.value, result.floor, low, high))


def test_the_floor_of_fcd_is_the_mean_over_the_draws_that_are_given():
    real, drawn, one, two = (features(seed) for seed in range(4))
    floors = [metrics.fcd(drawn, real, floor=f, by="me").floor for f in (one, two)]
    both = metrics.fcd(drawn, real, floor=np.concatenate([one, two, two[:50]]), by="me")
    assert both.floor == pytest.approx(np.mean(floors))
    kids = [metrics.kid(drawn, real, floor=f, by="me").floor for f in (one, two)]
    both = metrics.kid(drawn, real, floor=np.concatenate([one, two]), by="me")
    assert both.floor == pytest.approx(np.mean(kids), abs=1e-6)


@pytest.mark.parametrize("d, n, shift", [(2, 200, 1), (8, 100, 1), (8, 100, 0)])
def test_the_interval_covers_the_expected_value_at_least_as_often_as_it_claims(d, n, shift):
    """The expected value of the estimate at this n, by its mean over all repetitions; where the
    distributions are equal (shift 0), the interval is too wide, and never too narrow."""
    results = []
    for seed in range(100):
        clouds = features([seed, 2], n, d, shift), features([seed, 1], n, d)
        results.append(metrics.fcd(*clouds, floor=features(0, n, d), by="me"))
    low, high = np.transpose([result.interval for result in results])
    values = np.array([result.value for result in results])
    assert np.mean((low <= values.mean()) & (values.mean() <= high)) >= 0.9
    assert np.mean(high - low) < (2.5 if shift else 4) * 2 * values.std()  # not by being endless


def test_a_result_without_a_floor_is_printed_and_stored_without():
    result = runs.Result("bits per character", 1.5, 1234, None, (1.4, 1.6), "me")
    assert str(result) == "bits per character 1.50  (95% interval 1.40 to 1.60; n = 1,234; by me)"
    stored = json.loads(json.dumps(result.as_dict()))
    assert stored["floor"] is None and stored["value"] == 1.5 and stored["interval"] == [1.4, 1.6]


def test_a_small_result_is_printed_with_the_digits_that_mean_something():
    result = runs.Result("KID", 0.01234, 100, 0.0001, (0.0120, 0.0127), "me")
    assert str(result).startswith("KID 0.0123  (95% interval 0.0120 to 0.0127; floor 0.0001")


# KID, inception score, class coverage


def direct_mmd(x, y):
    """Squared MMD by its definition, without the pairs (i, i): a double sum."""
    total, n = 0.0, len(x)

    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    for i in range(n):
        for j in set(range(n)) - {i}:
            total += k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i])
    return total / n / (n - 1)


@pytest.mark.parametrize("chunk", [7, 200])
def test_kid_equals_a_direct_double_sum(chunk):
    x, y, other = features(0, 30), features(1, 30, shift=1), features(2, 30)
    assert metrics.squared_mmd(x, y, chunk)[0] == pytest.approx(direct_mmd(x, y), rel=1e-4)
    result = metrics.kid(y, x, floor=other, by="me")
    assert result.value == pytest.approx(direct_mmd(x, y), rel=1e-4)
    assert result.floor == pytest.approx(direct_mmd(x, other), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_is_unbiased_and_its_standard_error_is_the_spread_of_its_values(shift):
    pairs = [(features([s, 1], 40), features([s, 2], 40, shift=shift)) for s in range(400)]
    values, errors = np.transpose([metrics.squared_mmd(*pair) for pair in pairs])
    # The expected value, from two clouds so large that their own error does not matter.
    expected = metrics.squared_mmd(features(1, 4000), features(2, 4000, shift=shift))[0]
    assert values.mean() == pytest.approx(expected * (shift > 0), abs=4 * values.std() / 20 + 0.01)
    assert errors.mean() == pytest.approx(values.std(), rel=0.35)
    if not shift:
        assert (values < 0).any()


def test_the_inception_score_of_one_hot_predictions_is_the_number_of_classes():
    certain = np.tile(np.eye(5), (20, 1))
    result = metrics.inception_score(certain, certain, by="me")
    assert result.value == pytest.approx(5) == result.floor and result.interval[1] <= 5
    same = np.tile(np.eye(5)[:1], (100, 1))
    unsure = np.full((100, 5), 0.2)
    for rows in (same, unsure):
        assert metrics.inception_score(rows, certain, by="me").value == pytest.approx(1)


def test_the_inception_score_equals_its_definition():
    rows, real = np.random.default_rng(0).dirichlet(np.ones(4), (2, 50))
    kl = [sum(p * np.log(p / m) for p, m in zip(row, rows.mean(0), strict=True)) for row in rows]
    assert metrics.inception_score(rows, real, by="me").value == pytest.approx(np.exp(np.mean(kl)))


def test_class_coverage_is_what_two_distributions_have_in_common():
    real, other = np.repeat(range(4), 25), np.repeat(range(4), [20, 30, 25, 25])
    drawn = np.repeat([0, 1, 2], [50, 25, 25])  # the last class is missing, the first is doubled
    result = metrics.class_coverage(drawn, real, floor=other, by="me")
    assert result.value == 0.75 and result.floor == pytest.approx(0.95) and result.n == 100


def test_the_other_intervals_cover_the_expected_value_about_as_often_as_they_claim():
    rows = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        chances = rng.dirichlet(np.full(5, 0.3), 100)
        classes = rng.choice(4, 100, p=[0.4, 0.3, 0.2, 0.1])
        real, other = rng.choice(4, (2, 100))
        clouds = features([seed, 2], 60, shift=1), features([seed, 1], 60)
        rows.append(
            (
                metrics.inception_score(chances, chances, by="me"),
                metrics.class_coverage(classes, real, floor=other, by="me"),
                metrics.kid(*clouds, floor=features(0, 60), by="me"),
            )
        )
    value = np.array([[r.value for r in row] for row in rows])
    low, high = np.array([[r.interval for r in row] for row in rows]).transpose(2, 0, 1)
    expected = value.mean(0)
    assert np.all(np.mean((low <= expected) & (expected <= high), 0) >= 0.85)
    assert np.all((high - low).mean(0) < 6 * value.std(0))  # not by being endless


@pytest.mark.parametrize(
    "metric, parts, words",
    [
        (metrics.kid, (features(0), features(1, d=4), features(2)), "one kind"),
        (metrics.kid, [features(0, 19)] * 3, "at least 20 each"),
        (metrics.inception_score, [features(0)] * 2, "do not sum to 1"),
        (metrics.class_coverage, ([1] * 30, [1] * 30, [1] * 29), "30 and 30 and 29"),
    ],
)
def test_the_other_metrics_refuse(metric, parts, words):
    floor = {"floor": parts[2]} if len(parts) > 2 else {}
    with pytest.raises(UserError, match=words):
        metric(*parts[:2], **floor, by="me")


def with_one(bad):
    cloud = features(1)
    cloud[3, 1] = bad
    return cloud


@pytest.mark.parametrize(
    "clouds, words",
    [
        ((features(0, 50), features(1, 60), features(2, 50)), "got 50 and 60"),
        (
            (features(0, 50), features(1, 50), features(2, 49)),
            "floor for 50 images needs as many.*49",
        ),
        ((features(0, 19), features(1, 19), features(2, 19)), "at least 20"),
        ((features(0), with_one(np.nan), features(2)), "NaN"),
        ((with_one(np.inf), features(1), features(2)), "infinite"),
    ],
)
def test_fcd_refuses(clouds, words):
    with pytest.raises(UserError, match=words):
        metrics.fcd(*clouds[:2], floor=clouds[2], by="me")


@given(st.lists(st.integers(0, 3), min_size=1))
def test_class_shares_are_relative_to_uniform(classes):
    shares = metrics.class_shares(np.array(classes), 4)
    assert shares.shape == (4,) and shares.mean() == pytest.approx(1)
    assert shares.tolist() == [classes.count(c) / len(classes) * 4 for c in range(4)]


def test_a_judge_without_classes_gives_no_class_shares():
    assert metrics.class_shares(None, 0) is None


def test_nearest_images_are_the_nearest_by_brute_force():
    samples, images = np.random.default_rng(0).random((2, 20, 3, 3, 2)).astype("float32")
    distances = ((samples[:, None] - images[None]) ** 2).sum((2, 3, 4))
    assert np.array_equal(metrics.nearest_images(samples, images), images[distances.argmin(1)])
    assert np.array_equal(metrics.nearest_images(images, images), images)


# The judge


@pytest.fixture(scope="module")
def unlabelled(digits):
    none = dict.fromkeys(("labels", "validation_labels", "test_labels", "judge_labels"))
    return replace(digits, name="mine", class_names=(), **none)


def test_without_labels_the_features_are_the_principal_components(unlabelled):
    judge = metrics.Judge(unlabelled)
    found, classes = judge(unlabelled.judge_images / 255)
    assert found.shape == (len(unlabelled.judge_images), 64) and classes is None
    assert "64 principal components of mine" in judge.name
    covariance = np.cov(found.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-4
    assert np.all(np.diff(np.diag(covariance)) < 1e-6)  # the largest first


def test_a_judge_of_pixels_is_the_same_for_data_with_labels(digits, unlabelled):
    found, classes = metrics.Judge.of_pixels(digits)(digits.test_images / 255)
    assert np.array_equal(found, metrics.Judge(unlabelled)(digits.test_images / 255)[0])
    assert classes is None


@pytest.mark.parametrize("part", ["validation", "test"])
def test_measure_fcd_compares_with_the_part_that_is_asked_for(unlabelled, part):
    judge, held_out = metrics.Judge(unlabelled), unlabelled.part(part)[0] / 255
    for other in ("validation", "test"):
        value = metrics.measure_fcd(held_out, unlabelled, judge=judge, part=other).value
        assert (value < 1e-4) == (other == part)


def test_the_judge_learns_from_its_own_part_alone(digits):
    other = replace(digits, images=digits.images[::-1][:50], test_images=digits.test_images[:30])
    judges = [metrics.Judge.of_pixels(part) for part in (digits, other)]
    features = [judge(digits.test_images / 255)[0] for judge in judges]
    assert np.array_equal(*features)


def test_measure_fcd_gives_zero_for_the_test_images_and_ranks_worse_samples(unlabelled):
    judge, test = metrics.Judge(unlabelled), unlabelled.test_images / 255
    noise = np.random.default_rng(0).random(test.shape)
    blurred = 0.9 * test + 0.1 * noise
    values = [
        metrics.measure_fcd(part, unlabelled, judge=judge).value for part in (test, blurred, noise)
    ]
    assert values[0] == pytest.approx(0, abs=1e-4) and values[0] < values[1] < values[2]


def test_measure_fcd_compares_equal_numbers_and_takes_the_floor_from_training_images(unlabelled):
    judge = metrics.Judge(unlabelled)
    result = metrics.measure_fcd(unlabelled.images[:50] / 255, unlabelled, judge=judge)
    assert result.n == 50 and result.floor > 0


def test_with_labels_a_classifier_is_trained_that_names_the_classes(digits):
    toy = replace(digits, name="toy")
    judge = metrics.Judge(toy)
    found, classes = judge(toy.test_images / 255)
    assert "trained here on toy" in judge.name and found.shape == (len(toy.test_images), 64)
    assert np.mean(classes == toy.test_labels) > 0.3  # by chance: 0.1


@pytest.mark.backend
def test_a_shipped_classifier_is_taken_and_named_by_its_hash(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    classifier = metrics.build_classifier(digits.shape, 10)
    facts = {"shape": digits.shape, "num_classes": 10, "dataset": {"sha256": digits.sha256}}
    checkpoints.publish(classifier, "classifier_toy", **facts)
    judge = metrics.Judge(replace(digits, name="toy"))
    assert "trained here" in metrics.Judge(replace(digits, name="toy", sha256="another")).name
    sha256 = json.loads((tmp_path / "manifest.json").read_text())["classifier_toy"]["sha256"]
    assert judge.name == f"classifier_toy@{sha256[:8]}"
    assert metrics.Judge.shipped("toy").name == judge.name
    logits = np.asarray(classifier(data.to_model(digits.test_images), training=False))
    assert np.array_equal(judge(digits.test_images / 255)[1], logits.argmax(-1))


@pytest.mark.parametrize("images", [-0.01, 1.01, 255.0, np.nan])
def test_a_judge_refuses_images_out_of_range(unlabelled, images):
    with pytest.raises(UserError, match=r"needs \[0, 1\] without NaN"):
        metrics.Judge(unlabelled)(np.full((20, 8, 8, 1), images))


def test_a_judge_refuses_data_with_too_few_test_images(unlabelled):
    few = replace(unlabelled, test_images=unlabelled.test_images[:19])
    with pytest.raises(UserError, match=r"mine has 19 test images.*at least 100 images"):
        metrics.Judge(few)
