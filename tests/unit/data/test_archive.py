"""What one machine exports another imports byte for byte; of a bad archive nothing is placed."""

import errno
import hashlib
import io
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from genlib import UserError
from genlib.data import archive, sources


def sha(content):
    return hashlib.sha256(content).hexdigest()


def npz(arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def note(arrays):
    """The note of arrays that pass for a dataset whose content the course does not know."""
    return (sources.content_hash(arrays[key] for key in sources.ARRAYS) + "\n").encode()


@pytest.fixture
def fashion():
    """Four small arrays that pass for Fashion-MNIST."""
    return {key: np.full(5, i, "uint8") for i, key in enumerate(sources.ARRAYS)}


@pytest.fixture
def exported(small_mnist, small_shakespeare, fashion, tmp_path, monkeypatch):
    """An archive of three datasets, {member: bytes}; we are on the machine that it goes to."""
    monkeypatch.setattr(sources, "CACHE", tmp_path / "teacher")
    sources.CACHE.mkdir()
    (sources.CACHE / "mnist.npz").write_bytes(npz(small_mnist))
    (sources.CACHE / "fashion_mnist.npz").write_bytes(npz(fashion))
    (sources.CACHE / "shakespeare.txt").write_bytes(small_shakespeare)
    file = tmp_path / "class.zip"
    archive.export(file)
    monkeypatch.setattr(sources, "CACHE", tmp_path / "pupil")
    with zipfile.ZipFile(file) as packed:
        return file, {name: packed.read(name) for name in packed.namelist()}


def rewrite(file, members, **options):
    with zipfile.ZipFile(file, "w", **options) as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def refused(file, why):
    """Assert that an import is refused for a reason in one sentence, and that nothing is left."""
    with pytest.raises(UserError, match=why) as caught:
        archive.unpack(file)
    told = str(caught.value)
    assert str(file) in told and told.endswith(".") and "\n" not in told and ". " not in told
    assert not list(sources.CACHE.glob("*")) and not list(file.parent.glob("*.part"))


# Export


def test_an_archive_holds_each_dataset_and_its_hash(exported, small_mnist):
    _, members = exported
    names = {"mnist.npz", "fashion_mnist.npz", "shakespeare.txt"}
    assert members.keys() == names | {f"{name.split('.')[0]}.sha256" for name in names}
    assert members["mnist.sha256"] == note(small_mnist)
    assert members["shakespeare.sha256"].decode().strip() == sha(members["shakespeare.txt"])


def test_export_packs_only_what_is_named_and_returns_the_sizes(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CACHE", tmp_path / "teacher")
    size = len(exported[1]["shakespeare.txt"])
    assert archive.export(tmp_path / "one.zip", ["shakespeare"]) == {"shakespeare": size}
    assert zipfile.ZipFile(tmp_path / "one.zip").namelist() == [
        "shakespeare.sha256",
        "shakespeare.txt",
    ]


@pytest.mark.parametrize(
    ("file", "names", "why"),
    [
        ("new.tar", (), r"'.*new.tar' must end in \.zip"),
        ("new.zip", ["cifar10"], "'cifar10' is not on this machine and so cannot be packed"),
        ("none/new.zip", (), r"none/new\.zip cannot be written \(No such file"),
        ("new.zip", ["damaged"], "does not hold the shakespeare that it should"),
        ("new.zip", ["nothing here"], "'mnist' is not on this machine and so cannot be packed"),
    ],
)
def test_export_refuses(exported, tmp_path, monkeypatch, file, names, why):
    monkeypatch.setattr(sources, "CACHE", tmp_path / "teacher")
    if names == ["damaged"]:
        (sources.CACHE / "shakespeare.txt").write_bytes(b"Bacon")
    if names == ["nothing here"]:
        shutil.rmtree(sources.CACHE)
    with pytest.raises(UserError, match=why):
        archive.export(tmp_path / file, [n for n in names if " " not in n and n != "damaged"])
    assert not list(tmp_path.rglob("new*"))


# Import


def test_an_import_gives_the_same_bytes_and_can_be_run_again(exported):
    file, members = exported
    for _ in range(2):
        assert set(archive.unpack(file)) == {"mnist", "fashion_mnist", "shakespeare"}
        assert {p.name: p.read_bytes() for p in sources.CACHE.iterdir()} == members
    for name in ("mnist", "fashion_mnist", "shakespeare"):
        sources.verify(name, sources.find(name))


def test_a_damaged_dataset_is_replaced(exported):
    sources.CACHE.mkdir()
    (sources.CACHE / "mnist.npz").write_bytes(b"half a download")
    archive.unpack(exported[0])
    assert (sources.CACHE / "mnist.npz").read_bytes() == exported[1]["mnist.npz"]


@pytest.mark.parametrize(
    "name",
    [
        *("../mnist.npz", "/etc/x", "..", "C:/x", "C:mnist.npz", "x\\mnist.npz", "deep/mnist.npz"),
        *("mnist.npz/", ".hidden", "mnist.npz\n", "evil.npz", "digits.npz", "digits.sha256"),
        *("evil.py", "cifar10.npz", "cifar10.sha256", "manifest.json"),
    ],
)
def test_what_is_no_file_of_a_whole_dataset_of_the_course_is_refused(exported, name):
    file, members = exported
    rewrite(file, members | {name: b"x"})
    refused(file, "it holds other files than whole datasets of the course")


def test_a_hash_without_its_dataset_a_dataset_without_its_hash_and_nothing_are_refused(exported):
    file, members = exported
    for kept in ({"fashion_mnist.sha256"}, {"fashion_mnist.npz"}, set()):
        rewrite(file, {name: content for name, content in members.items() if name in kept})
        refused(file, "it holds other files than whole datasets of the course")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(exported):
    with zipfile.ZipFile(exported[0], "a") as packed:
        packed.writestr("mnist.npz", exported[1]["mnist.npz"])
    refused(exported[0], "it holds other files")


def test_a_link_is_a_file_of_other_content(exported):
    file, members = exported
    rewrite(file, {name: c for name, c in members.items() if name != "shakespeare.txt"})
    with zipfile.ZipFile(file, "a") as packed:
        info = zipfile.ZipInfo("shakespeare.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    refused(file, "its shakespeare is not the one that the course knows")


class Evil:
    """Would end the tests where it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def claim():
    """An .npz whose array claims more than any memory holds."""
    header, content = io.BytesIO(), io.BytesIO()
    claimed = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(header, claimed)
    with zipfile.ZipFile(content, "w") as arrays:
        arrays.writestr("x_train.npy", header.getvalue())
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mnist.npz", lambda m: npz({key: np.ones(3) for key in sources.ARRAYS})),
        ("fashion_mnist.npz", lambda m: m["mnist.npz"]),
        ("fashion_mnist.npz", lambda m: claim()),
        ("fashion_mnist.npz", lambda m: npz({"x_train": np.array([Evil()], object)})),
        ("fashion_mnist.sha256", lambda m: b"\xff\xfe"),
        ("shakespeare.txt", lambda m: b"Bacon"),
    ],
    ids=["altered", "another", "claims", "pickle", "binary note", "text"],
)
def test_a_dataset_of_other_content_is_refused(exported, name, content):
    file, members = exported
    rewrite(file, members | {name: content(members)})
    refused(file, f"its {name.split('.')[0]} is not the one that the course knows")


def test_unusual_compression_and_encryption_are_refused(exported):
    file, members = exported
    rewrite(file, members, compression=zipfile.ZIP_LZMA)
    refused(file, "packed in an unusual way")
    rewrite(file, members)
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1  # the flag of encryption
    file.write_bytes(content)
    refused(file, "encrypted")


def test_a_bomb_is_refused_before_it_is_unpacked(exported, monkeypatch):
    file, members = exported
    monkeypatch.setattr(archive, "MOST", 10_000_000)
    deflated = {"compression": zipfile.ZIP_DEFLATED}
    rewrite(file, members | {"shakespeare.txt": bytes(20_000_000)}, **deflated)
    refused(file, "more than 10,000,000 bytes")
    inner = io.BytesIO()
    np.savez_compressed(inner, x_train=np.zeros(20_000_000, "uint8"))
    rewrite(file, members | {"fashion_mnist.npz": inner.getvalue()})
    refused(file, "more than 10,000,000 bytes")


def test_a_bomb_that_declares_little_is_not_unpacked_further(exported, monkeypatch):
    file, members = exported
    rewrite(file, {name: c for name, c in members.items() if name != "shakespeare.txt"})
    with zipfile.ZipFile(file, "a") as packed:
        packed.writestr("shakespeare.txt", bytes(20_000_000), zipfile.ZIP_DEFLATED)
        packed.infolist()[-1].file_size = 1000  # goes into the list at the archive's end
    wrote, copy = [], shutil.copyfileobj

    def watched(source, target):
        try:
            copy(source, target)
        finally:
            wrote.append(target.tell())

    monkeypatch.setattr(shutil, "copyfileobj", watched)
    refused(file, "Bad CRC-32")
    assert max(wrote) < 100_000


def test_what_is_no_zip_or_not_there_is_refused(exported, tmp_path):
    refused(tmp_path / "other.zip", r"cannot be imported \(No such file")
    for content in (b"", b"no zip", b"PK\3\4" + bytes(100)):
        exported[0].write_bytes(content)
        refused(exported[0], "cannot be imported .*not a zip file.*, so nothing was")
    refused(tmp_path, "cannot be imported")


def test_a_truncated_or_flipped_archive_is_refused_or_right(exported):
    """Cut at 20 places and flipped at 150: refused in one sentence, or imported byte for byte."""
    file, members = exported
    content, rng = file.read_bytes(), np.random.default_rng(0)
    for at in np.linspace(0, len(content) - 1, 20, dtype=int):
        file.write_bytes(content[:at])
        refused(file, "so nothing was")
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        directory = packed.start_dir  # a small part of the whole; half of the flips hit it
    places = [*rng.integers(0, len(content), 75), *rng.integers(directory, len(content), 75)]
    outcomes = []
    for at in places:
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            archive.unpack(file)
        except UserError as error:
            assert "so nothing was" in str(error) and not list(sources.CACHE.glob("*"))
            outcomes.append("refused")
        else:
            for path in sources.CACHE.iterdir():
                assert path.read_bytes() == members[path.name]
                path.unlink()
            outcomes.append("right")
    assert outcomes.count("refused") > 100


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_disk_that_fails_leaves_whole_files_and_the_import_can_be_run_again(
    exported, monkeypatch, after
):
    file, members = exported
    moved, move = [], Path.replace

    def fails(source, target):
        if len(moved) == after:
            raise OSError(errno.EIO, "Input/output error")
        moved.append(move(source, target))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fails)
        with pytest.raises(UserError, match=r"cannot be written \(Input/output error\)"):
            archive.unpack(file)
    there = list(sources.CACHE.iterdir())
    assert len(there) == after and all(p.read_bytes() == members[p.name] for p in there)
    assert len(archive.unpack(file)) == 3 and len(list(sources.CACHE.iterdir())) == 6


def test_a_disk_that_fills_while_unpacking_leaves_nothing(exported, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    refused(exported[0], "cannot be imported .No space left")


def test_a_place_that_cannot_be_a_folder_is_told(exported):
    sources.CACHE.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"pupil cannot be written \(File exists"):
        archive.unpack(exported[0])
