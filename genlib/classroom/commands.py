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

    course = commands.add_parser("class", help="hand out, grade and give back the exercises")
    verbs = course.add_subparsers(required=True, metavar="VERB")

    release = verbs.add_parser("release", help="one zip of exercises without their solutions")
    release.add_argument("lessons", nargs="+", help="names or numbers, such as 02 03")
    release.add_argument("--due", help="such as '2026-12-01 18:00'; later ones are marked")
    release.set_defaults(action=_release)

    grade = verbs.add_parser("grade", help="grade a folder of submissions, each in a box")
    grade.add_argument("folder", help="holds a folder <id>_<name> for each learner")
    grade.add_argument("--roster", help="CSV of all learners: id, name")
    grade.add_argument("--jobs", type=int, help="how many at once (default: the cores)")
    grade.add_argument("--seconds", type=float, default=300, help="limit of one submission")
    grade.add_argument("--cell-seconds", type=float, default=60, help="limit of one cell")
    grade.add_argument("--memory", type=float, default=4, help="limit of one submission, in GB")
    grade.add_argument(
        "--no-isolation", action="store_true", help="where the machine itself is the box"
    )
    grade.set_defaults(action=_grade)

    feedback = verbs.add_parser("feedback", help="a page for each graded submission")
    feedback.set_defaults(action=_feedback)

    export = verbs.add_parser("export", help="all grades as CSV")
    export.add_argument("csv", help="the file, such as grades.csv")
    export.set_defaults(action=_export)
    for verb in (release, grade, feedback, export):
        verb.add_argument("--class-folder", default=".", help="of the class (default: here)")


def _exercise(options):
    from genlib.classroom import exercises

    path = exercises.hand_out(options.lesson, options.folder, options.solution)
    print(path, flush=True)
    return None if options.no_open else exercises.open_lab(path)


def _release(options):
    from genlib.classroom import gradebook

    print(gradebook.release(options.lessons, options.class_folder, options.due))


def _grade(options):
    from genlib.classroom import gradebook

    table = gradebook.grade(
        options.folder,
        options.class_folder,
        roster=options.roster,
        jobs=options.jobs,
        isolated=not options.no_isolation,
        seconds=options.seconds,
        cell_seconds=options.cell_seconds,
        memory=options.memory,
    )
    print(table.drop(columns="submitted").to_string(index=False, max_colwidth=70))


def _feedback(options):
    from genlib.classroom import gradebook

    written = gradebook.feedback(options.class_folder)
    print(f"{written} pages in {options.class_folder}/feedback")


def _export(options):
    from genlib.classroom import gradebook
    from genlib.files import write

    table = gradebook.grades(options.class_folder)
    write(options.csv, table.to_csv(index=False))
    print(f"{len(table)} rows in {options.csv}")
