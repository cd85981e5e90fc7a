"""The command ``genlib``: arguments in, one sentence for a mistake, an exit status out.

0: done. 1: a lesson failed, or the doctor found something to mend. 2: the command was wrong.
"""

import argparse
import sys
from pathlib import Path

import yaml

from genlib import UserError


def main(arguments=None):
    """Run the command line. Returns the exit status."""
    from genlib.runner import LessonFailed

    options = _parser().parse_args(arguments)
    try:
        return options.action(options) or 0
    except UserError as error:
        print(f"genlib: {error}", file=sys.stderr)
        return 2
    except LessonFailed as error:
        print(f"genlib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("genlib: stopped", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="genlib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what this machine can do, and what is wrong")
    doctor.set_defaults(action=_doctor)

    data = commands.add_parser("data", help="list, fetch or verify the datasets")
    data.add_argument("verb", choices=("list", "fetch", "verify"))
    data.add_argument("names", nargs="*", metavar="NAME", help="datasets (default: all)")
    data.set_defaults(action=_data)

    run = commands.add_parser("run", help="run a lesson, or all, through papermill")
    run.add_argument("lesson", help='its name or number, such as 02_gan or 02; or "all"')
    run.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        dest="values",
        help="set a parameter of the lesson; can be repeated",
    )
    run.add_argument("-f", metavar="FILE", dest="file", help="a YAML file of parameters")
    run.add_argument("--preset", choices=("quick", "gpu"), help="notebooks/params/<preset>")
    run.add_argument("--run-dir", help="where the run goes (default: runs/…)")
    run.set_defaults(action=_run)

    compare = commands.add_parser("compare", help="any number of runs in one table and one figure")
    compare.add_argument("runs", nargs="*", metavar="RUN", help="run folders, such as runs/*")
    compare.add_argument("--csv", metavar="FILE", help="write the table as CSV, numbers in full")
    compare.add_argument("--markdown", metavar="FILE", help="write the table in Markdown")
    compare.add_argument("--figure", metavar="FILE", help="draw the runs and their samples, a PNG")
    compare.add_argument("--metric", metavar="NAME", help="compare this one alone, such as fcd")
    compare.set_defaults(action=_compare)
    return parser


def _doctor(options):
    from genlib.doctor import report

    return report()


def _data(options):
    from genlib import sources

    known = [name for name in (*sources.DATASETS, *sources.TEXTS) if name != "digits"]
    for name in options.names:
        if name not in known:
            from genlib import nearest

            raise UserError(f"no dataset {name!r} ({', '.join(known)}).{nearest(name, known)}")
    for name in options.names or known:
        path = sources.find(name)
        if options.verb == "fetch":
            print(f"{name}: {path or sources.fetch(name)}")
        elif options.verb == "verify" and path:
            print(f"{name}: {sources.verify(name, path)}  {path}")
        else:
            print(f"{name}: {path or 'not on this machine'}")


def _run(options):
    from genlib import runner

    values = _read_yaml(options.file) | dict(options.values)
    if options.lesson == "all":
        return int(runner.run_all(options.preset, values, options.run_dir) > 0)
    folder = runner.run_lesson(options.lesson, values, options.preset, options.run_dir)
    print(f"{runner.headline(folder)}\nThe run: {folder}")


def _compare(options):
    from genlib import compare

    compare.report(options.runs, options.metric, options.csv, options.markdown, options.figure)


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
