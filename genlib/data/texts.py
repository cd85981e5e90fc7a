"""Texts by name or by path: found, hash-checked, cut into parts to train, choose and report on."""

import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from genlib import UserError, nearest
from genlib.data.readers import read_text
from genlib.data.sources import TEXTS, NotAtHand, fetch, find, verify


@dataclass(frozen=True)
class Text:
    """A text in three parts that do not overlap, in its own order.

    Its first 90% to train on, 5% to make choices on (``validation``), and the last 5%, on which
    nothing is chosen, to report on (``test``).
    """

    name: str
    train: str
    validation: str
    test: str
    source: str
    licence: str
    sha256: str

    def __len__(self):
        return len(self.train)

    def __str__(self):
        return (
            f"{self.name}: {len(self.train):,} characters to train on, {len(self.validation):,} to "
            f"validate, {len(self.test):,} to test, {len(set(self.train))} different ones "
            f"(from {self.source})"
        )


def load_text(source="auto", limit=0):
    """Load a text by name or by path.

    source: "shakespeare" (Karpathy's tiny Shakespeare); "pydoc" (the help texts that come with
        Python); "sklearn" (scikit-learn's descriptions of its datasets); a UTF-8 file; a folder of
        ``.txt`` and ``.md`` files; or "auto": Shakespeare where it is at hand or can be
        downloaded, else pydoc.
    limit: characters used, from the first; 0 uses all.

    Returns ``Text``. Raises ``UserError``, one sentence, for anything that cannot be loaded, and
    for a text of fewer than 1,000 characters.
    """
    if limit < 0:
        raise UserError(
            f"limit={limit} is not possible; give a number of characters, or 0 for all."
        )
    path, names = Path(str(source)).expanduser(), ("pydoc", "sklearn", *TEXTS)
    if source == "auto":
        try:
            return load_text("shakespeare", limit)
        except NotAtHand as error:
            print(f"▶ Shakespeare is not at hand ({error.why}). Using Python's help texts instead.")
            return load_text("pydoc", limit)
    if source == "pydoc":
        from pydoc_data.topics import topics

        content, found = "\n".join(topics[key] for key in sorted(topics)).encode(), "Python"
        licence = "PSF (Python Software Foundation)"
    elif source == "sklearn":
        folder = resources.files("sklearn.datasets.descr")
        files = sorted((f for f in folder.iterdir() if f.name.endswith(".rst")), key=str)
        content, found = b"\n".join(file.read_bytes() for file in files), "scikit-learn"
        licence = "BSD 3-Clause (the scikit-learn developers)"
    elif source in TEXTS:
        file = find(source) or fetch(source)
        verify(source, file)
        content, found, licence = file.read_bytes(), file.name, TEXTS[source]["licence"]
    elif os.path.exists(path):
        content, found, licence = read_text(path), path.name, "your own"
    else:
        raise UserError(
            f"text {str(source)!r} is no known name ({', '.join(names)}, auto), no file and no "
            f"folder.{nearest(source, [*names, 'auto'])}"
        )
    text = content.decode().replace("\r\n", "\n")[: limit or None]
    if len(text) < 1000:
        raise UserError(f"{found} has {len(text)} characters; a text needs 1,000 or more.")
    cut, last = len(text) * 18 // 20, len(text) * 19 // 20
    name = str(source) if source in names else path.name
    digest = hashlib.sha256(content).hexdigest()
    return Text(name, text[:cut], text[cut:last], text[last:], found, licence, digest)
