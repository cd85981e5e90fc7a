"""A shipped checkpoint is used only if each of its bytes is the one that was published."""

import hashlib
import json

import numpy as np
import pytest

from genlib import UserError
from genlib.data import checkpoints
from genlib.training.backend import keras


def dense(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of checkpoints that holds one, ``dense_toy``. Returns its file."""
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    checkpoints.publish(dense(0), "dense_toy", shape=[3], metrics={"loss": np.float32(0.5)})
    return tmp_path / "dense_toy.weights.h5"


def test_publish_writes_the_file_and_its_line_in_the_manifest(shipped):
    content = shipped.read_bytes()
    line = json.loads((shipped.parent / "manifest.json").read_text())["dense_toy"]
    assert line["sha256"] == hashlib.sha256(content).hexdigest() and line["bytes"] == len(content)
    assert line["shape"] == [3] and line["metrics"] == {"loss": 0.5}


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_manifest_that_is_lost_or_damaged_is_one_sentence(shipped, content):
    manifest = shipped.parent / "manifest.json"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    for use in (checkpoints.manifest, lambda: checkpoints.path("dense_toy")):
        with pytest.raises(UserError, match=r"manifest\.json is missing or damaged; restore it"):
            use()


def test_publish_keeps_the_other_lines_of_the_manifest_in_order(shipped):
    checkpoints.publish(dense(1), "aaa")
    assert list(checkpoints.manifest()) == ["aaa", "dense_toy"]


def test_publish_refuses_a_file_too_large_for_the_repository(shipped, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 100)
    with pytest.raises(UserError, match=r"large has .* bytes; a checkpoint has 100 at most"):
        checkpoints.publish(dense(0), "large")
    assert list(checkpoints.manifest()) == ["dense_toy"]
    assert not (shipped.parent / "large.weights.h5").exists()


def test_load_weights_gives_the_published_weights_and_their_hash(shipped):
    model = dense(1)
    assert (
        checkpoints.load_weights(model, "dense_toy")
        == checkpoints.manifest()["dense_toy"]["sha256"]
    )
    assert all(map(np.array_equal, model.get_weights(), dense(0).get_weights()))


def test_an_unknown_checkpoint_names_those_there_are(shipped):
    with pytest.raises(UserError, match=r"no checkpoint 'dense_to' \(there are dense_toy\).* mean"):
        checkpoints.path("dense_to")


def test_a_missing_checkpoint_says_how_to_restore_it(shipped):
    shipped.unlink()
    with pytest.raises(UserError, match="missing; restore it with `git checkout"):
        checkpoints.path("dense_toy")


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5, 0.999])
def test_a_checkpoint_with_one_flipped_byte_is_refused(shipped, place):
    content = bytearray(shipped.read_bytes())
    content[int(place * len(content))] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged or changed .*`git checkout -- [^`]*`\.$"):
        checkpoints.load_weights(dense(1), "dense_toy")


def test_the_manifest_lists_exactly_the_files_that_ship_with_their_hashes():
    files = checkpoints.FOLDER.glob("*.weights.h5")
    hashes = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    lines = checkpoints.manifest().items()
    assert {f"{name}.weights.h5": line["sha256"] for name, line in lines} == hashes
