"""Where the known datasets come from: this machine's folders, Keras's cache, a download.

Everything is hash-checked where a hash is known, and nothing is unpickled.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from genlib import ROOT, UserError, files
from genlib.data.readers import ARRAYS, read_cifar, read_idx, read_npz

CACHE = ROOT / "data" / "cache"
_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_DIGITS = tuple("0123456789")

# What is known of each dataset. `files` holds the names at `origin` and their hashes (SHA-256, or
# another that is named), `folder` is where Keras keeps them, and `content` is the SHA-256 of the
# arrays, which holds for a repacked archive too. `judge` is the share of the training images that
# the judge learns from.
DATASETS = {
    "digits": {
        "classes": _DIGITS,
        "licence": "CC BY 4.0 (UCI repository; Alpaydin & Kaynak 1998)",
    },
    "mnist": {
        "classes": _DIGITS,
        "licence": "CC BY-SA 3.0 (LeCun, Cortes & Burges 1998)",
        "content": "52cd6c10ae77107af32269dd9d10ca19c1b749e83235a0c75e2f0729ebeaf141",
        "judge": 1 / 6,
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
        "judge": 1 / 6,
        "folder": "datasets/fashion-mnist",
        "files": {
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
        "origin": _GOOGLE,
    },
    "cifar10": {
        "classes": (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        "licence": "none stated, published for research (Krizhevsky 2009)",
        "judge": 1 / 2,
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
KNOWN = DATASETS | TEXTS
DOWNLOADED = [name for name, known in KNOWN.items() if "files" in known]


class NotAtHand(UserError):
    """A known dataset is on no disk here and cannot be downloaded. ``why`` says what was tried."""

    def __init__(self, name, why):
        self.why = why
        super().__init__(
            f"dataset {name!r} is not on this machine and {why}; put {file_of(name)} into the "
            f"folder that GENLIB_DATA names, or run `genlib data fetch {name}` where there is a "
            "network."
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


def file_of(name):
    """The name of a dataset's file."""
    return f"{name}.txt" if name in TEXTS else f"{name}.npz"


def find(name):
    """Return the path of a named dataset's file on this machine, or None."""
    folders = [CACHE, _keras_home() / "datasets"]
    if os.environ.get("GENLIB_DATA"):
        folders.insert(0, Path(os.environ["GENLIB_DATA"]))
    paths = [folder / file_of(name) for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def verify(name, path, arrays=None):
    """Check a named dataset's file by its known content hash, or by the ``.sha256`` beside it.

    arrays: what the file holds, if it has been read. Returns the SHA-256 of the content. Raises
    ``UserError`` for a file that cannot be read, and for other content.
    """
    note = path.with_suffix(".sha256")
    try:
        if name in TEXTS:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            arrays = arrays or read_npz(path)
            found = content_hash(arrays[key] for key in ARRAYS if key in arrays)
        expected = KNOWN[name].get("content")
        if not expected and note.exists():
            expected = note.read_text("ascii", "replace").strip()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    if expected and found != expected:
        raise UserError(
            f"{path} does not hold the {name} that it should (content SHA-256 {found[:12]}…, "
            f"expected {expected[:12]}…); delete it and run `genlib data fetch {name}`."
        )
    return found


def fetch(name):
    """Download a named dataset into ``data/cache``, checked by its hashes. Returns its path.

    What Keras has downloaded before is taken from there. Raises ``NotAtHand``, a ``UserError``, if
    it cannot be downloaded or has no folder to go to, and ``UserError`` if there is no room.
    """
    paths = [_download(name, file, known) for file, known in KNOWN[name]["files"].items()]
    if name not in _READERS:
        return paths[0]  # the dataset as it is
    _make_cache(name)
    arrays, packed, path = _READERS[name](paths), io.BytesIO(), CACHE / file_of(name)
    np.savez_compressed(packed, **arrays)
    files.write(path.with_suffix(".sha256"), content_hash(arrays[key] for key in ARRAYS) + "\n")
    files.write(path, packed.getvalue())
    return path


_READERS = {"fashion_mnist": read_idx, "cifar10": read_cifar}


def _download(name, file, file_hash):
    """The path of one of a dataset's files: as Keras keeps it, if intact, or in ``data/cache``."""
    import pooch
    from pooch.hashes import hash_matches

    for folder in (_keras_home() / KNOWN[name]["folder"], CACHE):
        with contextlib.suppress(OSError):  # it is not there, or may not be read
            if hash_matches(folder / file, file_hash):
                return folder / file
    if os.environ.get("GENLIB_OFFLINE", "0") not in ("", "0"):
        raise NotAtHand(name, "GENLIB_OFFLINE=1 forbids a download")
    pooch.get_logger().setLevel("ERROR")
    # 10 s: a classroom's firewall may drop packets without a word.
    download, url = pooch.HTTPDownloader(timeout=10), KNOWN[name]["origin"] + file
    _make_cache(name)
    try:
        return Path(pooch.retrieve(url, file_hash, file, CACHE, downloader=download))
    except ValueError:  # pooch's; what was downloaded is gone
        raise NotAtHand(name, "what was downloaded is not what it should be") from None
    except OSError as error:  # those of requests too
        raise NotAtHand(name, f"the download failed ({str(error)[-120:]})") from None


def _make_cache(name):
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotAtHand(name, f"{CACHE} cannot be written ({error.strerror})") from None
