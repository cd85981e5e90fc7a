"""What this machine can do, what is wrong with it, and the command that mends it."""

import os
import platform
import shutil
import sys

from genlib import ROOT, UserError
from genlib.data import checkpoints
from genlib.data.sources import CACHE, DATASETS, TEXTS, find, verify

MIN_MEMORY, MIN_DISK = 4, 1  # GiB that the lessons need at their default scale


def examine():
    """Return a list of (topic, finding, remedy); an empty remedy means that all is well.

    A remedy that starts with "optional: " mends something that no lesson stands on.
    """
    return [_python(), *_backend(), _memory(), _disk(), _kernel(), *_data(), *_checkpoints()]


def report():
    """Print one screen. Returns 0 if every lesson can run here, else 1."""
    findings, broken = examine(), 0
    for topic, finding, remedy in findings:
        optional = remedy.startswith("optional: ")
        mark = "✓" if not remedy else "·" if optional else "✗"
        broken += bool(remedy) and not optional
        print(f"{mark} {topic:14}{finding}")
        if remedy:
            print(f"{'':16}→ {remedy.removeprefix('optional: ')}")
    print("\nEvery lesson can run here." if not broken else f"\n{broken} to mend before a lesson.")
    return int(broken > 0)


def _python():
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = "" if good else "install Python 3.11, 3.12 or 3.13, then: make run PYTHON=python3.12"
    return (
        "Python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        remedy,
    )


def _backend():
    try:
        from genlib.runs.run import environment

        facts = environment()
    except (UserError, ImportError) as error:
        return [("backend", str(error), "make install")]
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if k != "python")
    return [("backend", f"{facts['backend']} ({versions})", ""), ("device", facts["device"], "")]


def _memory():
    import psutil

    free, total = (
        v / 2**30 for v in (psutil.virtual_memory().available, psutil.virtual_memory()[0])
    )
    remedy = "close other kernels and programs" if free < MIN_MEMORY else ""
    return "memory", f"{free:.1f} of {total:.1f} GiB free, {os.cpu_count()} cores", remedy


def _disk():
    free = shutil.disk_usage(ROOT).free / 2**30
    writable = os.access(ROOT, os.W_OK)
    finding = f"{free:.1f} GiB free, {'writable' if writable else 'not writable'}"
    if not writable:
        return "disk", finding, "clone into a folder of your own, or give every run a run_dir"
    return "disk", finding, "make clean, or free some space" if free < MIN_DISK else ""


def _kernel():
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return "kernel", "there is no kernel named python3", "make install"
    ours = os.path.basename(command).startswith("python") and (
        os.path.dirname(command) in ("", os.path.dirname(sys.executable))
    )
    remedy = "" if ours else "start Jupyter by `make lab`, which uses the course's environment"
    return "kernel", f"python3 → {'this environment' if ours else command}", remedy


def _data():
    findings = []
    for name in (*DATASETS, *TEXTS):
        if name == "digits":
            findings.append(("digits", "bundled with scikit-learn", ""))
            continue
        path = find(name)
        if path is None:
            fetch = f"optional: genlib data fetch {name}"
            findings.append((name, "not on this machine (lessons can run without)", fetch))
            continue
        try:
            verify(name, path)
            findings.append((name, f"{path.name} in {_place(path.parent)}", ""))
        except UserError as error:
            findings.append((name, "damaged", str(error)))
    return findings


def _place(folder):
    if folder == CACHE:
        return "data/cache"
    return "GENLIB_DATA" if str(folder) == os.environ.get("GENLIB_DATA") else "Keras's cache"


def _checkpoints():
    try:
        names, findings = checkpoints.manifest(), []
    except UserError as error:
        return [("checkpoints", "their list is not usable", str(error))]
    for name in names:
        try:
            checkpoints.path(name)
        except UserError as error:
            findings.append(("checkpoint", f"{name} is not usable", str(error)))
    return findings or [("checkpoints", f"{len(names)} intact", "")]
