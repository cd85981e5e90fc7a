"""A user's mistake is one sentence that names it, an exit status, and no trace in the run folder.

What can be told without a kernel is asked of ``load_images``, ``load_text``, a language model and
the command line in this process; a few of each kind go through a lesson, the stand-in of
conftest.py, as users see them.
"""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from genlib import ROOT, UserError, data, training
from genlib.cli import main
from genlib.data import checkpoints, sources
from genlib.models import gpt, tokenizers
from genlib.training.backend import keras


def assert_one_sentence(text, *words):
    """Fail unless ``text`` is one line, ends like a sentence, and holds the words."""
    text = text.strip()
    assert "\n" not in text and "Traceback" not in text
    assert text.endswith((".", "?")), text
    for word in words:
        assert word in text


def save_images(folder, count=12, size=(8, 8), mode="L", prefix="a"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new(mode, size, i).save(folder / f"{prefix}{i:02d}.png")
    return folder


def save_npz(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


# Datasets. Each function makes one in a folder and returns what the user would name.

PIXELS = np.zeros((20, 8, 8), "uint8")


def no_such_name(folder):
    return "minst"


def no_such_path(folder):
    return folder / "nowhere"


def a_text_file(folder):
    (folder / "poem.txt").write_text("Shall I compare thee")
    return folder / "poem.txt"


def an_empty_folder(folder):
    return folder


def a_folder_without_images(folder):
    (folder / "notes.txt").write_text("soon")
    return folder


def mixed_sizes(folder):
    save_images(folder, 6, (8, 8))
    return save_images(folder, 6, (8, 10), prefix="b")


def mixed_modes(folder):
    save_images(folder, 6, mode="L")
    return save_images(folder, 6, mode="RGB", prefix="b")


def a_corrupt_image(folder):
    save_images(folder)
    content = (folder / "a05.png").read_bytes()
    (folder / "a05.png").write_bytes(content[:40])
    return folder


def an_empty_image(folder):
    save_images(folder)
    (folder / "a05.png").write_bytes(b"")
    return folder


def a_text_called_png(folder):
    save_images(folder)
    (folder / "a05.png").write_text("<html>not found</html>")
    return folder


def too_few_images(folder):
    return save_images(folder, 9)


def classes_of_one_image_each(folder):
    for i in range(12):
        save_images(folder / f"class{i:02d}", 1)
    return folder


def a_truncated_npz(folder):
    path = save_npz(folder, images=PIXELS)
    path.write_bytes(path.read_bytes()[:300])
    return path


def an_empty_npz(folder):
    (folder / "mine.npz").write_bytes(b"")
    return folder / "mine.npz"


def a_web_page_called_npz(folder):
    (folder / "mine.npz").write_text("<html>please log in</html>")
    return folder / "mine.npz"


def an_npy_called_npz(folder):
    np.save(folder / "mine.npy", PIXELS)
    return (folder / "mine.npy").rename(folder / "mine.npz")


def a_zip_called_npz(folder):
    with zipfile.ZipFile(folder / "mine.npz", "w") as archive:
        archive.writestr("images", b"not an array")
    return folder / "mine.npz"


def an_npz_that_needs_pickle(folder):
    return save_npz(folder, images=np.array([{"an": "object"}] * 20, dtype=object))


def an_npz_without_images(folder):
    return save_npz(folder, pictures=PIXELS)


def nan(folder):
    images = np.zeros((20, 8, 8))
    images[3, 2, 1] = np.nan
    return save_npz(folder, images=images)


def floats_to_255(folder):
    return save_npz(folder, images=np.full((20, 8, 8), 255.0))


def integers_that_are_not_bytes(folder):
    return save_npz(folder, images=PIXELS.astype("int64"))


def four_channels(folder):
    return save_npz(folder, images=np.zeros((20, 8, 8, 4), "uint8"))


def a_single_number(folder):
    return save_npz(folder, images=np.uint8(7))


def too_few_labels(folder):
    return save_npz(folder, images=PIXELS, labels=np.arange(19))


def labels_below_zero(folder):
    return save_npz(folder, images=PIXELS, labels=np.arange(20) - 1)


def labels_that_are_fractions(folder):
    return save_npz(folder, images=PIXELS, labels=np.arange(20) / 2)


def a_test_part_of_another_size(folder):
    return save_npz(folder, images=PIXELS, test_images=np.zeros((20, 9, 9), "uint8"))


BAD_DATA = [
    (no_such_name, "'minst'", "Did you mean 'mnist'?"),
    (no_such_path, "nowhere", "no folder"),
    (a_text_file, "poem.txt", "no .npz file"),
    (an_empty_folder, "holds no images", ".png"),
    (a_folder_without_images, "holds no images", ".png"),
    (mixed_sizes, "differ", "a00.png is (8, 8, 1), b00.png is (10, 8, 1)", "image_size"),
    (mixed_modes, "differ", "a00.png is (8, 8, 1), b00.png is (8, 8, 3)", "channels"),
    (a_corrupt_image, "a05.png is not a readable image (40 bytes)"),
    (an_empty_image, "a05.png is not a readable image (0 bytes)"),
    (a_text_called_png, "a05.png is not a readable image"),
    (too_few_images, "(9, 8, 8, 1)", "at least 10 images"),
    (classes_of_one_image_each, "each class"),
    (a_truncated_npz, "mine.npz is not a whole .npz file", "intact copy"),
    (an_empty_npz, "mine.npz is not a whole .npz file", "intact copy"),
    (a_web_page_called_npz, "mine.npz is not a whole .npz file", "intact copy"),
    (an_npy_called_npz, "mine.npz is not a whole .npz file", "intact copy"),
    (a_zip_called_npz, "mine.npz have shape ()"),
    (an_npz_that_needs_pickle, "unpickling", "numpy.savez"),
    (an_npz_without_images, "['pictures']", "'images'"),
    (nan, "from nan to nan", "without NaN"),
    (floats_to_255, "float64 from 255.0 to 255.0", "floats from 0 to 1"),
    (integers_that_are_not_bytes, "int64", "uint8"),
    (four_channels, "(20, 8, 8, 4)"),
    (a_single_number, "shape ()"),
    (too_few_labels, "labels", "20 images"),
    (labels_below_zero, "labels", "from 0 up"),
    (labels_that_are_fractions, "labels", "whole number"),
    (a_test_part_of_another_size, "(8, 8, 1)", "(9, 9, 1)"),
]


def test_a_picture_too_large_to_be_safe_is_refused_in_one_sentence(tmp_path, monkeypatch):
    save_images(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError) as caught:
        data.load_images(tmp_path)
    assert_one_sentence(str(caught.value), "a00.png")


@pytest.mark.parametrize("image_size, channels", [(-1, 0), (0, 2), (0, 4), (8, -1)])
def test_sizes_and_channels_that_do_not_exist_are_refused(image_size, channels):
    with pytest.raises(UserError) as caught:
        data.load_images("digits", image_size, channels)
    assert_one_sentence(str(caught.value), f"image_size={image_size} and channels={channels}")


def test_no_flipped_byte_of_an_npz_gives_a_traceback_or_other_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 2, 2), "uint8")
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, images=images)
    truth, content = data.load_images(path), path.read_bytes()
    refused = 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:  # a byte that says nothing, such as a date's, does no harm
            assert np.array_equal(data.load_images(path).images, truth.images), at
        except UserError as error:
            refused += 1
            assert "Traceback" not in str(error)
    assert refused > len(content) / 2


def test_with_a_network_that_fails_a_download_is_one_sentence(sockets, monkeypatch):
    monkeypatch.setenv("GENLIB_OFFLINE", "0")
    with pytest.raises(sources.NotAtHand) as caught:
        data.load_images("cifar10")
    assert_one_sentence(str(caught.value), "'cifar10'", "the download failed", "GENLIB_DATA")
    assert sockets


# Texts. Each function makes one in a folder and returns what the user would name.


def save_text(folder, content):
    (folder / "mine.txt").write_bytes(content)
    return folder / "mine.txt"


def a_misspelt_text(folder):
    return "shakespear"


def no_such_file(folder):
    return folder / "nowhere.txt"


def an_empty_file(folder):
    return save_text(folder, b"")


def a_byte_order_mark_alone(folder):
    return save_text(folder, b"\xef\xbb\xbf")


def a_text_that_is_too_short(folder):
    return save_text(folder, b"x" * 999)


def a_picture(folder):
    Image.new("L", (64, 64)).save(folder / "a.png")
    return save_text(folder, (folder / "a.png").read_bytes())


def zero_bytes(folder):
    return save_text(folder, b"a\0" * 1000)


def latin_1(folder):
    return save_text(folder, ("x" * 1200 + "caf\xe9").encode("latin-1"))


def utf_16(folder):
    return save_text(folder, ("x" * 1200).encode("utf-16"))


def a_cut_character(folder):
    return save_text(folder, ("道" * 1200).encode()[:-1])


def a_folder_without_texts(folder):
    return save_images(folder)


def a_folder_with_one_bad_text(folder):
    (folder / "good.txt").write_text("x" * 2000)
    save_text(folder, b"\xff" * 2000)
    return folder


def a_folder_called_txt(folder):
    (folder / "mine.txt").mkdir()
    return folder


BAD_TEXTS = [
    (a_misspelt_text, "'shakespear'", "pydoc", "Did you mean 'shakespeare'?"),
    (no_such_file, "nowhere.txt", "no file and no folder"),
    (an_empty_file, "mine.txt has 0 characters", "1,000"),
    (a_byte_order_mark_alone, "mine.txt has 0 characters", "1,000"),
    (a_text_that_is_too_short, "mine.txt has 999 characters", "1,000"),
    (a_picture, "mine.txt is no UTF-8 text", "byte 0 is 0x89", "save it as UTF-8"),
    (zero_bytes, "mine.txt holds zero bytes"),
    (latin_1, "mine.txt is no UTF-8 text", "byte 1203 is 0xe9", "save it as UTF-8"),
    (utf_16, "mine.txt is no UTF-8 text", "byte 0 is 0xff"),
    (a_cut_character, "mine.txt is no UTF-8 text", "byte 3597 is 0xe9"),
    (a_folder_without_texts, "holds no texts", ".txt"),
    (a_folder_with_one_bad_text, "mine.txt is no UTF-8 text", "byte 0 is 0xff"),
    (a_folder_called_txt, "mine.txt cannot be read"),
]


@pytest.mark.parametrize(
    "load, make, words",
    [
        pytest.param(load, make, words, id=make.__name__)
        for load, table in ((data.load_images, BAD_DATA), (data.load_text, BAD_TEXTS))
        for make, *words in table
    ],
)
def test_bad_data_are_refused_in_one_sentence(load, make, words, tmp_path):
    source = make(tmp_path)
    with pytest.raises(UserError) as caught:
        load(source)
    assert_one_sentence(str(caught.value), *words)


def test_a_text_of_fewer_tokens_than_two_windows_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "mine.txt").write_text("to be or not to be\n" * 60)
    tokens = tokenizers.CharTokenizer("to bernt\n").encode(
        data.load_text(tmp_path / "mine.txt").train
    )
    with pytest.raises(UserError) as caught:
        training.Windows(tokens, 1024, 1)
    assert_one_sentence(str(caught.value), "context_length=1024", "1026 tokens", "at most 513")


# A language model


@pytest.fixture(scope="module")
def model():
    """A GPT that knows a, b, c and the space, and reads eight of them."""
    sizes = {"num_layers": 1, "num_heads": 1, "model_dim": 4, "context_length": 8}
    return gpt.GPT(tokenizers.CharTokenizer("abc "), **sizes)


@pytest.mark.parametrize(
    "name, values, allowed",
    [
        ("temperature", [0, -1, np.nan], "above 0 (top_k=1 is greedy)"),
        ("top_p", [0, 1.5, np.nan], "a number above 0, at most 1"),
        ("top_k", [0, 1.5, -3, np.nan, np.inf], "1, 2, … or None"),
        ("min_p", [-0.1, 1.1, np.nan], "a number from 0"),
        ("repetition_penalty", [0.5, -1, np.nan], "a number from 1"),
        ("n_tokens", [0, -5, 2.5, np.nan, np.inf], "a whole number from 1 up"),
    ],
)
def test_a_control_out_of_its_range_is_refused_in_one_sentence(model, name, values, allowed):
    for value in values:
        with pytest.raises(UserError) as caught:
            model.generate("a", **{name: value})
        assert_one_sentence(str(caught.value), f"{name}={value}", allowed)


@pytest.mark.parametrize(
    "prompt, words",
    [
        ("abc abc a", "the prompt has 9 tokens; this model reads 8 at most: shorten it"),
        (["a", "abc abc a"], "the prompt has 9 tokens"),
        ("abba!?", "the characters '!' '?' did not occur"),
        (["a", "!?"], "the characters '!' '?' did not occur"),
        ("", "the characters '\\n' did not occur"),  # which an empty prompt is read as
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_in_one_sentence(model, prompt, words):
    with pytest.raises(UserError) as caught:
        model.generate(prompt)
    assert_one_sentence(str(caught.value), words)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_heads": 3}, ["model_dim=128 does not fit num_heads=3", "multiple of 6"]),
        ({"positions": "rotery"}, ["positions='rotery'", "Did you mean 'rotary'?"]),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_one_sentence(options, words):
    with pytest.raises(UserError) as caught:
        gpt.GPT(tokenizers.CharTokenizer("abc "), **options)
    assert_one_sentence(str(caught.value), *words)


# The command line


def failed(capsys, *arguments):
    """Run the command line, which must refuse with status 2. Returns its one sentence."""
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    (sentence,) = [line for line in said.err.splitlines() if line.startswith("genlib: ")]
    assert said.err.rstrip().endswith(sentence)  # nothing after it, such as a second line of it
    assert_one_sentence(sentence)
    return sentence


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", "99"], "there is no lesson '99' (there are 00_stand_in)"),
        (["run", "00_standin"], "Did you mean '00_stand_in'?"),
        (["run", "00", "-p", "epoch", "3"], "'epoch' is not a parameter of this lesson"),
        (["run", "00", "-p", "epoch", "3"], "Did you mean 'epochs'?"),
        (["run", "00", "-f", "nowhere.yaml"], "nowhere.yaml is not a readable YAML file"),
        (
            ["data", "fetch", "nosuch"],
            "no dataset 'nosuch' (mnist, fashion_mnist, cifar10, shakespeare)",
        ),
        (["data", "fetch", "fasion_mnist"], "Did you mean 'fashion_mnist'?"),
        (["data", "fetch", "mnist"], "GENLIB_OFFLINE=1 forbids a download"),
        (["data", "fetch", "shakespeare"], "put shakespeare.txt into the folder"),
        (["data", "fetch", "shakespear"], "Did you mean 'shakespeare'?"),
        (["data", "verify", "mnst"], "Did you mean 'mnist'?"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_status_2(stand_in, capsys, sockets, arguments, words):
    assert words in failed(capsys, *arguments)
    assert not sockets


@pytest.mark.parametrize(
    "content, words",
    [
        ("epochs: [1, 2", "is not a readable YAML file"),
        ("a: b: c", "is not a readable YAML file"),
        ("- epochs\n- 3", "must hold lines `name: value`"),
        ("three", "must hold lines `name: value`"),
        ("epochz: 3", "'epochz' is not a parameter"),
        ("1: 2", "1 is not a parameter"),
        (b"\xff\xfe\x00", "is not a readable YAML file"),
    ],
)
def test_a_bad_file_of_parameters_is_one_sentence(stand_in, tmp_path, capsys, content, words):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in failed(capsys, "run", "00", "-f", file)


# Runs to compare. Each function makes a folder in a folder and returns what the user would name.

RECORD = {
    "schema": 1,
    "lesson": "02_gan",
    "parameters": {},
    "dataset": {"name": "digits", "sha256": "abc", "n": 9},
    "headline": "loss",
    "metrics": {"loss": 1.0, "shares": {"a": 2.0}},
    "backend": "jax",
    "device": "CPU",
}


def save_run(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text("{}")
    (folder / "metrics.json").write_text(json.dumps(RECORD | changes))
    return folder


def no_such_run(folder):
    return folder / "nowhere"


def a_file_of_a_run(folder):
    return save_run(folder) / "metrics.json"


def a_folder_that_is_no_run(folder):
    return folder


def a_folder_of_runs(folder):
    save_run(folder / "02_gan")
    return folder


def an_unfinished_run(folder):
    (save_run(folder) / "metrics.json").unlink()
    return folder


def metrics_cut_short(folder):
    content = (save_run(folder) / "metrics.json").read_bytes()
    (folder / "metrics.json").write_bytes(content[: len(content) // 2])
    return folder


def metrics_that_are_no_text(folder):
    (save_run(folder) / "metrics.json").write_bytes(b"\xff\xfe\x00")
    return folder


def metrics_that_are_a_list(folder):
    (save_run(folder) / "metrics.json").write_text("[1]")
    return folder


def metrics_of_another_schema(folder):
    return save_run(folder, schema=99)


def metrics_without_a_dataset(folder):
    return save_run(folder, dataset=None)


def a_result_that_is_no_number(folder):
    result = {"name": "FCD", "value": "low", "n": 9, "floor": None, "interval": [1, 2], "by": ""}
    return save_run(folder, metrics={"fcd": result})


BAD_RUNS = [
    (no_such_run, "nowhere does not exist"),
    (a_file_of_a_run, "metrics.json is no run folder"),
    (a_folder_that_is_no_run, "is no run folder: it has no metrics.json"),
    (a_folder_of_runs, "bad holds runs but is none; give", "bad/*/."),
    (an_unfinished_run, "bad is an unfinished run"),
    (metrics_cut_short, "metrics.json is no readable JSON"),
    (metrics_that_are_no_text, "metrics.json is no readable JSON"),
    (metrics_that_are_a_list, "metrics.json has schema None and this genlib reads 1 to "),
    (metrics_of_another_schema, "metrics.json has schema 99 and this genlib reads 1 to "),
    (metrics_without_a_dataset, "metrics.json is not as a run writes it"),
    (a_result_that_is_no_number, "metrics.json is not as a run writes it", "'low'"),
]


@pytest.mark.parametrize(
    "make, words",
    [(make, words) for make, *words in BAD_RUNS],
    ids=[d[0].__name__ for d in BAD_RUNS],
)
def test_a_folder_that_holds_no_finished_run_is_not_compared(tmp_path, capsys, make, words):
    (tmp_path / "bad").mkdir()
    sentence = failed(capsys, "compare", save_run(tmp_path / "good"), make(tmp_path / "bad"))
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    "options, words",
    [
        (["--metric", "los"], "no run here has the metric 'los' (there are loss). Did you mean"),
        (["--metric", "shares"], "no run here has the metric 'shares' (there are loss)."),
        (["--figure", "mine.jpg"], "'mine.jpg' must end in .png"),
        (["--csv", "nowhere/mine.csv"], "nowhere/mine.csv cannot be written (No such file"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_sentence(tmp_path, capsys, options, words):
    assert words in failed(capsys, "compare", save_run(tmp_path / "run"), *options)


def test_comparing_no_run_is_one_sentence(capsys):
    assert "there is no run to compare" in failed(capsys, "compare")


def test_the_gpu_preset_without_a_gpu_is_one_sentence(stand_in, monkeypatch, capsys):
    monkeypatch.setattr("genlib.runs.lessons.gpus", lambda: [])
    params = stand_in / "params" / "gpu"
    params.mkdir(parents=True)
    (params / "00_stand_in.yaml").write_text("epochs: 5\n")
    assert "--preset gpu needs a GPU" in failed(capsys, "run", "00", "--preset", "gpu")


def not_verified(capsys, name):
    """The line that ``genlib data verify`` prints of a dataset that is not what it should be."""
    assert main(["data", "verify", name]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert_one_sentence(out, f"{name}: ")
    return out


def tampered(arrays):
    arrays["x_train"][7, 14, 14] ^= 1


def of_another_type(arrays):
    arrays["y_test"] = arrays["y_test"].astype("int64")


def without_a_part(arrays):
    del arrays["x_test"]


@pytest.mark.parametrize("change", [tampered, of_another_type, without_a_part])
def test_an_mnist_that_is_not_mnist_is_found_by_its_content(
    change, small_mnist, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    assert main(["data", "verify", "mnist"]) == 0 and capsys.readouterr()
    change(small_mnist)
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    assert f"{tmp_path / 'mnist.npz'} does not hold the mnist" in not_verified(capsys, "mnist")


def test_a_shakespeare_that_is_not_shakespeare_is_found_by_its_content(
    small_shakespeare, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    file = tmp_path / "shakespeare.txt"
    file.write_bytes(small_shakespeare)
    assert main(["data", "verify", "shakespeare"]) == 0 and capsys.readouterr()
    file.write_bytes(small_shakespeare.replace(b"Shall", b"Shell", 1))
    assert f"{file} does not hold the shakespeare" in not_verified(capsys, "shakespeare")


def test_a_truncated_mnist_is_one_sentence(small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path))
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    content = (tmp_path / "mnist.npz").read_bytes()
    (tmp_path / "mnist.npz").write_bytes(content[: len(content) // 2])
    assert "is not a whole .npz file" in not_verified(capsys, "mnist")


def test_a_tampered_checkpoint_is_found_by_the_doctor(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    toy = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    checkpoints.publish(toy, "dense_toy")
    content = bytearray((tmp_path / "dense_toy.weights.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "dense_toy.weights.h5").write_bytes(content)
    assert main(["doctor"]) == 1
    assert "✗ checkpoint    dense_toy is not usable" in (screen := capsys.readouterr().out)
    assert "git checkout -- data/checkpoints/dense_toy.weights.h5" in screen


def test_the_installed_command_ends_with_its_status_and_one_line():
    command = "import sys; from genlib.cli import main; sys.exit(main())"
    arguments = [sys.executable, "-c", command, "data", "fetch", "nosuch"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("genlib: ")
    assert_one_sentence(done.stderr, "'nosuch'")


# Through a lesson


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("epochs", "0", "epochs='0' is not allowed: give a whole number from 1 to 100"),
        ("epochs", "ten", "epochs='ten' is not allowed"),
        ("dataset", "minst", "dataset 'minst' is no known name"),
        ("dataset", "mnist", "dataset 'mnist' is not on this machine"),
    ],
)
def test_a_wrong_value_stops_a_lesson_with_one_sentence_and_leaves_nothing(
    stand_in, tmp_path, capsys, name, value, words
):
    folder = tmp_path / "run"
    assert words in failed(capsys, "run", "00", "-p", name, value, "--run-dir", folder)
    assert not folder.exists()


def test_a_run_folder_that_cannot_be_written_is_one_sentence(stand_in, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "run"
    sentence = failed(capsys, "run", "00", "--run-dir", folder)
    assert f"run_dir={str(folder)!r} cannot be written" in sentence
    assert (tmp_path / "file").read_text() == "mine"
