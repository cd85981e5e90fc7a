"""Where images and texts come from: known datasets, caches, downloads, folders, files.

Everything is hash-checked where a hash is known, and nothing is unpickled.
"""

import codecs
import gzip
import hashlib
import os
import socket
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from genlib import ROOT, UserError

CACHE = ROOT / "data" / "cache"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_DIGITS = tuple("0123456789")
UNREADABLE = (  # what numpy raises for a damaged .npz, by the place of the damage
    *(OSError, EOFError, KeyError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)

# What is known of each dataset. `files` holds (URL, hash of the file), `content` the SHA-256 of the
# arrays, which holds for a repacked archive too.
DATASETS = {
    "digits": {
        "classes": _DIGITS,
        "licence": "CC BY 4.0 (UCI repository; Alpaydin & Kaynak 1998)",
    },
    "mnist": {
        "classes": _DIGITS,
        "licence": "CC BY-SA 3.0 (LeCun, Cortes & Burges 1998)",
        "content": "52cd6c10ae77107af32269dd9d10ca19c1b749e83235a0c75e2f0729ebeaf141",
        "folder": "datasets",
        "files": {
            "mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        },
        "origin": _GOOGLE,
    },
    "fashion_mnist": {
        "classes": (
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        "licence": "MIT (Xiao, Rasul & Vollgraf 2017)",
        "folder": "datasets/fashion-mnist",
        "files": {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        "origin": _GOOGLE,
    },
    "cifar10": {
        "classes": tuple(
            [
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ]
        ),
        "licence": "none stated, published for research (Krizhevsky 2009)",
        "folder": "datasets",
        # The binary version: the one that Keras downloads holds pickles.
        "files": {
            "cifar-10-binary.tar.gz": (
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            ),
        },
        "origin": "https://www.cs.toronto.edu/~kriz/",
    },
}

TEXTS = {
    "shakespeare": {
        "licence": "public domain (collected by Karpathy 2015)",
        "content": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "folder": "datasets",
        "files": {
            "shakespeare.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        },
        "origin": "https://storage.googleapis.com/download.tensorflow.org/data/",
    },
}
TEXT_SUFFIXES = (".txt", ".md")


class NotAtHand(UserError):
    """A known dataset is on no disk here and cannot be downloaded. ``why`` says what was tried."""

    def __init__(self, name, why):
        self.why = why
        super().__init__(
            f"dataset {name!r} is not on this machine and {why}; put {_file(name)} into the folder "
            f"that GENLIB_DATA names, or run `genlib data fetch {name}` where there is a network."
        )


def content_hash(arrays):
    """SHA-256 over arrays, their types and shapes included."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _keras_home():
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _file(name):
    return f"{name}.txt" if name in TEXTS else f"{name}.npz"


def find(name):
    """Return the path of a named dataset's file on this machine, or None."""
    folders = [CACHE, _keras_home() / "datasets"]
    if os.environ.get("GENLIB_DATA"):
        folders.insert(0, Path(os.environ["GENLIB_DATA"]))
    return next((f / _file(name) for f in folders if (f / _file(name)).is_file()), None)


def verify(name, path, arrays=None):
    """Check a named dataset's file by its known content hash, or by the ``.sha256`` beside it."""
    if name in TEXTS:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        arrays = arrays or read_npz(path)
        found = content_hash(arrays[key] for key in ARRAYS if key in arrays)
    note, known = path.with_suffix(".sha256"), DATASETS | TEXTS
    expected = known[name].get("content") or (note.read_text().strip() if note.exists() else "")
    if expected and found != expected:
        raise UserError(
            f"{path} does not hold the {name} that it should (content SHA-256 {found[:12]}…, "
            f"expected {expected[:12]}…); delete it and run `genlib data fetch {name}`."
        )
    return found


def fetch(name):
    """Download a named dataset into ``data/cache``, hash-checked, images as ``.npz``, texts as they
    are. Returns the path."""
    known = (DATASETS | TEXTS)[name]
    cached = {_keras_home() / known["folder"] / file: h for file, h in known["files"].items()}
    offline = os.environ.get("GENLIB_OFFLINE", "0") not in ("", "0")
    if offline and not all(_is_intact(*item) for item in cached.items()):
        raise NotAtHand(name, "GENLIB_OFFLINE=1 forbids a download")
    from genlib.training.backend import keras

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # a classroom's firewall may drop packets without a word
    try:
        paths = [
            Path(
                keras.utils.get_file(
                    file,
                    origin=known["origin"] + file,
                    file_hash=file_hash,
                    cache_dir=str(_keras_home()),
                    cache_subdir=known["folder"],
                )
            )
            for file, file_hash in known["files"].items()
        ]
    except Exception as error:  # get_file wraps every cause in a bare Exception
        raise NotAtHand(name, f"the download failed ({str(error)[-120:]})") from None
    finally:
        socket.setdefaulttimeout(timeout)
    path = CACHE / _file(name)
    temporary = path.with_stem(f"{name}.part")
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        if name in TEXTS:
            temporary.write_bytes(paths[0].read_bytes())
        else:
            arrays = _READERS[name](paths)
            np.savez_compressed(temporary, **arrays)
            note = content_hash(arrays[key] for key in ARRAYS) + "\n"
            path.with_suffix(".sha256").write_text(note)
        temporary.replace(path)
    except OSError as error:
        raise NotAtHand(name, f"{CACHE} cannot be written ({error.strerror})") from None
    return path


def _is_intact(file, file_hash):
    if not file.is_file():
        return False
    kind = "md5" if len(file_hash) == 32 else "sha256"
    return hashlib.new(kind, file.read_bytes()).hexdigest() == file_hash


def _read_idx(paths):
    arrays = []
    for path in paths:
        raw = gzip.decompress(path.read_bytes())
        sizes = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
        arrays.append(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes))
    return dict(zip(ARRAYS, arrays, strict=True))


def _read_cifar(paths):
    rows = {"data": [], "test": []}
    with tarfile.open(paths[0]) as archive:
        for member in sorted(name for name in archive.getnames() if name.endswith(".bin")):
            raw = archive.extractfile(member).read()
            rows[Path(member).name[:4]].append(np.frombuffer(raw, np.uint8).reshape(-1, 3073))
    arrays = []
    for part in map(np.concatenate, rows.values()):
        arrays += [part[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), part[:, :1]]
    return dict(zip(ARRAYS, arrays, strict=True))


_READERS = {
    "mnist": lambda paths: read_npz(paths[0]),
    "fashion_mnist": _read_idx,
    "cifar10": _read_cifar,
}


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
