"""What befalls a run loses nothing, does nothing twice, and changes no bit of its results.

The runs are a small GAN's. Each is a process of its own, forked from one that has imported Keras,
and leaves what a lesson leaves: history, checkpoints, samples, metrics. What it had to say, errors
included, is in a file.
"""

import contextlib
import csv
import ctypes
import errno
import functools
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from genlib import UserError

SEED = 20  # of the moments and the bits
SHORT, LONG = 5, 30  # epochs
PRELOADED = ["genlib.data", "genlib.models.gan", "genlib.runs.run", "genlib.training.recorder"]
PRELOADED += ["pytest", "tensorboard.summary"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


# What a child does


def lesson(folder, epochs=SHORT, resume=True, on_epoch=None, on_batch=None, before_metrics=None):
    """Train, from where the run's folder says, and leave results. The functions are called with the
    epoch's number, or nothing, before an epoch, after a batch, and between the two last files."""
    from genlib import runs, training
    from genlib.models import gan
    from genlib.training.backend import keras

    class Calls(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if on_epoch:
                on_epoch(epoch)

        def on_train_batch_end(self, batch, logs=None):
            if on_batch:
                on_batch()

    keras.utils.set_random_seed(0)
    layers, images = keras.layers, np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), "uint8")
    draw = [keras.Input((4,)), layers.Dense(64, "tanh"), layers.Reshape((8, 8, 1))]
    judge = [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(1)]
    model = gan.GAN(keras.Sequential(draw), keras.Sequential(judge), seed=0)
    model.compile(optimizer=gan.PlayerAdam())
    params = {"epochs": epochs, "resume": resume, "run_dir": str(folder)}
    run, batches = runs.Run("02_gan", params), training.Batches(images, 10)
    recorder = training.fit(model, batches, run, epochs, callbacks=[Calls()])
    run.samples(model.generate(8))
    if before_metrics:
        before_metrics()
    run.metrics(None, {"d_loss": recorder.history[-1]["d_loss"]}, "d_loss")


def impatient(function, *arguments, **options):
    """Call a function that waits for no lock."""
    from genlib import files
    from genlib.runs import run

    run.lock = functools.partial(files.lock, wait=0.1)
    function(*arguments, **options)


def within(log, function, arguments, options):
    """The body of a child: what it prints goes to ``log``, and a ``UserError`` as a lesson's."""
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    try:
        function(*arguments, **options)
    except UserError as error:
        sys.exit(f"UserError: {error}")


# Its parent


class Children:
    """Starts processes. Those that still run at the end of a test are killed."""

    def __init__(self, context, folder):
        self.context, self.folder, self.all = context, folder, []

    def start(self, function, *arguments, **options):
        log = self.folder / f"{len(self.all)}.log"
        child = self.context.Process(target=within, args=(log, function, arguments, options))
        child.log = log
        self.all.append(child)
        child.start()
        return child

    def run(self, function, *arguments, status=0, **options):
        """Run to the end. Returns what the child said."""
        child = self.start(function, *arguments, **options)
        child.join(60)
        said = child.log.read_text(encoding="utf-8")
        assert child.exitcode == status, f"exit status {child.exitcode}, not {status}: {said}"
        assert "Traceback" not in said, said
        return said

    def refused(self, function, *arguments, **options):
        """Run to a ``UserError``. Returns its one sentence."""
        said = self.run(function, *arguments, status=1, **options)
        sentence = said.splitlines()[-1]
        assert said.count("Error") == 1 and sentence.startswith("UserError: "), said
        assert sentence.endswith("."), said
        return sentence


@pytest.fixture(scope="module")
def context():
    """Where processes come from: where forks are safe, from one that has imported what they need;
    it has not started TensorFlow, whose threads a fork would lose."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:  # the server keeps the environment it starts in
        patch.setenv("KERAS_BACKEND", "tensorflow")
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        patch.setenv("GENLIB_OFFLINE", "1")
        yield context


@pytest.fixture
def children(context, tmp_path_factory):
    children = Children(context, tmp_path_factory.mktemp("said"))
    yield children
    for child in children.all:
        child.kill()
        child.join()


def saved(path):
    """A checkpoint's arrays, its history among them as rows."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays | {"history": json.loads(arrays["history"].tobytes())}


def checkpoints(folder):
    return sorted((folder / "checkpoints").glob("epoch_*.npz"))


def epochs_of(folder):
    """The epochs of the checkpoints, and those of the rows of history.csv."""
    table = folder / "history.csv"
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    rows = [int(row["epoch"]) for row in csv.DictReader(lines)]
    return [len(saved(path)["history"]) for path in checkpoints(folder)], rows


def outcome(folder):
    """All that a finished run leaves, less times and what is named after the folder."""
    arrays = saved(checkpoints(folder)[-1])
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in arrays.pop("history")]
    with (folder / "history.csv").open(encoding="utf-8") as file:
        table = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    assert [{k: str(v) for k, v in row.items()} for row in history] == table
    with np.load(folder / "samples.npz", allow_pickle=False) as archive:
        arrays["images"] = archive["images"]
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    parts = [path.name for path in folder.rglob("*.part")]
    state = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return {"history": history, "metrics": metrics, "parts": parts, **state}


@pytest.fixture(scope="module")
def straight(context, tmp_path_factory):
    """The folders of uninterrupted runs by their numbers of epochs."""
    folders = {epochs: tmp_path_factory.mktemp("straight") / "run" for epochs in (SHORT, LONG)}
    children = Children(context, tmp_path_factory.mktemp("said"))
    for epochs, folder in folders.items():
        assert "starting from the first epoch" in children.run(lesson, folder, epochs)
        assert [row["epoch"] for row in outcome(folder)["history"]] == list(range(1, epochs + 1))
    return folders


@pytest.fixture(scope="module")
def first_part(context, tmp_path_factory):
    """The folder of a run that stopped one epoch before its end."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    Children(context, tmp_path_factory.mktemp("said")).run(lesson, folder, SHORT - 1)
    return folder


@pytest.fixture
def stopped(first_part, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(first_part, tmp_path / "run"))


def assert_as_uninterrupted(folder, reference):
    """Compare all that two finished runs left."""
    found, expected = outcome(folder), outcome(reference)
    assert found.keys() == expected.keys()
    assert not [name for name in found if found[name] != expected[name]]
    assert epochs_of(folder)[0] == [row["epoch"] for row in found["history"]][-2:]
    assert not list(folder.rglob("*.part"))


# Killed


def lesson_that_tells(pipe, folder, epochs):
    """Send a byte down the pipe when the first batch is trained on."""
    first = iter([b"!"])
    lesson(folder, epochs, on_batch=lambda: [pipe.send_bytes(byte) for byte in first])


def after_a_kill(folder, before):
    """Check a killed run's folder; return the epoch that is to be gone on from."""
    kept, rows = epochs_of(folder)  # reads each checkpoint whole
    newest = max(kept, default=0)
    assert newest >= before and kept == list(range(newest - len(kept) + 1, newest + 1))
    assert rows == list(range(1, len(rows) + 1)) and len(rows) in (newest, newest - 1)
    assert len(kept) >= min(newest, 2)
    return newest


def went_on_after(said, epoch):
    expected = f"▶ resumed after epoch {epoch} " if epoch else "starting from the first epoch"
    return expected in said and "damaged" not in said


def test_a_run_killed_at_5_random_moments_of_training_ends_as_if_uninterrupted(children, tmp_path):
    folder, rng, newest, moments = tmp_path / "run", random.Random(SEED), 0, []
    for _ in range(5):
        receiver, sender = children.context.Pipe(duplex=False)
        child = children.start(lesson_that_tells, sender, folder, 10_000)
        assert receiver.poll(60), child.log.read_text(encoding="utf-8")
        moments.append(rng.uniform(0, 0.12))  # some six epochs at most
        time.sleep(moments[-1])
        child.kill()
        child.join()
        where = f"seed {SEED}; killed so many seconds after the first batch: {moments}"
        assert child.exitcode == -signal.SIGKILL, where
        assert went_on_after(child.log.read_text(encoding="utf-8"), newest), where
        newest = after_a_kill(folder, newest)
    epochs = newest + 3
    assert went_on_after(children.run(lesson, folder, epochs), newest), where
    children.run(lesson, tmp_path / "straight", epochs)
    assert_as_uninterrupted(folder, tmp_path / "straight")


def die(*what):
    print("killed before", *what, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def lesson_killed_before_step(number, folder, epochs):
    """A step is a file in the run's folder that is opened to write, renamed or removed."""
    steps = itertools.count(1)

    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir"):
            name = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else ""
            reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if name.startswith(str(folder)) and not reads and next(steps) == number:
                die(event, name)

    sys.addaudithook(hook)
    lesson(folder, epochs)


def lesson_killed_within_file(name, folder, epochs):
    """Killed when the first file whose name begins so is half-written."""
    write_bytes = Path.write_bytes

    def write_half(path, content):
        half = path.name.startswith(name)
        write_bytes(path, content[: len(content) // 2] if half else content)
        if half:
            die("the second half of", path)

    Path.write_bytes = write_half
    lesson(folder, epochs)


def test_a_run_killed_before_each_step_of_saving_ends_as_if_uninterrupted(
    children, straight, tmp_path
):
    folder, newest, deaths = tmp_path / "run", 0, []
    halves = ["params.json", "history.csv", "epoch_", "samples.npz", "metrics.json"]
    faults = [(lesson_killed_before_step, number) for number in range(1, 24)]
    for function, fault in faults + [(lesson_killed_within_file, name) for name in halves]:
        said = children.run(function, fault, folder, LONG, status=-signal.SIGKILL)
        said, death = said.split("killed before ")
        deaths.append(death)
        assert went_on_after(said, newest) or "epoch" not in said, deaths
        newest = after_a_kill(folder, newest)
    for moment in ("open", "os.rename"):
        for name in ("params.json.part", "epoch_00001.npz.part", "history.csv.part"):
            assert any(death.startswith(moment) and name in death for death in deaths), deaths
    assert any(death.startswith("os.remove") and ".npz\n" in death for death in deaths), deaths
    assert went_on_after(children.run(lesson, folder, LONG), LONG)
    assert_as_uninterrupted(folder, straight[LONG])


# The disk


class FullDisk:
    """A disk that has no room from ``fill`` on: a file takes it all, or a write says so halfway."""

    def __init__(self, filler=None):
        self.filler = filler

    def fill(self, *_):
        if self.filler:
            with self.filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(1024)):
                    pass
            return
        write_bytes = Path.write_bytes

        def write_half(path, content):
            write_bytes(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        Path.write_bytes = write_half

    def free(self):
        if self.filler:
            self.filler.unlink()


@pytest.fixture(params=["a full tmpfs", "a write that fails"])
def disk(request, tmp_path):
    """(A folder, a ``FullDisk`` that holds it.)"""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "a write that fails":
        yield folder, FullDisk()
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here; the other disk is tested")
    yield folder, FullDisk(folder / "filler")
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def lesson_on_full_disk(disk, folder, epoch=None):
    """The disk is full from before the end of the epoch on, or else before the last file."""
    if epoch:
        lesson(folder, on_epoch=lambda number: disk.fill() if number + 1 == epoch else None)
    else:
        lesson(folder, before_metrics=disk.fill)


def test_a_full_disk_is_one_sentence_and_costs_one_epoch_at_most(children, straight, disk):
    where, disk = disk
    for epoch, name in ((3, "epoch_00003.npz"), (None, "metrics.json")):
        sentence = children.refused(lesson_on_full_disk, disk, where / "run", epoch)
        assert f"{name} cannot be written (No space left on device); free some space" in sentence
        assert not list(where.rglob("*.part"))
        assert not (where / "run" / "metrics.json").exists()
        kept = [1, 2] if epoch else [SHORT - 1, SHORT]
        assert epochs_of(where / "run") == (kept, list(range(1, kept[-1] + 1)))
        disk.free()
    assert went_on_after(children.run(lesson, where / "run"), SHORT)
    assert_as_uninterrupted(where / "run", straight[SHORT])


def lesson_without_room_for_curves(folder):
    import tensorflow as tf
    from tensorboard.summary import Writer

    flush, calls = Writer.flush, itertools.count(1)

    def fail(writer):
        if next(calls) == 2:  # TensorFlow's own error, which is no OSError
            message = f"{folder}/tensorboard/events; {os.strerror(errno.ENOSPC)}"
            raise tf.errors.ResourceExhaustedError(None, None, message)
        flush(writer)

    Writer.flush = fail
    lesson(folder)


def test_a_disk_too_full_for_the_curves_is_one_sentence_too(children, straight, tmp_path):
    folder = tmp_path / "run"
    sentence = children.refused(lesson_without_room_for_curves, folder)
    assert f"{folder / 'tensorboard'} cannot be written" in sentence
    assert "No space left on device); free some space" in sentence
    assert went_on_after(children.run(lesson, folder), 2)
    assert_as_uninterrupted(folder, straight[SHORT])


# Two runs


def lesson_that_waits(pipe, folder):
    """Send a byte down the pipe after two epochs, and wait for one."""

    def wait(epoch):
        if epoch == 2:
            pipe.send_bytes(b"!")
            pipe.recv_bytes()

    lesson(folder, on_epoch=wait)


def content_of(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }


@pytest.mark.parametrize("resume", [True, False], ids=["resuming", "anew"])
def test_a_second_run_in_a_folder_is_refused_and_the_first_goes_on(
    children, straight, tmp_path, resume
):
    folder, (ours, theirs) = tmp_path / "run", children.context.Pipe()
    first = children.start(lesson_that_waits, theirs, folder)
    assert ours.poll(60), first.log.read_text(encoding="utf-8")
    before = content_of(folder)
    sentence = children.refused(impatient, lesson, folder, resume=resume)
    assert str(folder) in sentence and "belongs to a run that has not ended" in sentence
    assert content_of(folder) == before
    ours.send_bytes(b"!")
    first.join(60)
    assert first.exitcode == 0
    assert_as_uninterrupted(folder, straight[SHORT])


def test_the_lock_of_a_killed_run_keeps_nobody_out(children, straight, tmp_path):
    folder, (ours, theirs) = tmp_path / "run", children.context.Pipe()
    first = children.start(lesson_that_waits, theirs, folder)
    assert ours.poll(60), first.log.read_text(encoding="utf-8")
    first.kill()
    first.join()
    assert (folder / ".lock").exists()
    assert went_on_after(children.run(impatient, lesson, folder), 2)
    assert_as_uninterrupted(folder, straight[SHORT])


# Damaged files


def cut(content):
    return content[: len(content) // 2]


def flip(content, place, bit=0):
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def in_a_header(content):  # of an array: the length of the text that tells its type and shape
    return flip(content, content.index(b"\x93NUMPY") + 8, 4)


def in_the_data(content):
    return flip(content, len(content) // 2)


def in_the_directory(content):  # of the zip: the length of a name
    return flip(content, content.index(b"PK\x01\x02") + 28)


def at_the_end(content):
    return flip(content, len(content) - 1, 7)


@pytest.mark.parametrize("damage", [cut, in_a_header, in_the_data, in_the_directory, at_the_end])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(
    children, straight, stopped, damage
):
    newest = checkpoints(stopped)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    said = children.run(lesson, stopped)
    assert f"{newest.name} is damaged" in said and "resumed after epoch 3 from" in said
    assert_as_uninterrupted(stopped, straight[SHORT])


def load_flipped(path):
    """Flip a bit of one byte of a checkpoint and load it, 300 times."""
    from genlib import training
    from genlib.training.backend import keras

    content, rng = path.read_bytes(), random.Random(SEED)
    model = keras.Sequential([keras.Input((1,))])
    model.compile("sgd")
    for place in rng.sample(range(len(content)), 300):
        path.write_bytes(flip(content, place, rng.randrange(8)))
        try:
            training.load_state(path, model)
        except training.Damaged:
            continue
        sys.exit(f"a flipped bit of byte {place} was not seen (seed {SEED})")


def test_a_flipped_bit_is_seen_wherever_it_is_in_a_checkpoint(children, straight, tmp_path):
    newest = checkpoints(straight[SHORT])[-1]
    children.run(load_flipped, Path(shutil.copy(newest, tmp_path)))


def test_without_a_whole_checkpoint_a_run_starts_anew_says_so_and_then_keeps_its_own(
    children, straight, stopped
):
    for path in checkpoints(stopped):
        path.write_bytes(cut(path.read_bytes()))
    told = children.run(lesson, stopped, 1)
    assert told.count("is damaged") == 2 and "starting from the first epoch" in told
    assert epochs_of(stopped) == ([1], [1])
    assert went_on_after(children.run(lesson, stopped, 2), 1)
    assert went_on_after(children.run(lesson, stopped), 2)
    assert_as_uninterrupted(stopped, straight[SHORT])


def torn(content):
    return content[:-20]


def swapped(content):
    lines = content.splitlines(keepends=True)
    return b"".join([lines[0], *lines[:0:-1]])


@pytest.mark.parametrize(
    "damage",
    [torn, swapped, None, lambda content: b"", lambda content: bytes(range(256))],
    ids=["torn", "in another order", "gone", "empty", "garbage"],
)
def test_a_damaged_history_is_whole_again_after_resuming(children, straight, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(straight[SHORT], folder)
    table = folder / "history.csv"
    before = table.read_bytes()
    table.unlink() if damage is None else table.write_bytes(damage(before))
    assert went_on_after(children.run(lesson, folder), SHORT)
    assert table.read_bytes() == before  # the seconds too
    assert_as_uninterrupted(folder, straight[SHORT])


# The machine


def lesson_with_a_clock_set_back(folder, epochs):
    """An hour at each epoch, after the run's folder has been made."""
    now, back = time.time, itertools.count()
    hours = [0]

    def set_back(_):
        hours[0] = next(back)

    time.time = lambda: now() - 3600 * hours[0]
    lesson(folder, epochs, on_epoch=set_back)


def test_a_clock_set_back_makes_no_time_negative_and_hides_no_checkpoint(
    children, straight, tmp_path
):
    folder = tmp_path / "run"
    children.run(lesson_with_a_clock_set_back, folder, SHORT - 1)
    for hours, path in enumerate(checkpoints(folder)):
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    assert went_on_after(children.run(lesson_with_a_clock_set_back, folder, SHORT), SHORT - 1)
    seconds = [row["seconds"] for row in saved(checkpoints(folder)[-1])["history"]]
    seconds.append(json.loads((folder / "metrics.json").read_text())["seconds"])
    assert all(0 <= s < 3600 for s in seconds), seconds  # less than the clock was set back
    assert_as_uninterrupted(folder, straight[SHORT])


def test_a_folder_may_have_any_name(children, straight, tmp_path):
    folder = tmp_path / "mes réseaux/试验 \"1\" $HOME/[a-b]* 'x' %s {0}\\n;#"
    children.run(lesson, folder, 2)
    assert went_on_after(children.run(lesson, folder), 2)
    assert_as_uninterrupted(folder, straight[SHORT])
    assert json.loads((folder / "params.json").read_text())["run_dir"] == str(folder)


def load_as_nobody(drop, folder, content):
    from genlib import data
    from genlib.data import sources

    "".encode("cp437")  # zipfile's, to be imported while Python's folder can be read
    exec(drop)
    for name in ("new", "mnist.npz"):
        with contextlib.suppress(PermissionError):
            (folder / name).open("ab").close()
            sys.exit(f"{folder / name} can be written")
    sources.DATASETS["mnist"]["content"] = content
    os.environ["GENLIB_DATA"] = str(folder)
    print(data.load_images("mnist"))


def test_images_load_from_a_folder_that_cannot_be_written(children, nobody, small_mnist):
    from genlib.data import sources

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own is its user's alone
        folder = Path(folder)
        np.savez(folder / "mnist.npz", **small_mnist)
        (folder / "mnist.npz").chmod(0o444)
        folder.chmod(0o555)
        content = sources.DATASETS["mnist"]["content"]
        said = children.run(load_as_nobody, nobody, folder, content)
        folder.chmod(0o755)
        assert said.startswith("mnist: 50 training, 10 validation and 10 test images")
        assert [path.name for path in folder.iterdir()] == ["mnist.npz"]


def lesson_without_network(folder, epochs):
    """Where it is allowed, in a network of its own, without any device that is up."""

    def hook(event, arguments):
        if event.startswith("socket.") and event != "socket.gethostname":
            print(f"{event} was tried: {arguments}")

    sys.addaudithook(hook)
    alone = not ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET
    lesson(folder, epochs)
    if alone:
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
        for device, counts in (line.split(":") for line in lines):
            print(device.strip(), "moved", sum(map(int, counts.split())), "bytes and packets")


def test_training_saving_and_resuming_open_no_socket_and_move_no_byte(children, straight, tmp_path):
    folder = tmp_path / "run"
    said = [children.run(lesson_without_network, folder, epochs) for epochs in (2, SHORT)]
    assert went_on_after(said[1], 2)
    for text in said:
        assert "was tried" not in text
        moved = [line for line in text.splitlines() if " moved " in line]
        assert all("moved 0 bytes" in line for line in moved), moved
        if sys.platform == "linux" and os.geteuid() == 0:
            assert moved or "CI" in os.environ, "no network of its own"
    assert_as_uninterrupted(folder, straight[SHORT])
