"""The ledger of a sweep: ``sweep.json`` says what is swept, ``sweep.jsonl`` has a line for each run
that has ended; of several lines of one run the last counts.
"""

import hashlib
import json
import os
from pathlib import Path

from genlib import UserError
from genlib.files import unwritable, write

SCHEMA = 1
NAME = "sweep.jsonl"


def read(folder):
    """Read a sweep's folder: the content of ``sweep.json``, and {name: the last
    ``entry``} of its runs. Raises ``UserError`` for a folder that holds no sweep.
    """
    folder = Path(folder).expanduser()
    try:
        about = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        if about["schema"] != SCHEMA:
            raise ValueError(f"schema {about['schema']!r}, not {SCHEMA}")
    except FileNotFoundError:
        raise UserError(
            f"{folder} is no sweep: it has no sweep.json; give a folder that `genlib sweep` left."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'sweep.json'} is not as a sweep writes it ({error}); start the sweep again "
            "in another folder."
        ) from None
    entries = {}
    path = folder / NAME
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):  # else the process was killed while it wrote
            try:
                ended = json.loads(line)
                entries[ended["run"]] = ended
            except (ValueError, KeyError, TypeError):
                continue  # a damaged line: the run's own folder says whether it is done
    return about, entries


def finished(folder, values):
    """The SHA-256 of a run's ``metrics.json`` if it ran to its end with ``values``, else None."""
    try:
        content = (folder / "metrics.json").read_bytes()
        parameters = json.loads(content)["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = all(parameters.get(name) == value for name, value in values.items())
    whole = same and (folder / "lesson.ipynb").is_file()
    return hashlib.sha256(content).hexdigest() if whole else None


def entry(name, values, seconds=0.0, sha256="", error=""):
    """The line of a run that has ended, as a dict. error: why it failed, "" where it did not."""
    status = "failed" if error else "done"
    told = {"run": name, "status": status, "values": values, "seconds": seconds}
    return told | {"error": error, "sha256": sha256}


def problem(folder, ended):
    """Why the run of an ``entry`` has no numbers that count, in a sentence, or None."""
    if ended["status"] != "done":
        return ended["error"] or "it failed."
    try:
        content = (folder / "runs" / ended["run"] / "metrics.json").read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() == ended["sha256"]:
        return None
    return "its metrics.json is gone or was changed; start the sweep again."


def append(folder, ended):
    """Write an ``entry`` to the disk. Raises ``UserError`` where that cannot be done."""
    path = folder / NAME
    try:
        with path.open("ab") as file:
            file.write(json.dumps(ended).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def mend(folder):
    """Cut off a last line that was not written whole, so that the next one begins a line."""
    path = folder / NAME
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        write(path, content[: content.rfind(b"\n") + 1])
