"""The commands of learners and classes, as parts of ``genlib``'s command line."""


def add_to(commands):
    """Add them to argparse's subparsers."""
    exercise = commands.add_parser("exercise", help="exercises to a lesson, checked at once")
    exercise.add_argument("lesson", help="its name or number, such as 02_gan or 02")
    exercise.add_argument(
        "--solution", action="store_true", help="with its answers, to read afterwards"
    )
    exercise.add_argument("--folder", default="my", help="where your copy goes (default: my)")
    exercise.add_argument("--no-open", action="store_true", help="do not start JupyterLab")
    exercise.set_defaults(action=_exercise)


def _exercise(options):
    from genlib.classroom import exercises

    path = exercises.hand_out(options.lesson, options.folder, options.solution)
    print(path, flush=True)
    return None if options.no_open else exercises.open_lab(path)
