"""Named datasets are found in the stated order, checked by content, and fetched without pickles."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from genlib import UserError, data
from genlib.data import readers, sources


def place(folder, name="mnist", suffix="npz"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.{suffix}").touch()
    return folder / f"{name}.{suffix}"


def training_set(dataset):
    """The official training images of a dataset, those of the judge too, as sorted bytes."""
    return sorted(map(bytes, np.concatenate([dataset.images, dataset.judge_images])))


def test_a_dataset_is_looked_for_in_genlib_data_then_the_cache_then_keras(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert sources.find("mnist") is None
    for folder in (tmp_path / "keras" / "datasets", sources.CACHE, tmp_path / "mine"):
        file = place(folder)  # each is preferred to those before it
        assert sources.find("mnist") == file


def test_a_path_comes_before_every_named_place(small_mnist, tmp_path, monkeypatch):
    place(tmp_path / "named")
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path / "named"))
    np.savez(tmp_path / "mnist.npz", **small_mnist)
    loaded = data.load_images(tmp_path / "mnist.npz")
    assert training_set(loaded) == sorted(map(bytes, small_mnist["x_train"]))


def test_a_text_is_looked_for_in_the_same_places(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLIB_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert sources.find("shakespeare") is None
    for folder in (tmp_path / "keras" / "datasets", sources.CACHE, tmp_path / "mine"):
        file = place(folder, "shakespeare", "txt")
        assert sources.find("shakespeare") == file


@pytest.mark.parametrize("offline, tries", [("1", False), ("0", True), ("", True)])
@pytest.mark.parametrize(
    "load, name, file",
    [
        (data.load_images, "mnist", "mnist.npz"),
        (data.load_text, "shakespeare", "shakespeare.txt"),
    ],
)
def test_only_without_genlib_offline_is_a_socket_tried(
    sockets, monkeypatch, offline, tries, load, name, file
):
    monkeypatch.setenv("GENLIB_OFFLINE", offline)
    with pytest.raises(sources.NotAtHand) as caught:
        load(name)
    assert bool(sockets) == tries
    assert "\n" not in str(caught.value) and f"{name!r}" in str(caught.value)
    assert f"put {file} into" in str(caught.value)


# What Keras has downloaded, read without Keras's own pickles


def idx(array):
    """The bytes of a gzipped IDX file, MNIST's own format."""
    sizes = b"".join(int(side).to_bytes(4, "big") for side in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def write_idx_files(folder, small_mnist, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, key in zip(names, sources.ARRAYS, strict=True):
        (folder / name).write_bytes(idx(small_mnist[key]))
    return [folder / name for name in names]


def test_read_idx_returns_the_arrays_that_were_written(small_mnist, tmp_path):
    paths = write_idx_files(tmp_path, small_mnist, "abcd")
    read = readers.read_idx(paths)
    assert list(read) == list(sources.ARRAYS)
    for key, array in read.items():
        assert np.array_equal(array, small_mnist[key])


def test_read_cifar_returns_the_arrays_that_were_written(tmp_path):
    rng, batches = np.random.default_rng(0), {}
    for name in ("data_batch_2.bin", "test_batch.bin", "data_batch_1.bin"):
        batches[name] = (rng.integers(0, 256, (4, 32, 32, 3), "uint8"), rng.integers(0, 10, (4, 1)))
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        for name, (images, labels) in batches.items():
            planes = images.transpose(0, 3, 1, 2).reshape(4, -1)
            content = np.hstack([labels.astype("uint8"), planes]).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    read = readers.read_cifar([tmp_path / "cifar.tar.gz"])
    train = [batches[f"data_batch_{i}.bin"] for i in (1, 2)]
    for i, part in enumerate("xy"):
        assert np.array_equal(read[f"{part}_train"], np.concatenate([b[i] for b in train]))
        assert np.array_equal(read[f"{part}_test"], batches["test_batch.bin"][i])


@pytest.fixture
def keras_fashion(small_mnist, tmp_path, monkeypatch):
    """Fashion-MNIST's four files in Keras's cache, small, with the hashes that they have."""
    known = sources.DATASETS["fashion_mnist"]
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    paths = write_idx_files(tmp_path / "keras" / known["folder"], small_mnist, known["files"])
    hashes = {p.name: f"md5:{hashlib.md5(p.read_bytes()).hexdigest()}" for p in paths}
    monkeypatch.setitem(known, "files", hashes)
    return paths


def test_files_in_keras_cache_become_a_dataset_without_a_network(
    keras_fashion, small_mnist, sockets
):
    loaded = data.load_images("fashion_mnist")
    assert training_set(loaded) == sorted(map(bytes, small_mnist["x_train"]))
    assert loaded.class_names[9] == "ankle boot"
    assert sources.find("fashion_mnist").parent == sources.CACHE and not sockets
    assert {file.suffix for file in sources.CACHE.iterdir()} == {".npz", ".sha256"}


def test_a_damaged_file_in_keras_cache_is_not_downloaded_anew_when_offline(keras_fashion, sockets):
    keras_fashion[0].write_bytes(keras_fashion[0].read_bytes()[:-1])
    with pytest.raises(sources.NotAtHand):
        data.load_images("fashion_mnist")
    assert not sockets


def test_a_fetched_dataset_that_has_changed_since_is_refused(keras_fashion, small_mnist):
    path = sources.fetch("fashion_mnist")
    small_mnist["x_test"][0, 0, 0] ^= 1
    np.savez(path, **small_mnist)
    with pytest.raises(UserError, match="does not hold the fashion_mnist"):
        data.load_images("fashion_mnist")


def test_a_cache_that_cannot_be_written_is_one_sentence(keras_fashion, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sources, "CACHE", tmp_path / "file" / "cache")
    with pytest.raises(UserError, match="cannot be written"):
        sources.fetch("fashion_mnist")


# Downloads, from a server on this machine


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder whose files are served, and where Shakespeare is downloaded from."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever).start()
        origin = f"http://127.0.0.1:{running.server_port}/"
        monkeypatch.setitem(sources.TEXTS["shakespeare"], "origin", origin)
        monkeypatch.setenv("GENLIB_OFFLINE", "0")
        yield folder
        running.shutdown()


def test_what_is_downloaded_is_kept_byte_for_byte_and_nothing_is_said(
    server, small_shakespeare, capfd
):
    (server / "shakespeare.txt").write_bytes(small_shakespeare)
    path = sources.fetch("shakespeare")
    assert path == sources.find("shakespeare") == sources.CACHE / "shakespeare.txt"
    assert path.read_bytes() == small_shakespeare
    assert [file.name for file in sources.CACHE.iterdir()] == ["shakespeare.txt"]
    said = capfd.readouterr()
    assert not said.out and "shakespeare" in said.err and "pooch" not in said.err  # the server's


def test_a_download_of_another_content_is_one_sentence_and_leaves_nothing(
    server, small_shakespeare
):
    (server / "shakespeare.txt").write_bytes(small_shakespeare[:-1])
    with pytest.raises(
        sources.NotAtHand, match="what was downloaded is not what it should be; put"
    ):
        sources.fetch("shakespeare")
    assert not list(sources.CACHE.iterdir())


def test_a_file_that_the_server_lacks_is_one_sentence(server, small_shakespeare):
    with pytest.raises(sources.NotAtHand, match=r"the download failed \(.*404.*\); put"):
        sources.fetch("shakespeare")


def test_what_keras_has_downloaded_is_not_downloaded_again_unless_it_is_damaged(
    small_shakespeare, sockets, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    file = tmp_path / sources.TEXTS["shakespeare"]["folder"] / "shakespeare.txt"
    file.parent.mkdir()
    file.write_bytes(small_shakespeare)
    assert sources.fetch("shakespeare") == file and not sockets
    file.write_bytes(b"something else")
    with pytest.raises(sources.NotAtHand, match="GENLIB_OFFLINE=1 forbids"):
        sources.fetch("shakespeare")


# Hashes


def test_the_content_hash_does_not_depend_on_how_the_npz_was_packed(small_mnist, tmp_path):
    np.savez(tmp_path / "plain.npz", **small_mnist)
    np.savez_compressed(tmp_path / "packed.npz", **dict(reversed(small_mnist.items())))
    plain, packed = (tmp_path / f"{name}.npz" for name in ("plain", "packed"))
    assert plain.read_bytes() != packed.read_bytes()
    assert sources.verify("mnist", plain) == sources.verify("mnist", packed)


@pytest.mark.parametrize(
    "change",
    [lambda a: a + 1, lambda a: a[::-1], lambda a: a.reshape(3, 2), lambda a: a.astype("int8")],
    ids=["value", "order", "shape", "type"],
)
def test_the_content_hash_changes_with(change):
    array = np.arange(6, dtype="uint8").reshape(2, 3)
    assert sources.content_hash([array]) == sources.content_hash([array.copy(order="F")])
    assert sources.content_hash([array]) != sources.content_hash([change(array)])


def test_a_text_that_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"shakespeare\.txt cannot be read \(Is a directory\)"):
        (tmp_path / "shakespeare.txt").mkdir()
        sources.verify("shakespeare", tmp_path / "shakespeare.txt")
