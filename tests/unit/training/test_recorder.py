"""A killed run goes on where it stopped, from its newest checkpoint that is whole."""

import csv

import numpy as np
import pytest

from genlib import UserError, runs, training
from genlib.training import recorder
from genlib.training.backend import keras

IMAGES = np.arange(50, dtype="uint8").reshape(50, 1, 1, 1)


def trained(folder, epochs, resume=False, units=1):
    """Train a small regression up to ``epochs`` in a run folder; return (model, recorder)."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(units))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    run = runs.Run("x", {"run_dir": str(folder), "resume": resume})
    batches = training.Batches(IMAGES, 10, labels=np.arange(50)[:, None] / 50)
    return model, training.fit(model, batches, run, epochs)


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


def test_for_no_epochs_nothing_is_trained_and_the_history_is_empty(tmp_path):
    (model, record), (again, _) = (trained(tmp_path / name, 0) for name in "ab")
    assert record.history == [] and record.seconds == record.images_per_second == 0
    assert all(map(np.array_equal, states(model), states(again)))
    assert not list(tmp_path.rglob("history.csv"))


def test_validation_and_callbacks_see_every_epoch(tmp_path):
    model, _ = trained(tmp_path / "a", 0)
    batches = training.Batches(IMAGES, 10, labels=np.arange(50)[:, None] / 50)
    run, seen = runs.Run("x", {"run_dir": str(tmp_path / "b")}), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))
    record = training.fit(model, batches, run, 3, callbacks=[watch], validation=batches)
    assert [row["val_loss"] for row in record.history] == [round(x["val_loss"], 6) for x in seen]
    assert len(seen) == 3 and record.history[2]["val_loss"] < record.history[0]["val_loss"]
