"""One zip that takes a class's datasets and checkpoints to machines without a network.

Nothing is placed before the whole archive is verified, no file is half-written, nothing is
unpickled, and every file's name is one of the course's own.
"""

import contextlib
import hashlib
import io
import json
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

from genlib import UserError, check_choice
from genlib.data import checkpoints, sources

SCHEMA = 1
MOST = 2**30  # bytes; no file of the course unpacks to more (CIFAR-10, the largest, to 184 MB)
MOST_NOTE = 2**20  # bytes of a list or of a hash
MEMBER = re.compile(r"manifest\.json|(datasets|checkpoints)/\w+(\.[a-z0-9]+)+", re.ASCII)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNREADABLE = (*sources.UNREADABLE, struct.error, MemoryError)


def known():
    """The names of the datasets that are files."""
    return [name for name, line in (sources.DATASETS | sources.TEXTS).items() if "files" in line]


def verify(names=()):
    """Check the named datasets, or all that are here and every shipped checkpoint.

    Yields (a line to print, whether all is well) for each.
    """
    for name in names or known():
        try:
            path = sources.find(name)
            found = f"{sources.verify(name, path)}  {path}" if path else "not on this machine"
            yield f"{name}: {found}", True
        except UNREADABLE as error:
            yield f"{name}: {error}", False
    shipped = {} if names else _shipped(checkpoints.FOLDER)
    if not names and not shipped:
        yield str(_no_manifest()), False
    for file, sha256 in shipped.items():
        try:
            path = checkpoints.path(file.removesuffix(".weights.h5"))
            yield f"{file}: {sha256}  {path}", True
        except UNREADABLE as error:
            yield f"{file}: {error}", False


def export(file, names=()):
    """Pack the named datasets, or all that are here, and every shipped checkpoint into ``file``.

    Returns {name in the archive: bytes}. Raises ``UserError`` for a file that does not end in .zip,
    a dataset that is unknown, not here or altered, a checkpoint that is not intact, and a place
    that cannot be written. A file of that name is replaced by a whole archive only.
    """
    file, members = Path(file), {}
    if file.suffix.lower() != ".zip":
        raise UserError(f"the archive {str(file)!r} must end in .zip, such as course.zip.")
    try:
        for name in names or known():
            check_choice("dataset", name, known())
            if path := sources.find(name):
                digest = sources.verify(name, path)
                for inside in _files(name):
                    note = inside.endswith(".sha256")
                    members[f"datasets/{inside}"] = f"{digest}\n".encode() if note else path
            elif names:
                raise sources.NotAtHand(name, "so cannot be packed")
        if not (shipped := _shipped(checkpoints.FOLDER)):
            raise _no_manifest()
        for inside in shipped:
            members[f"checkpoints/{inside}"] = checkpoints.path(inside.removesuffix(".weights.h5"))
        members["checkpoints/manifest.json"] = checkpoints.FOLDER / "manifest.json"
        facts = {inside: _facts(source) for inside, source in members.items()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"a file to pack cannot be read ({error}); repair or remove it.") from None
    manifest = json.dumps({"schema": SCHEMA, "files": facts}, indent=1).encode()
    with _whole(file) as part, zipfile.ZipFile(part, "w") as archive:
        for inside, source in ({"manifest.json": manifest} | members).items():
            info = zipfile.ZipInfo(inside)  # dated 1980: the same files give the same archive
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if not inside.endswith((".npz", ".h5")):  # those would hardly become smaller
                info.compress_type = zipfile.ZIP_DEFLATED
            with _opened(source) as content, archive.open(info, "w") as member:
                shutil.copyfileobj(content, member)
    return {inside: line["bytes"] for inside, line in facts.items()}


def unpack(file):
    """Place an archive's datasets in ``data/cache`` and its checkpoints in ``data/checkpoints``.

    Returns {name in the archive: "imported", "replaced" or "already here"}. Raises ``UserError``
    for an archive that is not whole, holds anything else, or comes from another version of the
    course (then nothing is placed), and for a folder that cannot be written.
    """
    with _reading(file, "cannot be read as a zip archive"):
        archive = zipfile.ZipFile(file)
    with archive, _writing(sources.CACHE):
        members = _members(file, archive)
        sources.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="import-", dir=sources.CACHE) as stage:
            _stage(file, archive, members, Path(stage))
            _check(file, members, Path(stage))
            # Notes before their arrays, and the checkpoints' manifest at the end.
            order = sorted(
                members, key=lambda n: (n.endswith(".json"), not n.endswith(".sha256"), n)
            )
            return {name: _place(Path(stage, name), members[name]["sha256"]) for name in order}


def _members(file, archive):
    """The archive's own manifest, {name: {"sha256", "bytes"}}, once it is known that the members
    are the plain files that it lists, of the sizes that it lists."""
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) < len(archive.infolist()):
        raise _refused(file, "holds two members of one name")
    for name, info in infos.items():
        plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        if not (plain and MEMBER.fullmatch(name) and info.compress_type in METHODS):
            raise _refused(file, f"holds {name[:80]!r}, which is no plain file of the course")
        most = MOST_NOTE if name.endswith((".json", ".sha256")) else MOST
        if info.file_size > most:
            raise _refused(file, f"holds {name} of {info.file_size:,} bytes ({most:,} at most)")
    if "manifest.json" not in infos:
        raise _refused(file, "has no manifest.json")
    content = b"".join(_pieces(file, archive, "manifest.json"))
    try:
        manifest = json.loads(content)
        schema = manifest["schema"]
        files = manifest["files"] if schema == SCHEMA else {}
        sizes = {name: line["bytes"] for name, line in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _refused(file, "has a manifest.json that cannot be read") from None
    if schema != SCHEMA:
        raise _refused(file, f"has schema {str(schema)[:20]!r}, and this course reads {SCHEMA}")
    found = {name: info.file_size for name, info in infos.items() if name != "manifest.json"}
    for name in sorted(sizes.keys() | found.keys()):
        if name not in sizes or name not in found or sizes[name] != found[name]:
            raise _refused(file, f"holds a {name[:80]!r} that its manifest.json does not list so")
    return files


def _stage(file, archive, members, stage):
    """Unpack the members into the folder ``stage``, each checked by its SHA-256."""
    needed, free = sum(line["bytes"] for line in members.values()), shutil.disk_usage(stage).free
    if needed > free:
        raise UserError(
            f"{file} unpacks to {needed:,} bytes, and {sources.CACHE} has {free:,} free; free some "
            "space and import it again."
        )
    for name, line in members.items():
        (stage / name).parent.mkdir(exist_ok=True)
        with (stage / name).open("wb") as staged:
            staged.writelines(_pieces(file, archive, name))
        if _facts(stage / name) != line:
            raise _refused(file, f"holds a damaged {name}")


def _check(file, members, stage):
    """Refuse staged files that are not whole datasets, or not this clone's checkpoints."""
    left = {name for name in members if name.startswith("datasets/")}
    for name in known():
        files = [f"datasets/{inside}" for inside in _files(name)]
        if left.issuperset(files):
            left.difference_update(files)
            with _reading(file, f"holds a dataset {name} that is not the one the course knows"):
                if zipfile.is_zipfile(path := stage / files[-1]):  # arrays: a zip in the zip
                    with zipfile.ZipFile(path) as arrays:
                        if sum(info.file_size for info in arrays.infolist()) > MOST:
                            raise zipfile.BadZipFile
                sources.verify(name, path)
    if left:
        raise _refused(file, f"holds {min(left)}, no whole dataset that the course knows")
    # A clone that has lost its list of checkpoints takes the archive's.
    shipped = _shipped(checkpoints.FOLDER) or _shipped(stage / "checkpoints")
    for name in members:
        folder, inside = name.split("/")
        ours = folder == "datasets" or inside == "manifest.json"
        if not ours and shipped.get(inside) != members[name]["sha256"]:
            raise _refused(file, f"comes from another version of the course ({inside} differs)")


def _place(staged, sha256):
    """Move a verified file to where it belongs, unless it is there. Returns what was done."""
    folder = {"datasets": sources.CACHE, "checkpoints": checkpoints.FOLDER}[staged.parent.name]
    path = folder / staged.name
    here = path.is_file()
    # This clone's list of checkpoints stays: git on Windows may have changed its line ends.
    ours = staged.name == "manifest.json" and _shipped(folder)
    if here and (ours or _facts(path)["sha256"] == sha256):
        return "already here"
    with _whole(path) as part:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(staged, part)
    return "replaced" if here else "imported"


def _files(name):
    """The files of a dataset: a text, or arrays after the note of their hash."""
    return [f"{name}.txt"] if name in sources.TEXTS else [f"{name}.sha256", f"{name}.npz"]


def _shipped(folder):
    """{file: SHA-256} of a folder's checkpoints by its manifest; {} where that cannot be read."""
    try:
        lines = json.loads((folder / "manifest.json").read_bytes())
        return {f"{name}.weights.h5": line["sha256"] for name, line in lines.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _opened(source):
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _facts(source):
    """SHA-256 and size of bytes or of a file, which may be larger than the memory."""
    with _opened(source) as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return {"sha256": digest, "bytes": content.seek(0, io.SEEK_END)}


def _pieces(file, archive, name):
    """A member's bytes, a MB at a time; zipfile stops at the size that the archive declares."""
    with _reading(file, f"holds a damaged {name}"), archive.open(name) as member:
        while piece := member.read(2**20):
            yield piece


@contextlib.contextmanager
def _reading(file, why):
    try:
        yield
    except UNREADABLE as error:
        detail = f" ({error.strerror})" if getattr(error, "strerror", "") else ""
        raise _refused(file, why + detail) from None


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); make room, or name a folder "
            "that you may write to, and run the command again."
        ) from None


@contextlib.contextmanager
def _whole(path):
    """Give the temporary name under which to write ``path``: renamed at the end, or removed."""
    part = path.with_name(path.name + ".part")
    try:
        with _writing(path):
            yield part
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _refused(file, why):
    return UserError(
        f"{file} {why}, so nothing was imported; give one that `genlib data export` of this "
        "version of the course wrote."
    )


def _no_manifest():
    return UserError(
        f"{checkpoints.FOLDER / 'manifest.json'} is missing or damaged; restore it with "
        "`git checkout -- data/checkpoints`."
    )
