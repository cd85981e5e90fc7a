"""A run folder is written whole or not at all, and a killed run goes on where it stopped."""

import csv
import json
import random

import numpy as np
import pytest
from numerics import fit

from genlib import UserError, data, runs, training
from genlib.training import recorder
from genlib.training.backend import keras

IMAGES = np.arange(50, dtype="uint8").reshape(50, 1, 1, 1)


def epoch_of(batches):
    """The images of one epoch in their order, asked for as ``fit`` does: in an order of its own."""
    batches.on_epoch_begin()
    asked = random.sample(range(len(batches)), len(batches))
    found = [data.to_uint8(data.from_model(batches[i])).ravel() for i in asked]
    batches.on_epoch_end()
    return np.concatenate(found).tolist()


# Batches


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50])
def test_an_epoch_shows_each_image_once_less_an_incomplete_batch(batch_size):
    shown = epoch_of(training.Batches(IMAGES, batch_size))
    assert len(shown) == 50 // batch_size * batch_size
    assert len(set(shown)) == len(shown) and set(shown) <= set(range(50))


def test_the_order_is_a_function_of_seed_and_epoch():
    straight, later, other = (training.Batches(IMAGES, 10, seed) for seed in (0, 0, 1))
    orders = [epoch_of(straight) for _ in range(3)]
    later.epoch = 2
    assert epoch_of(later) == orders[2]
    assert len({tuple(order) for order in [*orders, epoch_of(other)]}) == 4


def test_outside_of_fit_a_batch_is_the_one_asked_for():
    batches = training.Batches(IMAGES, 10)
    backwards = [np.asarray(batches[i]).ravel().tolist() for i in reversed(range(5))]
    assert [np.asarray(batches[i]).ravel().tolist() for i in range(5)] == backwards[::-1]


def test_labels_stay_with_their_images():
    images, labels = map(np.asarray, training.Batches(IMAGES, 10, labels=np.arange(50))[3])
    assert images.dtype == np.float32 and images.min() >= -1 and images.max() <= 1
    assert np.array_equal(data.to_uint8(data.from_model(images)).ravel(), labels)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match="batch_size=51 is more than the 50"):
        training.Batches(IMAGES, 51)


# The folder


def test_a_run_writes_its_parameters_and_metrics(tmp_path):
    values = {"epochs": 2, "rate": 1e-4, "run_dir": str(tmp_path / "a" / "run")}
    run = runs.Run("02_gan", values)
    parts = (IMAGES, None, IMAGES[:5], None, ())
    dataset = data.Images("digits", *parts, "here", "mine", "abc")
    result = runs.Result("FCD", 2.0, 20, 1.0, (1.5, 2.5), "me")
    run.metrics(dataset, {"fcd": result, "loss": np.float32(0.5)}, "fcd", train_seconds=1.0)
    assert json.loads((run.folder / "params.json").read_text()) == values
    record = json.loads((run.folder / "metrics.json").read_text())
    assert record["schema"] == run.SCHEMA and record["lesson"] == "02_gan"
    assert record["parameters"] == values and record["headline"] == "fcd"
    assert record["dataset"] == {"name": "digits", "sha256": "abc", "n": 50}
    assert record["metrics"]["fcd"]["interval"] == [1.5, 2.5] and record["metrics"]["loss"] == 0.5
    assert record["train_seconds"] == 1.0 and record["seconds"] >= 0
    assert record["backend"] == keras.backend.backend() and record["device"]
    assert record["versions"]["keras"] == keras.__version__
    assert not list(run.folder.rglob("*.part"))


def test_samples_are_stored_as_bytes(tmp_path):
    run = runs.Run("x", {"run_dir": str(tmp_path)})
    run.samples(np.array([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1))
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["images"].dtype == np.uint8
        assert archive["images"].ravel().tolist() == [0, 128, 255]


def test_samples_of_text_are_read_again_without_pickle(tmp_path):
    texts = ["λόγος\n", "", "a longer one, 道可道 👩‍🔬"]
    runs.Run("x", {"run_dir": str(tmp_path)}).samples(texts)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as archive:
        assert archive.files == ["text"] and archive["text"].tolist() == texts


def test_the_metrics_of_a_text_hold_its_name_hash_and_characters(tmp_path):
    text = data.load_text("pydoc", limit=2000)
    run = runs.Run("09_gpt", {"run_dir": str(tmp_path)})
    run.metrics(text, {"bits_per_character": np.float32(1.5)}, "bits_per_character")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["dataset"] == {"name": "pydoc", "sha256": text.sha256, "n": 1800}
    assert record["metrics"] == {"bits_per_character": 1.5}


@pytest.mark.parametrize("resume", [True, False])
def test_a_new_run_clears_what_an_old_one_left_unless_it_resumes(tmp_path, resume):
    runs.Run("x", {"run_dir": str(tmp_path)})
    old = [tmp_path / name for name in ("metrics.json", "history.csv", "checkpoints/a", "mine.txt")]
    for path in old:
        path.write_text("old")
    runs.Run("x", {"run_dir": str(tmp_path), "resume": resume})
    assert [path.exists() for path in old] == [resume, resume, resume, True]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"run_dir='.*file/run' cannot be written") as caught:
        runs.Run("x", {"run_dir": str(tmp_path / "file" / "run")})
    assert "\n" not in str(caught.value)


# Resuming


def trained(folder, epochs, resume=False, units=1):
    """Train a small regression up to ``epochs`` in a run folder; return (model, recorder)."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(units))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    run = runs.Run("x", {"run_dir": str(folder), "resume": resume})
    batches = training.Batches(IMAGES, 10, labels=np.arange(50)[:, None] / 50)
    return model, fit(model, run, batches, epochs)


def states(model):
    return [np.asarray(v.value) for v in recorder._state(model)]


def same(model, other):
    pairs = zip(states(model), states(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.backend
def test_the_saved_state_holds_weights_and_optimizer_and_comes_back_exactly(tmp_path):
    model, _ = trained(tmp_path / "a", 2)
    other, _ = trained(tmp_path / "b", 1)
    training.save_state(tmp_path / "state.npz", model)
    assert not same(model, other)
    training.load_state(tmp_path / "state.npz", other)
    assert same(model, other) and int(other.optimizer.iterations) == 10


@pytest.mark.backend
def test_a_resumed_run_ends_as_an_uninterrupted_one_with_its_history(tmp_path, capsys):
    straight, _ = trained(tmp_path / "straight", 4)
    trained(tmp_path / "resumed", 2)
    resumed, recorder = trained(tmp_path / "resumed", 4, resume=True)
    assert same(straight, resumed)
    assert "▶ resumed after epoch 2 from epoch_00002.npz" in capsys.readouterr().out
    tables = [
        list(csv.DictReader((tmp_path / name / "history.csv").open(encoding="utf-8")))
        for name in ("straight", "resumed")
    ]
    losses = [[(float(row["epoch"]), row["loss"]) for row in table] for table in tables]
    assert losses[0] == losses[1] and len(recorder.history) == 4
    assert recorder.images_per_second == pytest.approx(4 * 50 / recorder.seconds)


def test_a_run_keeps_its_last_two_checkpoints(tmp_path):
    trained(tmp_path, 4)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["epoch_00003.npz", "epoch_00004.npz"]


def truncate(content):
    return content[: len(content) // 2]


def flip(content, at=0.5):
    place = int(at * len(content))
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip, lambda c: b""], ids=["cut", "flip", "empty"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before_and_says_so(
    tmp_path, damage, capsys
):
    trained(tmp_path, 3)
    newest = tmp_path / "checkpoints" / "epoch_00003.npz"
    newest.write_bytes(damage(newest.read_bytes()))
    resumed, recorder = trained(tmp_path, 4, resume=True)
    said = capsys.readouterr().out
    assert "▶ epoch_00003.npz is damaged" in said and "resumed after epoch 2" in said
    assert [row["epoch"] for row in recorder.history] == [1, 2, 3, 4]
    assert same(resumed, trained(tmp_path / "straight", 4)[0])


def test_no_flipped_byte_of_a_checkpoint_gets_past_or_stops_the_run(tmp_path, capsys):
    model, _ = trained(tmp_path, 2)
    truth, batches = states(model), training.Batches(IMAGES, 10)
    run = runs.Run("x", {"run_dir": str(tmp_path), "resume": True})
    newest = tmp_path / "checkpoints" / "epoch_00002.npz"
    content = newest.read_bytes()
    for at in np.arange(0, 1, 0.003):
        capsys.readouterr()
        newest.write_bytes(flip(content, at))
        recorder = training.Recorder(run, model, batches)
        if recorder.initial_epoch == 2:  # the byte was one that says nothing, such as a date's
            assert all(map(np.array_equal, states(model), truth)), at
        else:
            assert "epoch_00002.npz is damaged" in capsys.readouterr().out, at


def test_when_no_checkpoint_is_whole_the_run_starts_anew_and_says_so(tmp_path, capsys):
    trained(tmp_path, 2)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"PK")
    _, recorder = trained(tmp_path, 2, resume=True)
    assert "nothing to resume" in capsys.readouterr().out and len(recorder.history) == 2


def test_a_checkpoint_without_its_history_still_resumes(tmp_path):
    trained(tmp_path, 2)
    (tmp_path / "history.csv").unlink()
    assert same(trained(tmp_path, 3, resume=True)[0], trained(tmp_path / "straight", 3)[0])


def test_a_checkpoint_of_other_sizes_is_refused_and_changes_no_weight(tmp_path):
    trained(tmp_path, 1)
    with pytest.raises(UserError, match=r"other sizes.*resume with the parameters"):
        trained(tmp_path, 2, resume=True, units=4)
