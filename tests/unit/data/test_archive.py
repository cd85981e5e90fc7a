"""What one machine exports another imports byte for byte; of a bad archive nothing is placed."""

import errno
import hashlib
import io
import json
import shutil
import stat
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from genlib import UserError
from genlib.data import archive, checkpoints, sources

WEIGHTS = {"gan_toy": b"\x89HDF gan" * 50, "vae_toy": b"\x89HDF vae" * 40}
GAN = "checkpoints/gan_toy.weights.h5"


def sha(content):
    return hashlib.sha256(content).hexdigest()


def listing(*folders):
    """{path: SHA-256} of every file below some folders."""
    return {p: sha(p.read_bytes()) for f in folders for p in f.rglob("*") if p.is_file()}


def ship(folder, weights):
    """Write checkpoints and their manifest into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in weights.items():
        (folder / f"{name}.weights.h5").write_bytes(content)
    lines = {name: {"sha256": sha(content)} for name, content in weights.items()}
    (folder / "manifest.json").write_text(json.dumps(lines))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Move to the machine of that name: a cache of its own, and a clone with its checkpoints."""

    def move(name, weights=WEIGHTS):
        monkeypatch.setattr(sources, "CACHE", tmp_path / name / "cache")
        monkeypatch.setattr(checkpoints, "FOLDER", tmp_path / name / "checkpoints")
        if not checkpoints.FOLDER.exists():
            ship(checkpoints.FOLDER, weights)

    return move


@pytest.fixture
def fashion():
    """Four small arrays that pass for Fashion-MNIST, whose content the course does not know."""
    return {key: np.full(5, i, "uint8") for i, key in enumerate(sources.ARRAYS)}


@pytest.fixture
def exported(machine, small_mnist, small_shakespeare, fashion, tmp_path):
    """An archive of three datasets and two checkpoints, {member: bytes}; we are where it goes."""
    machine("teacher")
    sources.CACHE.mkdir(parents=True)
    np.savez_compressed(sources.CACHE / "mnist.npz", **small_mnist)
    np.savez_compressed(sources.CACHE / "fashion_mnist.npz", **fashion)
    (sources.CACHE / "shakespeare.txt").write_bytes(small_shakespeare)
    file = tmp_path / "class.zip"
    archive.export(file)
    machine("pupil")
    with zipfile.ZipFile(file) as packed:
        return file, {name: packed.read(name) for name in packed.namelist()}


def rewrite(file, members, list_them=True, schema=1):
    """Write an archive of {name: bytes}; unless ``list_them`` is False, a manifest that fits it."""
    members = dict(members)
    if list_them:
        del members["manifest.json"]
        lines = {n: {"sha256": sha(c), "bytes": len(c)} for n, c in members.items()}
        members["manifest.json"] = json.dumps({"schema": schema, "files": lines}).encode()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def refused(file, why):
    """Assert that an import is refused for a reason in one sentence, and that nothing changed."""
    folders = sources.CACHE, checkpoints.FOLDER, file.parent
    before = listing(*folders)
    with pytest.raises(UserError, match=why) as caught:
        archive.unpack(file)
    told = str(caught.value)
    assert str(file) in told and told.endswith(".") and "\n" not in told and ". " not in told
    assert listing(*folders) == before
    assert not list(sources.CACHE.glob("*"))  # no folder is left either


def npz(arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


# Export


def test_the_manifest_stands_first_and_holds_size_and_hash_of_all_others(exported):
    _, members = exported
    manifest = json.loads(members["manifest.json"])
    assert next(iter(members)) == "manifest.json" and manifest["schema"] == 1
    others = {name: c for name, c in members.items() if name != "manifest.json"}
    assert manifest["files"] == {n: {"sha256": sha(c), "bytes": len(c)} for n, c in others.items()}
    names = {"mnist.npz", "mnist.sha256", "fashion_mnist.npz", "fashion_mnist.sha256"}
    assert {n.split("/")[1] for n in others if n.startswith("datasets/")} == {
        *names,
        "shakespeare.txt",
    }
    assert {n.split("/")[1] for n in others if n.startswith("checkpoints/")} == {
        *(f"{name}.weights.h5" for name in WEIGHTS),
        "manifest.json",
    }


def test_export_returns_the_sizes_and_packs_only_what_is_named(machine, exported, tmp_path):
    machine("teacher")
    sizes = archive.export(tmp_path / "one.zip", ["shakespeare"])
    assert sizes["datasets/shakespeare.txt"] == len(exported[1]["datasets/shakespeare.txt"])
    assert {name for name in sizes if name.startswith("datasets/")} == {"datasets/shakespeare.txt"}
    assert sizes[GAN] == len(WEIGHTS["gan_toy"])


def test_equal_files_give_an_equal_archive_and_packed_ones_are_not_packed_again(machine, exported):
    machine("teacher")
    before = exported[0].read_bytes()
    archive.export(exported[0])
    assert exported[0].read_bytes() == before
    with zipfile.ZipFile(exported[0]) as packed:
        methods = {i.filename.rpartition(".")[2]: i.compress_type for i in packed.infolist()}
    assert methods["npz"] == methods["h5"] == zipfile.ZIP_STORED
    assert methods["txt"] == methods["json"] == zipfile.ZIP_DEFLATED


def test_export_leaves_stray_files_among_the_checkpoints_alone(machine, tmp_path):
    machine("teacher")
    (checkpoints.FOLDER / ".DS_Store").touch()
    assert not any("DS_Store" in name for name in archive.export(tmp_path / "class.zip"))


@pytest.mark.parametrize(
    ("file", "names", "why"),
    [
        ("class.tar", (), r"'.*class.tar' must end in \.zip"),
        ("class.zip", ["cifar10"], "'cifar10' is not on this machine and so cannot be packed"),
        ("class.zip", ["mnits"], "dataset='mnits' does not exist; .* mean 'mnist'"),
        ("none/class.zip", (), r"none/class\.zip cannot be written \(No such file"),
    ],
)
def test_export_refuses(machine, tmp_path, file, names, why):
    machine("teacher")
    before = listing(tmp_path)
    with pytest.raises(UserError, match=why):
        archive.export(tmp_path / file, names)
    assert listing(tmp_path) == before


def test_export_refuses_what_is_not_intact(machine, exported, tmp_path, monkeypatch):
    machine("teacher")
    (sources.CACHE / "shakespeare.txt").write_bytes(b"Bacon")
    with pytest.raises(UserError, match="does not hold the shakespeare"):
        archive.export(tmp_path / "new.zip")
    (sources.CACHE / "shakespeare.txt").unlink()
    (sources.CACHE / "fashion_mnist.sha256").write_text("0" * 64)
    with pytest.raises(UserError, match="does not hold the fashion_mnist"):
        archive.export(tmp_path / "new.zip")
    (sources.CACHE / "fashion_mnist.sha256").unlink()
    (checkpoints.FOLDER / "gan_toy.weights.h5").write_bytes(b"other")
    with pytest.raises(UserError, match=r"gan_toy\.weights\.h5 is damaged"):
        archive.export(tmp_path / "new.zip")
    (checkpoints.FOLDER / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is missing or damaged"):
        archive.export(tmp_path / "new.zip")
    monkeypatch.setattr(sources, "verify", lambda *_: exec("raise PermissionError(13, 'denied')"))
    with pytest.raises(UserError, match=r"cannot be read \(.*denied"):
        archive.export(tmp_path / "new.zip")
    assert not list(tmp_path.glob("new*"))


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("trouble", [full, lambda *_: exec("raise KeyboardInterrupt")])
def test_an_export_that_fails_leaves_the_old_archive_and_nothing_else(
    machine, exported, monkeypatch, trouble
):
    machine("teacher")
    (sources.CACHE / "mnist.npz").unlink()  # so the new archive would differ
    before = listing(exported[0].parent)
    monkeypatch.setattr(shutil, "copyfileobj", trouble)
    with pytest.raises((UserError, KeyboardInterrupt)) as caught:
        archive.export(exported[0])
    assert caught.type is KeyboardInterrupt or "No space left" in str(caught.value)
    assert listing(exported[0].parent) == before


# Import


def test_an_import_gives_the_same_bytes_and_a_second_one_finds_them(exported, small_mnist):
    file, members = exported
    (checkpoints.FOLDER / "gan_toy.weights.h5").unlink()
    (checkpoints.FOLDER / "vae_toy.weights.h5").write_bytes(b"damaged")
    manifest = checkpoints.FOLDER / "manifest.json"
    manifest.write_text(manifest.read_text() + "\r\n")  # as git on Windows may have done
    mine = manifest.read_bytes()
    done = archive.unpack(file)
    assert done[GAN] == done["datasets/mnist.npz"] == "imported"
    assert done["checkpoints/vae_toy.weights.h5"] == "replaced"
    assert done["checkpoints/manifest.json"] == "already here" and manifest.read_bytes() == mine
    assert done.keys() == members.keys() - {"manifest.json"}
    for name in done.keys() - {"checkpoints/manifest.json"}:
        folder = sources.CACHE if name.startswith("datasets/") else checkpoints.FOLDER
        assert (folder / name.split("/")[1]).read_bytes() == members[name]
    assert len(list(sources.CACHE.iterdir())) == 5 and len(list(manifest.parent.iterdir())) == 3
    before = listing(sources.CACHE, checkpoints.FOLDER)
    assert set(archive.unpack(file).values()) == {"already here"}
    assert listing(sources.CACHE, checkpoints.FOLDER) == before
    assert all(well for _, well in archive.verify())


def test_a_dataset_that_differs_is_replaced(exported):
    sources.CACHE.mkdir()
    (sources.CACHE / "mnist.npz").write_bytes(b"half a download")
    assert archive.unpack(exported[0])["datasets/mnist.npz"] == "replaced"
    assert (sources.CACHE / "mnist.npz").read_bytes() == exported[1]["datasets/mnist.npz"]


def test_notes_come_before_their_arrays_and_the_manifest_comes_last(exported):
    shutil.rmtree(checkpoints.FOLDER)  # a clone that lost its checkpoints takes the archive's
    done = archive.unpack(exported[0])
    order = list(done)
    assert set(done.values()) == {"imported"} and order[-1] == "checkpoints/manifest.json"
    assert order.index("datasets/mnist.sha256") < order.index("datasets/mnist.npz")
    assert checkpoints.path("gan_toy").read_bytes() == WEIGHTS["gan_toy"]


def test_checkpoints_of_another_version_are_refused(machine, exported):
    machine("newer", WEIGHTS | {"gan_toy": b"trained anew"})
    refused(exported[0], r"another version of the course \(gan_toy\.weights\.h5 differs\)")
    machine("older", {"vae_toy": WEIGHTS["vae_toy"]})
    refused(exported[0], r"another version of the course \(gan_toy\.weights\.h5 differs\)")
    machine("lost", {})
    shutil.rmtree(checkpoints.FOLDER)
    file, members = exported
    rewrite(file, members | {GAN: b"not what its list of checkpoints says"})
    refused(file, "another version of the course")


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "/etc/x", "datasets/../../x", "datasets/..", "C:/x", "datasets/C:x.npz"),
        *("datasets\\mnist.npz", "datasets/deep/mnist.npz", "other/mnist.npz", "mnist.npz"),
        *("datasets/", "datasets/.hidden", "datasets/a\nb.npz", "checkpoints/x.weights.h5\n"),
    ],
)
def test_a_name_that_is_no_plain_file_of_the_course_is_refused(exported, name):
    file, members = exported
    rewrite(file, members | {name: b"x"})
    refused(file, "is no plain file of the course")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("datasets/evil.npz", r"holds datasets/evil\.npz, no whole dataset that the course knows"),
        ("datasets/digits.npz", "no whole dataset that the course knows"),
        ("datasets/cifar10.npz", "no whole dataset"),  # its note is missing
        ("datasets/cifar10.sha256", "no whole dataset"),
        ("checkpoints/evil.weights.h5", "another version of the course"),
        ("checkpoints/evil.py", "another version of the course"),
    ],
)
def test_an_unknown_file_is_refused_even_if_the_manifest_lists_it(exported, name, why):
    file, members = exported
    rewrite(file, members | {name: b"x"})
    refused(file, why)


def test_members_and_manifest_must_agree(exported):
    file, members = exported
    rewrite(file, members | {"datasets/extra.npz": b"x"}, list_them=False)
    refused(file, "'datasets/extra.npz' that its manifest.json does not list so")
    rewrite(file, {n: c for n, c in members.items() if n != GAN}, list_them=False)
    refused(file, "gan_toy.* does not list so")
    rewrite(file, members | {GAN: members[GAN] + b"x"}, list_them=False)
    refused(file, "gan_toy.* does not list so")
    rewrite(file, members | {GAN: b"X" + members[GAN][1:]}, list_them=False)
    refused(file, "holds a damaged checkpoints/gan_toy")
    rewrite(file, {n: c for n, c in members.items() if n != "manifest.json"}, list_them=False)
    refused(file, "has no manifest.json")
    rewrite(file, members, schema=2)
    refused(file, "has schema '2', and this course reads 1")
    broken = (b"", b"[]", b'{"schema": 1}', b'{"schema": 1, "files": [1]}', b"\xff", b"[" * 99999)
    for content in (*broken, b'{"schema": 1, "files": {"x": 1}}'):
        rewrite(file, members | {"manifest.json": content}, list_them=False)
        refused(file, "has a manifest.json that cannot be read")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(exported):
    with zipfile.ZipFile(exported[0], "a") as packed:
        packed.writestr(GAN, WEIGHTS["gan_toy"])
    refused(exported[0], "two members of one name")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_a_link_a_folder_and_a_pipe_are_refused(exported, kind):
    file, members = exported
    target = members.pop(GAN)
    rewrite(file, members, list_them=False)
    with zipfile.ZipFile(file, "a") as packed:
        info = zipfile.ZipInfo(GAN)
        info.external_attr = (kind | 0o777) << 16
        packed.writestr(info, target)
    refused(file, "is no plain file of the course")


def test_unusual_compression_and_encryption_are_refused(exported):
    file, members = exported
    rewrite(file, {n: c for n, c in members.items() if n != GAN}, list_them=False)
    with zipfile.ZipFile(file, "a") as packed:
        packed.writestr(GAN, members[GAN], zipfile.ZIP_LZMA)
    refused(file, "is no plain file of the course")
    rewrite(file, members, list_them=False)
    content = file.read_bytes()
    at = content.rindex(b"PK\1\2", 0, content.rindex(GAN.encode()))
    file.write_bytes(content[: at + 8] + b"\1" + content[at + 9 :])  # the flag of encryption
    refused(file, "holds a damaged checkpoints/gan_toy")


def test_an_altered_dataset_is_refused_though_all_hashes_in_the_archive_fit(
    exported, small_mnist, fashion
):
    file, members = exported
    small_mnist["x_train"] = 255 - small_mnist["x_train"]
    rewrite(file, members | {"datasets/mnist.npz": npz(small_mnist)})
    refused(file, "a dataset mnist that is not the one the course knows")
    rewrite(file, members | {"datasets/fashion_mnist.npz": npz(fashion | {"x_test": np.ones(3)})})
    refused(file, "a dataset fashion_mnist that is not")
    rewrite(file, members | {"datasets/fashion_mnist.sha256": b"\xff\xfe"})
    refused(file, "a dataset fashion_mnist that is not")
    rewrite(file, members | {"datasets/shakespeare.txt": b"Bacon"})
    refused(file, "a dataset shakespeare that is not")
    rewrite(file, members | {"datasets/mnist.npz": b"no zip"})
    refused(file, "a dataset mnist that is not")


def test_nothing_is_unpickled(exported):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('unpickled')",))

    file, members = exported
    arrays = npz({"x_train": np.array([Evil()], object)})
    rewrite(file, members | {"datasets/fashion_mnist.npz": arrays})
    refused(file, "a dataset fashion_mnist that is not")


def test_arrays_that_claim_more_than_any_memory_are_refused(exported):
    header, content = io.BytesIO(), io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(content, "w") as arrays:
        arrays.writestr("x_train.npy", header.getvalue())
    rewrite(exported[0], exported[1] | {"datasets/fashion_mnist.npz": content.getvalue()})
    refused(exported[0], "a dataset fashion_mnist that is not")


def bomb(file, members, declared):
    """Replace a checkpoint by 20 MB of zeros of which the zip's own lists declare less."""
    zeros, line = bytes(20_000_000), {"sha256": sha(b"\0"), "bytes": declared}
    lines = json.loads(members["manifest.json"])
    lines["files"][GAN] = line
    rest = members | {"manifest.json": json.dumps(lines).encode()}
    rewrite(file, {n: c for n, c in rest.items() if n != GAN}, list_them=False)
    with zipfile.ZipFile(file, "a") as packed:
        packed.writestr(GAN, zeros, zipfile.ZIP_DEFLATED)
        packed.infolist()[-1].file_size = declared  # goes into the list at the archive's end
    return file


def test_a_bomb_that_declares_little_is_not_unpacked_further(exported, monkeypatch):
    file = bomb(*exported, declared=1000)
    wrote = []
    pieces = archive._pieces
    monkeypatch.setattr(
        archive, "_pieces", lambda *a: (wrote.append(len(p)) or p for p in pieces(*a))
    )
    refused(file, "holds a damaged checkpoints/gan_toy")
    assert max(wrote) < 100_000


def test_a_bomb_that_declares_much_is_refused_before_it_is_unpacked(exported, monkeypatch):
    file = bomb(*exported, declared=20_000_000)
    monkeypatch.setattr(archive, "MOST", 10_000_000)
    refused(file, "gan_toy.* of 20,000,000 bytes")
    rewrite(file, exported[1] | {"manifest.json": b" " * 2_000_000}, list_them=False)
    refused(file, r"manifest\.json of 2,000,000 bytes \(1,048,576 at most\)")


def test_a_bomb_within_a_dataset_is_refused_before_numpy_unpacks_it(exported, monkeypatch):
    file, members = exported
    content = io.BytesIO()
    np.savez_compressed(content, x_train=np.zeros(20_000_000, "uint8"))
    rewrite(file, members | {"datasets/fashion_mnist.npz": content.getvalue()})
    monkeypatch.setattr(archive, "MOST", 10_000_000)
    verify = sources.verify
    monkeypatch.setattr(
        sources, "verify", lambda name, path: name != "fashion_mnist" and verify(name, path)
    )
    refused(file, "a dataset fashion_mnist that is not")


def test_an_archive_larger_than_the_free_space_is_refused(exported, monkeypatch):
    free = namedtuple("usage", "free")(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    refused(exported[0], "unpacks to .* bytes, and .*cache has 1,000 free")


def test_what_is_no_zip_or_not_there_is_refused(exported, tmp_path):
    file = tmp_path / "other.zip"
    refused(file, r"cannot be read as a zip archive \(No such file")
    for content in (b"", b"no zip", b"PK\3\4" + bytes(100)):
        file.write_bytes(content)
        refused(file, "cannot be read as a zip archive, so nothing was imported")
    (tmp_path / "folder.zip").mkdir()
    refused(tmp_path / "folder.zip", "cannot be read as a zip archive")


def test_a_truncated_or_flipped_archive_is_refused_or_right(exported):
    """Cut at 40 places and flipped at 300: refused in one sentence, or imported byte for byte."""
    file, members = exported
    content, rng = file.read_bytes(), np.random.default_rng(0)
    for at in np.linspace(0, len(content) - 1, 40, dtype=int):
        file.write_bytes(content[:at])
        refused(file, "so nothing was imported")
    # Half of the flips hit the directory at the end, a small part of the whole.
    directory = content.index(b"PK\1\2")
    places = [*rng.integers(0, len(content), 150), *rng.integers(directory, len(content), 150)]
    outcomes = []
    for at in places:
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            archive.unpack(file)
        except UserError as error:
            assert "so nothing was imported" in str(error)
            assert not list(sources.CACHE.glob("*"))
            outcomes.append("refused")
        else:
            for path in sources.CACHE.iterdir():
                assert path.read_bytes() == members[f"datasets/{path.name}"]
                path.unlink()
            outcomes.append("right")
    assert outcomes.count("refused") > 200


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_disk_that_fills_leaves_whole_files_and_the_import_can_be_run_again(
    exported, monkeypatch, after
):
    file, members = exported
    moved, move = [], shutil.move

    def fills(source, part):
        if len(moved) == after:
            part.write_bytes(b"half")
            full()
        moved.append(move(source, part))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "move", fills)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make"):
            archive.unpack(file)
    there = list(sources.CACHE.iterdir())
    assert len(there) == after
    assert all(path.read_bytes() == members[f"datasets/{path.name}"] for path in there)
    assert list(archive.unpack(file).values()).count("imported") == 5 - after


def test_a_disk_that_fills_while_unpacking_leaves_nothing(exported, monkeypatch):
    monkeypatch.setattr(archive, "_stage", full)
    with pytest.raises(UserError, match=r"cache cannot be written \(No space left"):
        archive.unpack(exported[0])
    assert not list(sources.CACHE.iterdir())


def test_a_place_that_cannot_be_a_folder_is_told(exported):
    sources.CACHE.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cache cannot be written \(File exists"):
        archive.unpack(exported[0])


# Verify


def test_verify_tells_every_problem(exported):
    archive.unpack(exported[0])
    (sources.CACHE / "shakespeare.txt").write_bytes(b"Bacon")
    (sources.CACHE / "mnist.npz").write_bytes(b"half")
    (checkpoints.FOLDER / "gan_toy.weights.h5").unlink()
    (checkpoints.FOLDER / "vae_toy.weights.h5").write_bytes(b"x")
    lines = list(archive.verify())
    assert [well for _, well in lines] == [False, True, True, False, False, False]
    assert "not a whole .npz" in lines[0][0] and lines[2][0] == "cifar10: not on this machine"
    assert "gan_toy.weights.h5 is missing" in lines[4][0] and "damaged" in lines[5][0]
    assert [well for _, well in archive.verify(["fashion_mnist"])] == [True]
    (checkpoints.FOLDER / "manifest.json").unlink()
    assert "manifest.json is missing or damaged" in list(archive.verify())[-1][0]
