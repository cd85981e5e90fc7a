"""Files and folders of images, arrays and texts, read without unpickling anything."""

import codecs
import gzip
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from genlib import UserError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
TEXT_SUFFIXES = (".txt", ".md")
UNREADABLE = (  # what numpy raises for a damaged .npz, by the place of the damage
    *(OSError, EOFError, KeyError, ValueError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def read_idx(paths):
    """The four gzipped IDX files of MNIST's own format → {name of ``ARRAYS``: uint8 array}."""
    arrays = []
    for path in paths:
        raw = gzip.decompress(path.read_bytes())
        sizes = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
        arrays.append(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes))
    return dict(zip(ARRAYS, arrays, strict=True))


def read_cifar(paths):
    """CIFAR-10's binary version, one .tar.gz → {name of ``ARRAYS``: uint8 array}."""
    rows = {"data": [], "test": []}
    with tarfile.open(paths[0]) as archive:
        for member in sorted(name for name in archive.getnames() if name.endswith(".bin")):
            raw = archive.extractfile(member).read()
            rows[Path(member).name[:4]].append(np.frombuffer(raw, np.uint8).reshape(-1, 3073))
    arrays = []
    for part in map(np.concatenate, rows.values()):
        arrays += [part[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), part[:, :1]]
    return dict(zip(ARRAYS, arrays, strict=True))


def read_npz(path):
    """Read an ``.npz`` without unpickling. Raises ``UserError`` for a damaged or unsafe file."""
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no zip archive, or its end is missing")
        with np.load(path, allow_pickle=False) as archive:
            return {key: np.asarray(archive[key]) for key in archive.files}
    except UNREADABLE as error:
        if "pickle" in str(error):
            raise UserError(
                f"{path} cannot be read safely: it would need unpickling; save plain number arrays "
                "with numpy.savez."
            ) from None
        raise UserError(
            f"{path} is not a whole .npz file ({error}); replace it by an intact copy."
        ) from None


def read_folder(folder, image_size, channels):
    """Read a folder of images into arrays ``images`` and, from its subfolders, ``labels``.

    Returns (arrays, class names). Raises ``UserError`` for an empty folder, an unreadable file, or
    images of different sizes or modes that ``image_size`` and ``channels`` do not make equal.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"{folder} holds no images; put {', '.join(IMAGE_SUFFIXES)} files into it.")
    images = []
    for file in files:
        images.append(_read_image(file, image_size, channels))
        if images[-1].shape != images[0].shape:
            raise UserError(
                f"the images in {folder} differ: {files[0].name} is {images[0].shape}, {file.name} "
                f"is {images[-1].shape} (height, width, channels); give image_size (for sizes) or "
                "channels (1 grey, 3 colour) to make them equal."
            )
    parents = [p.relative_to(folder).parts[:-1] for p in files]
    arrays, classes = {"images": np.stack(images)}, ()
    if all(parents):
        classes = tuple(sorted({parent[0] for parent in parents}))
        arrays["labels"] = np.array([classes.index(parent[0]) for parent in parents])
    return arrays, classes


def _read_image(file, image_size, channels):
    try:
        with Image.open(file) as image:
            grey = channels == 1 or (not channels and image.mode in ("1", "L", "I;16"))
            image = image.convert("L" if grey else "RGB")
            if image_size:
                image = image.resize((image_size, image_size), Image.Resampling.LANCZOS)
            return np.atleast_3d(np.asarray(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UserError(
            f"{file} is not a readable image ({file.stat().st_size} bytes); repair or remove it."
        ) from None


def read_text(path):
    """Read a UTF-8 file, or a folder's ``.txt`` and ``.md`` files in the order of their names.

    Returns bytes. Raises ``UserError`` for a folder without such files, and for an unreadable or
    binary file.
    """
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES)
    if not files:
        raise UserError(f"{path} holds no texts; put {' or '.join(TEXT_SUFFIXES)} files into it.")
    parts = []
    for file in files:
        try:
            parts.append(file.read_bytes().removeprefix(codecs.BOM_UTF8))
            parts[-1].decode()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}).") from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file} is no UTF-8 text (byte {error.start} is {parts[-1][error.start]:#04x}); "
                "save it as UTF-8, or leave it out."
            ) from None
    if b"\0" in (content := b"\n".join(parts)):
        raise UserError(f"{path} holds zero bytes, so it is no text; give a text file.")
    return content
