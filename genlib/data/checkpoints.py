"""The trained models that ship with the course: ``data/checkpoints`` and its ``manifest.json``."""

import hashlib
import json
from pathlib import Path

from genlib import ROOT, UserError, nearest

FOLDER = ROOT / "data" / "checkpoints"
MAX_BYTES = 4_000_000


def manifest():
    """{name: {sha256, bytes, shape, parameters, metrics, seconds, versions, …}} of all shipped.

    Raises ``UserError`` if the list is missing or damaged.
    """
    try:
        return json.loads((FOLDER / "manifest.json").read_bytes())
    except (OSError, ValueError):
        raise UserError(
            f"{FOLDER / 'manifest.json'} is missing or damaged; restore it with "
            "`git checkout -- data/checkpoints`."
        ) from None


def path(name):
    """Return the file of a shipped checkpoint after checking its SHA-256.

    Raises ``UserError`` for an unknown name, a missing file, or one whose bytes have changed.
    """
    known = manifest()
    if name not in known:
        raise UserError(
            f"no checkpoint {name!r} (there are {', '.join(known)}).{nearest(name, known)}"
        )
    file = FOLDER / f"{name}.weights.h5"
    restore = f"restore it with `git checkout -- data/checkpoints/{file.name}`"
    if not file.is_file():
        raise UserError(f"the checkpoint {file} is missing; {restore}.")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != known[name]["sha256"]:
        raise UserError(
            f"the checkpoint {file} is damaged or changed (SHA-256 {found[:12]}…, expected "
            f"{known[name]['sha256'][:12]}…); {restore}."
        )
    return file


def load_weights(model, name):
    """Load a shipped checkpoint into a model that was built as it was. Returns its SHA-256.

    Raises ``UserError`` as ``path`` does.
    """
    model.load_weights(path(name))
    return manifest()[name]["sha256"]


def load(name, build, image_shape=None):
    """Return the shipped model ``name``: ``build`` with its parameters, and its weights.

    Raises ``UserError`` if its file is not intact, or if it does not draw ``image_shape``.
    """
    file, parameters = path(name), manifest()[name]["parameters"]
    shape = tuple(parameters.get("image_shape", ()))
    if image_shape and tuple(image_shape) != shape:
        raise UserError(
            f"the checkpoint {name} draws images of {shape}, the dataset has {tuple(image_shape)}; "
            "choose dataset=mnist, or train: pretrained=false."
        )
    model = build(**parameters)
    model.load_weights(file)
    return model


def publish(model, name, **facts):
    """Save a model's weights as a shipped checkpoint and write its line in the manifest.

    Raises ``UserError`` for a file of more than ``MAX_BYTES``, which is removed.
    """
    file = FOLDER / f"{name}.weights.h5"
    model.optimizer = None  # its slots would triple the size
    model.save_weights(file)
    content = file.read_bytes()
    if len(content) > MAX_BYTES:
        file.unlink()
        raise UserError(
            f"{name} has {len(content):,} bytes; a checkpoint has {MAX_BYTES:,} at most."
        )
    lines = manifest() if (FOLDER / "manifest.json").exists() else {}
    lines[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **facts}
    text = json.dumps(dict(sorted(lines.items())), indent=1, default=float)
    Path(FOLDER / "manifest.json").write_text(text + "\n")
