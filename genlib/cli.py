"""The command ``genlib``: arguments in, one sentence for a mistake, an exit status out.

0: done. 1: a lesson failed, or something is to be mended. 2: the command was wrong. 130: Ctrl-C.
"""

import argparse
import os
import sys
from pathlib import Path

import yaml

from genlib import UserError
from genlib.classroom import commands as classroom


def main(arguments=None):
    """Run the command line. Returns the exit status."""
    from genlib.runs.lessons import LessonFailed

    options = _parser().parse_args(arguments)
    try:
        return int(options.action(options) or 0)
    except UserError as error:
        print(f"genlib: {error}", file=sys.stderr)
        return 2
    except LessonFailed as error:
        print(f"genlib: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("genlib: stopped", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"genlib: {message}; `{self.prog} --help` says more.\n")


def _parser():
    parser = _Parser(
        prog="genlib",
        description=__doc__.splitlines()[0],
        epilog="Exit status: " + __doc__.splitlines()[2],
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what this machine can do, and what is wrong")
    doctor.set_defaults(action=_doctor)

    data = commands.add_parser("data", help="list, fetch, verify, export or import the data")
    verbs = data.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, told in (
        ("list", "where each dataset is on this machine"),
        ("fetch", "download what is not here"),
        ("verify", "check the datasets and the shipped checkpoints by their hashes"),
        ("export", "pack datasets, for machines without a network"),
        ("import", "place what an archive holds, once all of it is verified"),
    ):
        one = verbs.add_parser(verb, help=told, description=told)
        if verb in ("export", "import"):
            one.add_argument("file", metavar="FILE.zip", help="the archive")
        if verb != "import":
            one.add_argument("names", nargs="*", metavar="NAME", help="datasets (default: all)")
    data.set_defaults(action=_data)

    run = commands.add_parser(
        "run",
        add_help=False,
        help="run a lesson, or all, through papermill",
        epilog="genlib run LESSON --help lists the lesson's parameters.",
    )
    run.add_argument("-h", "--help", action=_HelpOnRun, help="show this, or a lesson's parameters")
    _add_lesson(run, 'its name or number, such as 02_gan or 02; or "all"')
    run.add_argument("--run-dir", help="where the run goes (default: runs/…)")
    run.add_argument("--jobs", metavar="N", help="lessons at once, of all (default: cores + 1)")
    run.set_defaults(action=_run)

    sweep = commands.add_parser("sweep", help="many runs of a lesson, on this machine or a cluster")
    _add_lesson(sweep, "its name or number, such as 02_gan or 02")
    sweep.add_argument(
        *("--grid", "-g"),
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=A,B,…",
        help="values of a parameter; of several, each with each",
    )
    sweep.add_argument(
        "--random",
        nargs="+",
        default=[],
        metavar=("N", "NAME=LOW:HIGH[:log]"),
        help="draw the parameters together, N times",
    )
    sweep.add_argument("--seeds", default=1, metavar="K", help="each with K seeds (default: 1)")
    sweep.add_argument("--jobs", metavar="N", help="runs at once (default: by cores and memory)")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="a Dask cluster that runs already")
    sweep.add_argument("--run-dir", help="the sweep's folder (default: runs/sweeps/LESSON)")
    sweep.add_argument("--dry-run", action="store_true", help="list the runs and stop")
    sweep.set_defaults(action=_sweep)

    classroom.add_to(commands)

    compare = commands.add_parser("compare", help="any number of runs in one table and one figure")
    compare.add_argument("runs", nargs="*", metavar="RUN", help="run folders, such as runs/*")
    compare.add_argument("--csv", metavar="FILE", help="write the table as CSV, numbers in full")
    compare.add_argument("--markdown", metavar="FILE", help="write the table in Markdown")
    compare.add_argument("--figure", metavar="FILE", help="draw the runs and their samples, a PNG")
    compare.add_argument("--metric", metavar="NAME", help="compare this one alone, such as fcd")
    compare.set_defaults(action=_compare)
    return parser


def _add_lesson(parser, text):
    """The arguments that ``run`` and ``sweep`` share."""
    parser.add_argument("lesson", help=text)
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        dest="values",
        help="set a parameter of the lesson; can be repeated",
    )
    parser.add_argument("-f", metavar="FILE", dest="file", help="a YAML file of parameters")
    parser.add_argument("--preset", choices=("quick", "gpu"), help="notebooks/params/<preset>")
    parser.add_argument("--timeout", metavar="SECONDS", help="seconds that a run may take")


class _HelpOnRun(argparse.Action):
    """``run --help`` is about the command, ``run LESSON --help`` about the lesson."""

    def __init__(self, option_strings, dest, help=None):
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        from genlib.runs import lessons

        lesson = getattr(namespace, "lesson", None)
        if lesson in (None, "all"):
            parser.print_help()
        else:
            try:
                print(lessons.describe(lesson))
            except UserError as error:
                parser.exit(2, f"genlib: {error}\n")
        parser.exit()


def _doctor(options):
    from genlib.doctor import report

    return report()


def _data(options):
    from genlib import nearest
    from genlib.data import archive, sources

    if options.verb == "import":
        return print("imported:", ", ".join(archive.unpack(options.file)))
    known = sources.DOWNLOADED
    for name in options.names:
        if name not in known:
            raise UserError(f"no dataset {name!r} ({', '.join(known)}).{nearest(name, known)}")
    if options.verb == "verify":
        return _verify(options.names)
    if options.verb == "export":
        for name, size in archive.export(options.file, options.names).items():
            print(f"{name}: {size:,} bytes")
        known = [name for name in known if not sources.find(name)]  # say what is not packed
    for name in options.names or known:
        path = sources.find(name)
        if options.verb == "fetch":
            print(f"{name}: {path or sources.fetch(name)}")
        elif options.verb == "list" or not path:
            print(f"{name}: {path or 'not on this machine'}")


def _verify(names):
    """Print the hash of each dataset that is here, and without names of each shipped checkpoint, or
    what is wrong with it. Returns whether anything is."""
    from genlib.data import checkpoints, sources

    def dataset(name):
        path = sources.find(name)
        return f"{sources.verify(name, path)}  {path}" if path else "not on this machine"

    def checkpoint(name):
        return f"{shipped[name]['sha256']}  {checkpoints.path(name)}"

    shipped, wrong = {} if names else checkpoints.manifest(), False
    checks = dict.fromkeys(names or sources.DOWNLOADED, dataset)
    for name, check in (checks | dict.fromkeys(shipped, checkpoint)).items():
        try:
            print(f"{name}: {check(name)}")
        except UserError as error:
            print(f"{name}: {error}")
            wrong = True
    return wrong


def _run(options):
    from genlib.runs import course, lessons

    values, timeout = _values(options), _timeout(options)
    if options.lesson == "all":
        return course.run_all(options.preset, values, options.run_dir, timeout, options.jobs) > 0
    if options.jobs is not None:
        raise UserError("--jobs is for `genlib run all`; one lesson is one run.")
    folder = lessons.run_lesson(
        options.lesson, values, options.preset, options.run_dir, timeout=timeout
    )
    print(f"{lessons.headline(folder)}\nThe run: {folder}")


def _sweep(options):
    from genlib.runs import sweep

    n_random, *ranges = options.random or [0]
    planned = sweep.Sweep(
        options.lesson,
        {name: text.split(",") for name, text in _pairs("--grid", options.grid)},
        {name: text.split(":") for name, text in _pairs("--random", ranges)},
        n_random,
        options.seeds,
        options.preset,
        _values(options),
        options.run_dir,
    )
    if options.dry_run:
        return print(sweep.outline(planned))
    lines = planned.execute(options.jobs, options.scheduler, timeout=_timeout(options))
    print(sweep.conclude(planned, lines))
    return any(line["error"] for line in lines.values())


def _compare(options):
    from genlib.runs import aggregate, compare

    files = (options.metric, options.csv, options.markdown, options.figure)
    if len(options.runs) == 1 and (Path(options.runs[0]).expanduser() / "sweep.json").exists():
        aggregate.report(options.runs[0], *files)
    else:
        compare.report(options.runs, *files)


def _values(options):
    return _read_yaml(options.file) | dict(options.values)


def _timeout(options):
    from genlib.runs.params import coerce

    if options.timeout is not None:
        return coerce("--timeout", options.timeout, float, (1, 10**7))


def _pairs(option, arguments):
    """[(name, text)] of arguments NAME=TEXT."""
    pairs = [argument.partition("=") for argument in arguments]
    for name, sign, text in pairs:
        if not name or not sign or not text:
            raise UserError(f"{option} {name}{sign}{text}: give NAME=VALUES, without spaces.")
    names = [name for name, _, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{option} names {name} twice; give all its values at once.")
    return [(name, text) for name, _, text in pairs]


def _read_yaml(file):
    if file is None:
        return {}
    try:
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())  # YAML's errors have several lines
        raise UserError(f"{file} is not a readable YAML file ({reason}).") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} must hold lines `name: value`.")
    return values


if __name__ == "__main__":
    sys.exit(main())
