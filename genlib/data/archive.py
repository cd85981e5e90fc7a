"""Datasets in one plain zip, beside their hashes, for machines without a network.

An archive may come from anybody: it may hold nothing but whole datasets of the course, each is
checked by its content hash before any is placed, and nothing is unpickled.
"""

import io
import shutil
import tempfile
import zipfile
from pathlib import Path

from genlib import UserError, files
from genlib.data import sources
from genlib.data.readers import UNREADABLE

MOST = 2**30  # bytes; all datasets of the course unpack to a quarter of it
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others, one byte may claim any memory


def export(file, names=()):
    """Pack the named datasets, or all that are on this machine, into ``file``.

    Returns {name: bytes}. Raises ``UserError`` for a file that does not end in .zip, a dataset that
    is not here or damaged, and a place that cannot be written, where an older archive stays.
    """
    if Path(file).suffix.lower() != ".zip":
        raise UserError(f"the archive {str(file)!r} must end in .zip, such as course.zip.")
    found = {name: sources.find(name) for name in names or sources.DOWNLOADED}
    missing = [name for name, path in found.items() if not path]
    if missing and (names or len(missing) == len(found)):
        raise sources.NotAtHand(missing[0], "so cannot be packed")
    found, packed = {name: path for name, path in found.items() if path}, io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, path in found.items():
            note, inside = _files(name)
            archive.writestr(note, sources.verify(name, path) + "\n")
            archive.writestr(inside, path.read_bytes())
    files.write(file, packed.getvalue())
    return {name: path.stat().st_size for name, path in found.items()}


def unpack(file):
    """Place the datasets of an archive in ``data/cache``. Returns their names.

    Raises ``UserError`` for an archive that is not whole, or holds anything but datasets as the
    course knows them (then nothing is placed), and for a folder that cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="genlib-") as stage:
        try:
            names = _stage(file, Path(stage))
        except UNREADABLE as error:
            raise UserError(
                f"{file} cannot be imported ({getattr(error, 'strerror', None) or error}), so "
                "nothing was; give a whole archive that `genlib data export` wrote."
            ) from None
        try:
            sources.CACHE.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.unwritable(sources.CACHE, error) from None
        for inside in [inside for name in names for inside in _files(name)]:
            files.write(sources.CACHE / inside, Path(stage, inside).read_bytes())
    return names


def _stage(file, stage):
    """Unpack into the folder ``stage`` and check. Returns the datasets' names."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        inside = sorted(member.filename for member in members)
        names = [name for name in sources.DOWNLOADED if sources.file_of(name) in inside]
        if not names or inside != sorted(part for name in names for part in _files(name)):
            raise ValueError("it holds other files than whole datasets of the course")
        if any(member.compress_type not in METHODS for member in members):
            raise ValueError("it is packed in an unusual way")
        _check_size(archive)
        for member in members:  # a link too becomes a plain file; zipfile stops at the size checked
            with archive.open(member) as packed, (stage / member.filename).open("wb") as target:
                shutil.copyfileobj(packed, target)
    for name in names:
        path = stage / sources.file_of(name)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as arrays:
                _check_size(arrays)
        try:
            sources.verify(name, path)
        except UserError:
            raise ValueError(f"its {name} is not the one that the course knows") from None
    return names


def _check_size(archive):
    if sum(member.file_size for member in archive.infolist()) > MOST:
        raise ValueError(f"it unpacks to more than {MOST:,} bytes")


def _files(name):
    """The files of a dataset in an archive, in the order in which they are placed."""
    return f"{name}.sha256", sources.file_of(name)
