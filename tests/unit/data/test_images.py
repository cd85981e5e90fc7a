"""Images and texts by name or by path become one form of dataset, and lose nothing on the way."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy import stats

from genlib import UserError, data
from genlib.data.parts import cut

any_images = arrays("uint8", array_shapes(min_dims=4, max_dims=4, max_side=5))
# Images of two black or white pixels, so that equal ones are common.
repeated_images = arrays("uint8", st.tuples(st.integers(1, 12), st.just(2), st.just(1), st.just(1)),
                         elements=st.integers(0, 1))  # fmt: skip


def save_images(folder, count=10, size=(12, 8), mode="L", name="image"):
    """Save ``count`` PNG files of random pixels; size is (width, height). Returns the pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    depth = () if mode == "L" else (3,)
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size[::-1], *depth), "uint8")
    for i, image in enumerate(pixels):
        Image.fromarray(image, mode).save(folder / f"{name}_{i:03d}.png")
    return pixels.reshape(count, *size[::-1], -1)


PARTS = ("train", "validation", "test", "judge")


def all_images(dataset):
    return np.concatenate([dataset.part(name)[0] for name in PARTS])


def all_labels(dataset):
    return np.concatenate([dataset.part(name)[1] for name in PARTS])


def as_set(images):
    return {image.tobytes() for image in images}


# By name


def test_the_digits_are_cut_into_four_parts_in_the_same_shares_of_each_class():
    digits = data.load_images("digits")
    assert digits.shape == (8, 8, 1) and digits.images.max() == 255
    parts = [as_set(digits.part(name)[0]) for name in PARTS]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(all_images(digits)) == 1797
    counts = np.array([np.bincount(digits.part(name)[1]) for name in PARTS])
    shares = counts / counts.sum(0)
    assert np.allclose(shares, np.array([[0.5, 0.1, 0.2, 0.2]]).T, atol=0.02)


def test_every_part_is_in_random_order_and_the_same_each_time():
    one, two = data.load_images("digits"), data.load_images("digits")
    for name in PARTS:
        assert np.array_equal(one.part(name)[0], two.part(name)[0])
    mixed = np.bincount(one.labels[:200], minlength=10)
    assert mixed.min() >= 10 and not np.array_equal(one.labels, np.sort(one.labels))
    for name in PARTS:
        images, labels = one.part(name)
        first, last = np.array_split(images.reshape(len(images), -1) / 255, 2)
        apart = np.abs(first.mean(0) - last.mean(0)).max()
        assert apart < 4 * np.sqrt(2 / len(first)) * 0.5  # of pixels whose deviation is below 0.5
        counts = [np.bincount(half, minlength=10) for half in np.array_split(labels, 2)]
        assert stats.chi2_contingency(counts).pvalue > 0.001


def test_mnist_keeps_its_official_test_part_for_choosing_and_reporting(
    small_mnist, tmp_path, monkeypatch
):
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    mnist = data.load_images("mnist")
    official = small_mnist["x_train"], small_mnist["x_test"]
    for names, whole_part in zip(
        (("train", "judge"), ("validation", "test")), official, strict=True
    ):
        found = np.concatenate([mnist.part(name)[0] for name in names])
        assert sorted(map(bytes, found)) == sorted(map(bytes, whole_part))
    assert len(mnist.judge_images) == round(len(official[0]) / 6)
    labels = {image.tobytes(): label for image, label in zip(
        np.concatenate(official),
        np.concatenate([small_mnist["y_train"], small_mnist["y_test"]]),
        strict=True,
    )}  # fmt: skip
    for image, label in zip(all_images(mnist), all_labels(mnist), strict=True):
        assert labels[image.tobytes()] == label
    assert mnist.class_names == tuple("0123456789") and mnist.name == "mnist"


def test_another_part_is_refused():
    with pytest.raises(UserError, match=r"part='tset' does not exist.*Did you mean 'test'"):
        data.load_images("digits").part("tset")


@given(repeated_images.filter(lambda images: len(images) > 0))
def test_a_cut_holds_every_image_once_and_equal_ones_in_one_part(images):
    rows = cut(images, None)
    assert sorted(np.concatenate([*rows.values()])) == list(range(len(images)))
    parts = [as_set(images[found]) for found in rows.values()]
    assert sum(map(len, parts)) == len(as_set(images))


def test_auto_takes_mnist_where_it_is_at_hand(small_mnist, tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    assert data.load_images("auto").name == "mnist"
    assert capsys.readouterr().out == ""


def test_auto_says_in_a_banner_that_it_falls_back_to_the_digits(sockets, capsys):
    assert data.load_images("auto").name == "digits"
    banner = capsys.readouterr().out
    assert banner.startswith("▶ MNIST") and "digits" in banner and "GENLIB_OFFLINE" in banner
    assert banner.count("\n") == 1 and not sockets


def test_auto_does_not_hide_a_damaged_mnist_behind_the_digits(small_mnist, tmp_path, monkeypatch):
    small_mnist["x_train"][0, 0, 0] ^= 1
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    with pytest.raises(UserError, match="does not hold the mnist"):
        data.load_images("auto")


# By path


def test_a_folder_without_subfolders_has_no_labels(tmp_path):
    pixels = save_images(tmp_path / "mine")
    mine = data.load_images(tmp_path / "mine")
    assert as_set(all_images(mine)) == as_set(pixels)
    assert mine.labels is None and mine.test_labels is None and mine.class_names == ()
    assert mine.name == "mine/" and len(mine.test_images) == 2


def test_the_subfolders_of_a_folder_are_its_classes(tmp_path):
    for count, name in ((10, "cats"), (15, "dogs")):
        save_images(tmp_path / "pets" / name, count)
    pets = data.load_images(str(tmp_path / "pets"))
    assert pets.class_names == ("cats", "dogs")
    assert np.bincount(all_labels(pets)).tolist() == [10, 15]
    assert np.bincount(pets.test_labels).tolist() == [2, 3]


def test_images_beside_class_folders_leave_the_whole_folder_without_labels(tmp_path):
    save_images(tmp_path / "cats", 10)
    save_images(tmp_path, 1)
    assert data.load_images(tmp_path).labels is None


@pytest.mark.parametrize("mode, depth", [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize(
    "image_size, channels", [(0, 0), (0, 1), (0, 3), (16, 0), (16, 1), (16, 3), (4, 1)]
)
def test_a_folder_takes_the_size_and_the_colours_asked_for(
    tmp_path, mode, depth, image_size, channels
):
    save_images(tmp_path, mode=mode)
    images = data.load_images(tmp_path, image_size, channels)
    sides = (image_size, image_size) if image_size else (8, 12)
    assert images.shape == (*sides, channels or depth) == images.test_images.shape[1:]
    assert images.images.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_and_an_npz_of_the_same_pixels_convert_alike(tmp_path, channels):
    mode = "RGB" if channels == 1 else "L"
    pixels = save_images(tmp_path / "folder", mode=mode)
    np.savez(tmp_path / "file.npz", images=pixels)
    folder = data.load_images(tmp_path / "folder", 6, channels)
    file = data.load_images(tmp_path / "file.npz", 6, channels)
    assert np.array_equal(folder.images, file.images)


def test_images_of_different_sizes_and_modes_become_equal_when_asked(tmp_path):
    save_images(tmp_path, 5, (12, 8), "L", "grey")
    save_images(tmp_path, 5, (9, 9), "RGB", "colour")
    assert data.load_images(tmp_path, 8, 1).shape == (8, 8, 1)


@pytest.mark.parametrize("shape", [(20, 8, 8), (20, 8, 8, 1), (20, 8, 8, 3)])
def test_an_npz_of_floats_from_0_to_1_equals_one_of_bytes(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    np.savez(tmp_path / "bytes.npz", images=pixels)
    np.savez(tmp_path / "floats.npz", images=pixels / 255)
    of_bytes, of_floats = (data.load_images(tmp_path / f"{n}.npz") for n in ("bytes", "floats"))
    assert np.array_equal(of_bytes.images, of_floats.images) and of_bytes.images.ndim == 4
    assert of_bytes.sha256 != of_floats.sha256


def test_an_npz_with_a_test_part_of_its_own_keeps_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 4, 4), "uint8")
    np.savez(tmp_path / "own.npz", images=pixels[:20], test_images=pixels[20:])
    own = data.load_images(tmp_path / "own.npz")
    assert as_set(np.concatenate([own.images, own.judge_images])) == as_set(pixels[:20, ..., None])
    held_out = np.concatenate([own.validation_images, own.test_images])
    assert as_set(held_out) == as_set(pixels[20:, ..., None])


def test_take_keeps_the_first_training_images_and_the_whole_test_part():
    digits = data.load_images("digits")
    few = digits.take(100)
    assert np.array_equal(few.images, digits.images[:100])
    assert np.array_equal(few.labels, digits.labels[:100])
    assert len(few.test_images) == len(digits.test_images) and digits.take(0) is digits


# Values


@given(any_images)
def test_uint8_survives_the_way_into_a_model_and_back(images):
    scaled = data.to_model(images)
    assert scaled.dtype == np.float32 and scaled.min() >= -1 and scaled.max() <= 1
    drawn = data.to_unit(scaled)
    assert drawn.dtype == np.float32 and drawn.min() >= 0 and drawn.max() <= 1
    assert np.array_equal(data.to_uint8(drawn), images)


@given(any_images)
def test_bytes_and_floats_of_one_picture_are_the_same_to_both_functions(images):
    """The dtype says which range is given: whole numbers are bytes, floats are of the other one."""
    unit = data.to_unit(images)
    assert unit.dtype == np.float32 and np.array_equal(unit, np.float32(images / 255.0))
    assert np.allclose(data.to_model(unit), data.to_model(images), atol=1e-7)
    assert np.allclose(data.to_unit(data.to_model(unit)), unit, atol=1e-7)
    assert np.array_equal(data.to_model(images.astype("int64")), data.to_model(images))


def test_black_is_minus_one_and_white_is_one_for_a_model():
    assert data.to_model(np.array([0, 255], "uint8")).tolist() == [-1.0, 1.0]
    assert data.to_unit(np.array([-7.0, -1.0, 0.0, 1.0, 7.0])).tolist() == [0, 0, 0.5, 1, 1]


@given(repeated_images)
def test_deduplicate_keeps_the_first_occurrence_of_each_image(images):
    seen, first = set(), []
    for i, image in enumerate(images):
        if image.tobytes() not in seen:
            first.append(i)
        seen.add(image.tobytes())
    assert data.deduplicate(images).tolist() == first


@given(repeated_images, st.floats(0, 1), st.integers(0, 5))
def test_split_parts_the_images_and_leaves_equal_ones_on_the_same_side(images, fraction, seed):
    rest, held_out = data.split(images, fraction, seed)
    assert sorted([*rest, *held_out]) == list(range(len(images)))
    assert not as_set(images[rest]) & as_set(images[held_out])
    distinct = len(as_set(images))
    assert len(as_set(images[held_out])) == round(fraction * distinct)


def test_split_depends_on_its_seed_alone():
    images = np.arange(100, dtype="uint8").reshape(100, 1, 1, 1)
    halves = [data.split(images, 0.5, seed)[1].tolist() for seed in (1, 1, 2)]
    assert halves[0] == halves[1] != halves[2]


# Texts

VERSES = {
    "greek": "μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος\n" * 40,
    "chinese": "道可道，非常道。名可名，非常名。\n" * 80,
    "marks": "naïve e\u0301 👩‍🔬 a\rb\u2028c\td \n" * 80,
}


def whole(text):
    return text.train + text.validation + text.test


def test_shakespeare_is_found_and_has_its_name_licence_and_hash(
    small_shakespeare, tmp_path, monkeypatch
):
    (tmp_path / "shakespeare.txt").write_bytes(small_shakespeare)
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    text = data.load_text("shakespeare")
    assert whole(text).encode() == small_shakespeare and text.name == "shakespeare"
    assert text.sha256 == hashlib.sha256(small_shakespeare).hexdigest()
    assert text.source == "shakespeare.txt" and "public domain" in text.licence


def test_auto_takes_shakespeare_where_it_is_at_hand(
    small_shakespeare, tmp_path, monkeypatch, capsys
):
    (tmp_path / "shakespeare.txt").write_bytes(small_shakespeare)
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    assert data.load_text().name == "shakespeare" and capsys.readouterr().out == ""


def test_auto_says_in_a_banner_that_it_falls_back_to_pydoc(sockets, capsys):
    text = data.load_text("auto", limit=5000)
    banner = capsys.readouterr().out
    assert text.name == "pydoc" and text.licence.startswith("PSF") and len(whole(text)) == 5000
    assert banner.startswith("▶ Shakespeare") and "help texts" in banner
    assert "GENLIB_OFFLINE" in banner and banner.count("\n") == 1 and not sockets


def test_auto_does_not_hide_a_damaged_shakespeare_behind_pydoc(
    small_shakespeare, tmp_path, monkeypatch
):
    (tmp_path / "shakespeare.txt").write_bytes(small_shakespeare[:-1])
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    for source in ("auto", "shakespeare"):
        with pytest.raises(UserError, match="does not hold the shakespeare"):
            data.load_text(source)


def test_pydoc_is_long_enough_to_train_on_and_the_same_each_time():
    one, two = data.load_text("pydoc"), data.load_text("pydoc")
    assert one == two and len(one) > 300_000 and "Python" in str(one)


@pytest.mark.parametrize("verse", VERSES.values(), ids=VERSES)
def test_a_file_of_ones_own_is_read_to_the_character(tmp_path, verse):
    (tmp_path / "mine.txt").write_bytes(verse.encode())
    mine = data.load_text(tmp_path / "mine.txt")
    assert whole(mine) == verse and mine.name == mine.source == "mine.txt"
    assert mine.licence == "your own" and data.load_text(str(tmp_path / "mine.txt")) == mine


def test_a_file_of_windows_loses_its_mark_and_its_double_line_breaks(tmp_path):
    content = b"\xef\xbb\xbf" + VERSES["greek"].replace("\n", "\r\n").encode()
    (tmp_path / "mine.txt").write_bytes(content)
    mine = data.load_text(tmp_path / "mine.txt")
    assert whole(mine) == VERSES["greek"] and mine.sha256 == hashlib.sha256(content[3:]).hexdigest()


def test_a_folder_is_its_texts_in_the_order_of_their_names(tmp_path):
    (tmp_path / "part").mkdir()
    for name in ("b.txt", "a.md", "part/c.TXT", "d.py"):
        (tmp_path / name).write_text(f"{name} {'x' * 500}", encoding="utf-8")
    mine = data.load_text(tmp_path)
    assert [line.split()[0] for line in whole(mine).split("\n")] == ["a.md", "b.txt", "part/c.TXT"]
    assert mine.name == tmp_path.name


@pytest.mark.parametrize("length", [1000, 1001, 1009, 1234])
def test_the_last_tenth_is_for_choosing_and_reporting_and_the_parts_do_not_overlap(
    tmp_path, length
):
    written = "".join(f"{i:05d}" for i in range(300))[:length]
    (tmp_path / "mine.txt").write_text(written)
    mine = data.load_text(tmp_path / "mine.txt")
    assert whole(mine) == written and len(mine) == len(mine.train) == length * 9 // 10
    assert 0 <= len(mine.test) - len(mine.validation) <= 1


def test_limit_counts_characters_from_the_first(tmp_path):
    (tmp_path / "mine.txt").write_bytes(VERSES["chinese"].encode())
    mine = data.load_text(tmp_path / "mine.txt", limit=1005)
    assert whole(mine) == VERSES["chinese"][:1005] and len(mine.validation) == 50
    assert data.load_text(tmp_path / "mine.txt", limit=10_000) == data.load_text(
        tmp_path / "mine.txt"
    )
