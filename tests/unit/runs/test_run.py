"""A run folder is written whole or not at all."""

import json

import numpy as np
import pytest

from genlib import UserError, data, runs
from genlib.runs import results
from genlib.training.backend import keras

IMAGES = np.arange(50, dtype="uint8").reshape(50, 1, 1, 1)


def test_a_run_writes_its_parameters_and_metrics(tmp_path):
    values = {"epochs": 2, "rate": 1e-4, "run_dir": str(tmp_path / "a" / "run")}
    run = runs.Run("02_gan", values)
    parts = (IMAGES, None) * 4
    dataset = data.Images("digits", *parts, (), "here", "mine", "abc")
    result = runs.Result("FCD", 2.0, 20, 1.0, (1.5, 2.5), "me")
    run.metrics(dataset, {"fcd": result, "loss": np.float32(0.5)}, "fcd", train_seconds=1.0)
    assert json.loads((run.folder / "params.json").read_text()) == values
    record = json.loads((run.folder / "metrics.json").read_text())
    assert record["schema"] == results.SCHEMA and record["lesson"] == "02_gan"
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
