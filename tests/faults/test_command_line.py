"""Every mistake in a command is one sentence on stderr and status 2, and leaves nothing behind.

No kernel may start for any of them: what a command says wrong is known before a lesson runs.
"""

import json
import math

import pytest

from genlib import cli
from genlib.data import sources
from genlib.runs import execution, lessons, sweep
from genlib.runs.params import declared

LESSONS = lessons.lessons()

# Arguments of the command, and words of the sentence. {tmp} is a folder with what `files` makes.
TABLE = [
    ("", "COMMAND"),
    ("rnu 02", "'rnu'"),
    ("--verbose", "COMMAND"),
    # run
    ("run", "lesson"),
    ("run 2", "there is no lesson '2'"),
    ("run 02_gna", "Did you mean '02_gan'?"),
    ("run 13", "there is no lesson '13'"),
    ("run ../02_gan", "there is no lesson '../02_gan'"),
    ("run nope --help", "there is no lesson 'nope'"),
    ("run 02 -p", "-p"),
    ("run 02 -p epochs", "-p"),
    ("run 02 -p epoch 3", "'epoch' is not a parameter", "Did you mean 'epochs'?"),
    ("run 02 -p epochs -1", "epochs='-1' is not allowed: give a whole number from 0 to 1,000"),
    ("run 02 -p epochs 2.5", "epochs='2.5' is not allowed"),
    ("run 02 -p epochs nan", "epochs='nan' is not allowed"),
    ("run 02 -p epochs 1e400", "epochs='1e400' is not allowed"),
    ("run 02 -p epochs ten", "epochs='ten' is not allowed"),
    ("run 02 -p learning_rate 1", "learning_rate='1' is not allowed: give a number from 1e-06"),
    ("run 02 -p learning_rate -0.5", "learning_rate='-0.5' is not allowed"),
    ("run 02 -p learning_rate inf", "learning_rate='inf' is not allowed"),
    ("run 02 -p pretrained maybe", "pretrained='maybe' is not allowed: give true or false"),
    ("run 02 -p seed -1", "seed='-1' is not allowed"),
    ("run 02 -p seed $(reboot)", "seed='$(reboot)' is not allowed"),
    ("run 02 -p __import__('os') 1", "is not a parameter of this lesson"),
    ("run 02 --preset fast", "'fast'"),
    ("run 02 --preset gpu", "--preset gpu needs a GPU"),
    ("run 02 --timeout 0", "--timeout='0' is not allowed"),
    ("run 02 --timeout soon", "--timeout='soon' is not allowed"),
    ("run 02 -f {tmp}/nowhere.yaml", "nowhere.yaml is not a readable YAML file"),
    ("run 02 -f {tmp}", "is not a readable YAML file"),
    ("run 02 -f {tmp}/list.yaml", "list.yaml must hold lines `name: value`"),
    ("run 02 -f {tmp}/broken.yaml", "broken.yaml is not a readable YAML file"),
    ("run 02 -f {tmp}/binary.yaml", "binary.yaml is not a readable YAML file"),
    ("run 02 -f {tmp}/unsafe.yaml", "unsafe.yaml is not a readable YAML file"),
    ("run 02 -f {tmp}/other.yaml", "'epoch' is not a parameter"),
    ("run 02 -f {tmp}/high.yaml", "epochs=5000 is not allowed"),
    ("run 02 --grid epochs=1", "--grid"),
    # sweep
    ("sweep", "lesson"),
    ("sweep 99", "there is no lesson '99'"),
    ("sweep all --seeds 2", "there is no lesson 'all'"),
    ("sweep 02 --grid", "--grid"),
    ("sweep 02 --grid epochs", "--grid epochs: give NAME=VALUES"),
    ("sweep 02 --grid epochs=", "--grid epochs=: give NAME=VALUES"),
    ("sweep 02 --grid =1,2", "--grid =1,2: give NAME=VALUES"),
    ("sweep 02 --grid epochs=1,,2", "epochs='' is not allowed"),
    ("sweep 02 --grid epochs=1,2000", "epochs='2000' is not allowed"),
    ("sweep 02 --grid epoch=1,2", "Did you mean 'epochs'?"),
    ("sweep 02 --grid epochs=1 epochs=2", "--grid names epochs twice"),
    ("sweep 02 --grid epochs=1,2 -p epochs 3", "epochs is swept and also given one value"),
    ("sweep 02 --grid run_dir=a,b", "run_dir cannot be swept"),
    ("sweep 02 --grid seed=1,2 --seeds 2", "seed cannot be swept"),
    ("sweep 02 --seeds 0", "seeds='0' is not allowed"),
    ("sweep 02 --seeds many", "seeds='many' is not allowed"),
    ("sweep 02 --seeds 1000000", "seeds='1000000' is not allowed"),
    ("sweep 02 --random learning_rate=1:2", "the number of draws="),
    ("sweep 02 --random 3", "the number of draws='3' is not allowed"),
    ("sweep 02 --random 3 learning_rate", "--random learning_rate: give NAME=VALUES"),
    ("sweep 02 --random 3 learning_rate=0.1", "learning_rate=0.1 is no range"),
    ("sweep 02 --random 3 learning_rate=0.01:0.001", "learning_rate=0.01:0.001 is no range"),
    ("sweep 02 --random 3 learning_rate=0.001:0.01:lgo", "0.001:0.01:lgo is no range"),
    ("sweep 02 --random 3 learning_rate=1:2:log:e", "learning_rate=1:2:log:e is no range"),
    ("sweep 02 --random 3 limit=0:10:log", "limit=0:10:log is no range"),
    ("sweep 02 --random 3 dataset=a:b", "dataset is no number"),
    ("sweep 02 --jobs 0 --seeds 2", "jobs='0' is not allowed"),
    ("sweep 02 --jobs two --seeds 2", "jobs='two' is not allowed"),
    ("sweep 02 --jobs 2 --scheduler tcp://127.0.0.1:9", "--jobs is for this machine"),
    ("sweep 02 --scheduler here", "no Dask cluster is at work at 'here'"),
    ("sweep 02 --run-dir {tmp}", "holds other files"),
    ("sweep 02 --run-dir {tmp}/list.yaml", "list.yaml"),
    ("sweep 02 -p run_dir {tmp}/a", "give the sweep's by --run-dir"),
    # compare
    ("compare", "there is no run to compare"),
    ("compare {tmp}/nowhere", "nowhere does not exist"),
    ("compare {tmp}", "it has no metrics.json"),
    ("compare {tmp}/sweep", "sweep has finished"),
    ("compare {tmp}/sweep {tmp}/nowhere", "sweep"),
    ("compare {tmp} --figure a.jpg", "must end in .png"),
    # data
    ("data", "VERB"),
    ("data lst", "'lst'"),
    ("data fetch minst", "Did you mean 'mnist'?"),
    ("data fetch mnist", "GENLIB_OFFLINE=1 forbids a download"),
    ("data verify minst", "no dataset 'minst'"),
    ("data export", "FILE.zip"),
    ("data export {tmp}/class.tar", "must end in .zip"),
    ("data export {tmp}/class.zip minst", "Did you mean 'mnist'?"),
    ("data export {tmp}/class.zip mnist", "dataset 'mnist' is not on this machine"),
    ("data export {tmp}/class.zip", "cannot be packed"),
    ("data import {tmp}/nowhere.zip", "cannot be imported"),
    ("data import {tmp}/list.yaml", "cannot be imported"),
    ("data import {tmp}", "cannot be imported"),
]

FILES = {
    "list.yaml": b"- epochs\n- 3\n",
    "broken.yaml": b"epochs: [1, 2\n",
    "binary.yaml": b"\xff\xfe\x00\x01",
    "unsafe.yaml": b"epochs: !!python/object/apply:os.system ['true']\n",
    "other.yaml": b"epoch: 3\n",
    "high.yaml": b"epochs: 5000\n",
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of bad files; the clone's own folders are in it too, and nothing may be executed."""
    folder = tmp_path / "mine"
    (folder / "sweep").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    about = {"schema": 1, "lesson": "02_gan", "code": "", "preset": None, "values": {}, "swept": []}
    (folder / "sweep" / "sweep.json").write_text(json.dumps(about))
    for module in (lessons, sweep):
        monkeypatch.setattr(module, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(sources, "CACHE", tmp_path / "clone" / "cache")
    monkeypatch.setattr(lessons, "gpus", lambda: [])
    monkeypatch.setattr(execution, "execute", lambda *_: pytest.fail("a kernel was started"))
    monkeypatch.chdir(tmp_path)
    return folder


def listing(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def sentence_of(capsys, arguments):
    """What a command that must fail with status 2 says."""
    try:
        status = cli.main(arguments)
    except SystemExit as end:  # of argparse
        status = end.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "", out
    assert err.startswith("genlib: ") and err.endswith((".\n", "?\n")) and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("command, words", [(c, w) for c, *w in TABLE], ids=[c[0] for c in TABLE])
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    files, tmp_path, capsys, command, words
):
    before = listing(tmp_path)
    said = sentence_of(capsys, [part.format(tmp=files) for part in command.split()])
    assert all(word in said for word in words), said
    assert listing(tmp_path) == before


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_parameter_of_every_lesson_refuses_what_its_help_rules_out(files, capsys, lesson):
    tried = 0
    for name, known in declared(LESSONS[lesson]).items():
        wrong = ["", "many", "1e999"] if known.kind in (int, float) else []
        wrong += ["", "perhaps"] if known.kind is bool else []
        wrong += ["1.5"] if known.kind is int else []
        if known.allowed and known.kind in (int, float):
            low, high = min(known.allowed), max(known.allowed)  # of a range, or of choices
            step = 1 if known.kind is int else math.ulp(high)
            wrong += [str(low - 1), str(high + step)]
        for value in wrong:
            said = sentence_of(capsys, ["run", lesson, "-p", name, value])
            assert said.startswith(f"genlib: {name}={value!r} is not allowed: give "), said
            tried += 1
    assert tried >= 6


def test_the_table_is_long_enough_and_has_no_line_twice():
    assert len({command for command, *_ in TABLE}) == len(TABLE) >= 60
    assert {verb.split()[0] for verb, *_ in TABLE if verb} >= {"run", "sweep", "compare", "data"}
