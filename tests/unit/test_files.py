"""A file is written whole or not at all; a folder belongs to one process at a time."""

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genlib import ROOT, UserError, files

HOLDER = """
import sys, time
from genlib import files
held = files.lock(sys.argv[1], wait=0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"held"
    yield process
    process.kill()
    process.communicate()


def fail_with(code, monkeypatch, at="write_bytes"):
    """Let a method of ``Path`` fail, once half of what it was given is on the disk."""
    write_bytes = Path.write_bytes

    def fail(path, content):
        if at == "write_bytes":
            write_bytes(path, content[: len(content) // 2])
        raise OSError(code, os.strerror(code), str(path)) if code else KeyboardInterrupt

    monkeypatch.setattr(Path, at, fail)


# write


@pytest.mark.parametrize("content", [b"\0\xff\r\n", "λόγος 👩‍🔬\n", b"", ""])
def test_what_is_written_is_there_and_nothing_else(tmp_path, content):
    for name in ("a.txt", "mes réseaux 试验.npz", "no suffix"):
        (tmp_path / name).write_text("old")
        files.write(str(tmp_path / name), content)
        expected = content if isinstance(content, bytes) else content.encode()
        assert (tmp_path / name).read_bytes() == expected
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_changes_from_old_to_new_in_one_step(tmp_path, monkeypatch):
    seen, replace = [], Path.replace

    def look(path, target):
        seen.append((path.read_text(), target.read_text()))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", look)
    (tmp_path / "a.txt").write_text("old")
    files.write(tmp_path / "a.txt", "new")
    assert seen == [("new", "old")] and (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("at", ["write_bytes", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, None])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, code, at):
    (tmp_path / "a.txt").write_text("old")
    fail_with(code, monkeypatch, at)
    with pytest.raises(UserError if code else KeyboardInterrupt):
        files.write(tmp_path / "a.txt", "new text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("code", "todo"),
    [
        (errno.ENOSPC, "free some space, then run again: resume=true goes on where it stopped."),
        (errno.EDQUOT, "free some space, then run again: resume=true goes on where it stopped."),
        (errno.EACCES, "give a file or folder of your own."),
    ],
)
def test_the_error_names_the_file_the_cause_and_what_to_do(tmp_path, monkeypatch, code, todo):
    fail_with(code, monkeypatch)
    sentence = f"{tmp_path / 'a.txt'} cannot be written ({os.strerror(code)}); {todo}"
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        files.write(tmp_path / "a.txt", "new")


def test_an_error_without_a_number_is_a_sentence_too():
    full = RuntimeError("events.out; No space left on device")
    assert "space left on device); free some space" in str(files.unwritable("a", full))
    assert str(files.unwritable("a", OSError("no"))).startswith("a cannot be written (no); give")


@pytest.mark.parametrize("path", ["no folder/a.txt", "a file/a.txt", "a folder", "n" * 300])
def test_a_path_that_no_file_can_have_is_one_sentence(tmp_path, path):
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(.+\); give a file") as caught:
        files.write(tmp_path / path, "new")
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.part"))


def as_nobody(drop, folder, code):
    """Run Python code, with ``folder`` in sys.argv, after the statement ``drop``."""
    # What is imported after that may lie in a folder that this user cannot read.
    code = f"from genlib import UserError, files\nimport filelock, filelock._unix\n{drop}\n{code}"
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
@pytest.mark.parametrize(
    "call", ["files.write(sys.argv[1] + '/a.txt', 'new')", "files.lock(sys.argv[1], wait=1)"]
)
def test_a_read_only_folder_is_one_sentence(tmp_path_factory, nobody, call):
    code = f"import sys\ntry:\n    {call}\nexcept UserError as error:\n    print(error)"
    base = tmp_path_factory.getbasetemp().parents[0]
    folder = Path("/tmp", f"genlib_read_only_{os.getpid()}_{base.name}")  # base is its user's alone
    folder.mkdir(0o555)
    try:
        done = as_nobody(nobody, folder, code)
    finally:
        left = [path.name for path in folder.iterdir()]
        folder.chmod(0o755)
        folder.rmdir()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{folder}.* cannot be written \(Permission denied\); .+\.\n", done.stdout)
    assert not left


# lock


def test_a_second_process_is_refused_after_the_time_given(tmp_path, holder):
    began = time.perf_counter()
    with pytest.raises(
        UserError, match="belongs to a run that has not ended; wait for it"
    ) as caught:
        files.lock(tmp_path, wait=0.3)
    assert time.perf_counter() - began >= 0.3
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    files.lock(tmp_path.parent, wait=0)  # another folder is free


def test_a_lock_ends_with_its_process_and_is_waited_for(tmp_path, holder):
    holder.kill()  # it dies while the next line waits
    files.lock(tmp_path, wait=5)
    assert (tmp_path / ".lock").exists()


def test_the_same_process_may_lock_again_and_keeps_the_folder(tmp_path):
    first = files.lock(tmp_path)
    second = files.lock(str(tmp_path), wait=0)  # such as a cell that is run twice
    code = HOLDER.replace("time.sleep(60)", "")
    command = [sys.executable, "-c", code, str(tmp_path)]
    del second
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "belongs to a run that has not ended" in refused.stderr
    del first
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "held\n"


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        files.lock(tmp_path / "file", wait=0)
