"""Foreign code in a box: a kernel that sees only Python, the course and an empty folder.

By the namespaces of Linux (``unshare``, of util-linux): a root directory of its own in which all
but a small memory file system is read-only, no network, no other process. Limits on memory, files
and processes are the kernel's rlimits; limits on seconds and on output are set from outside.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from traitlets import Bool, Float, default

from genlib import ROOT, UserError
from genlib.runs.sweep import THREADS

MOST_OUTPUT = 100_000  # characters of a cell
SHOWN = ("text/plain", "image/png")  # an output of HTML could act in the teacher's browser

# $1: the folder where kernel and grader meet; then what may be read; after --, the command. Made by
# the root user of a namespace of its own, and then left to a user who is none.
BOX = r"""
set -e
meet=$1; shift
new="$meet/root"; mkdir "$new"
mount -t tmpfs -o size=512m,mode=755 box "$new"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$new$1"; else mkdir -p "$new${1%/*}"; : > "$new$1"; fi
    mount --rbind "$1" "$new$1"; shift
done; shift
awk '{print $5}' /proc/self/mountinfo | while read -r point; do case "$point" in
    "$new"/*) point=$(echo "$point" | sed 's/\\/\\0/g')  # a space is told as \040
        mount -o remount,bind,ro,nosuid "$(printf '%b' "$point")";;
esac; done
mkdir -p "$new/proc" "$new/dev/shm" "$new/tmp" "$new/submission" "$new/old" "$new$meet"
mount -t proc proc "$new/proc"
for device in null zero full random urandom; do
    : > "$new/dev/$device"; mount --bind "/dev/$device" "$new/dev/$device"
done
mount --bind "$meet" "$new$meet"
cd "$new"; pivot_root . old; umount -l /old; cd /submission
exec prlimit --fsize=100000000 --nproc=1000 --core=0 \
    unshare --user env -i PATH="$PATH" HOME=/tmp USER=learner TMPDIR=/tmp \
    GENLIB_OFFLINE=1 KERAS_BACKEND="${KERAS_BACKEND:-tensorflow}" TF_CPP_MIN_LOG_LEVEL=3 \
    PYTHONDONTWRITEBYTECODE=1 "$@"
"""
NAMESPACES = "setpriv --pdeathsig KILL unshare --user --map-root-user --mount --net --ipc --uts"
NAMESPACES = (*NAMESPACES.split(), "--pid", "--fork", "--kill-child", "sh", "-c", BOX, "box")


def boxed(command, meet):
    """The command line that runs ``command``, a list, in a box. meet: an empty folder that both
    sides see."""
    python = {sys.prefix, *(str(Path(p).resolve()) for p in (sys.prefix, sys.base_prefix))}
    system = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
    read = [p for p in (*system, *python, f"{ROOT}/genlib", f"{ROOT}/data") if os.path.exists(p)]
    read = [p for p in read if not any(p.startswith(f"{other}/") for other in read)]
    threads = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    return [*NAMESPACES, str(meet), *read, "--", "env", *threads, *command]


def possible():
    """Raise ``UserError`` where this machine cannot make a box."""
    with tempfile.TemporaryDirectory() as meet:
        command = boxed([sys.executable, "-c", "import genlib"], meet)
        try:
            tried = subprocess.run(command, capture_output=True, text=True)
            why = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        except FileNotFoundError as error:
            tried, why = None, f"{error.filename} is not installed"
    if tried is None or tried.returncode:
        raise UserError(
            f"this machine cannot isolate submissions ({why}); grade on a Linux that allows user "
            "namespaces, or in a container without a network, there with --no-isolation."
        )


class Kernel(AsyncKernelManager):
    """A kernel that remembers what Python was like before the submission (``guard``)."""

    def format_kernel_cmd(self, extra_arguments=None):
        options = ["-f", self.connection_file, "--HistoryManager.hist_file=:memory:"]
        return [sys.executable, "-m", "genlib.classroom.guard", *options]


class BoxedKernel(Kernel):
    """The same in a box, which sockets in a folder reach where no network is."""

    def __init__(self, **options):
        super().__init__(**options)
        self.meet = tempfile.mkdtemp(prefix="genlib")
        self.transport, self.ip = "ipc", f"{self.meet}/socket"
        self.connection_file = f"{self.meet}/kernel.json"

    def format_kernel_cmd(self, extra_arguments=None):
        command = super().format_kernel_cmd(extra_arguments)
        return boxed(command, self.meet)

    async def _async_cleanup_resources(self, restart=False):
        await super()._async_cleanup_resources(restart)
        shutil.rmtree(self.meet, ignore_errors=True)


class ExecuteForeign(Execute):
    """nbgrader's step that executes a submission, for code that nobody trusts.

    A check counts only if it came to its end, which a word tells that nobody knew before; and none
    does after the kernel died or the time was up. What is odd is kept in the notebook's metadata
    ("remarks"), as are the outputs of text and pictures, up to ``MOST_OUTPUT``.
    """

    isolated = Bool(True, help="whether in a box").tag(config=True)
    memory = Float(4, help="limit of memory in GB, of all processes").tag(config=True)
    seconds = Float(300, help="limit of time for all cells").tag(config=True)
    cell_seconds = Float(60, help="limit of time for a cell").tag(config=True)

    @default("timeout_func")
    def _timeout_func(self):
        return lambda cell: max(1, min(self.cell_seconds, self.deadline - time.monotonic()))

    def preprocess(self, nb, resources, km=None):
        self.remarks, self.over = [], None
        self.deadline = time.monotonic() + self.seconds
        self.kernel_manager_class = BoxedKernel if self.isolated else Kernel
        self.executed = threading.Event()
        threading.Thread(target=self._watch_memory, daemon=True).start()
        try:
            with tempfile.TemporaryDirectory(prefix="genlib") as folder:
                if not self.isolated:
                    resources["metadata"] = {**resources.get("metadata", {}), "path": folder}
                nb, resources = super().preprocess(nb, resources, km)
        finally:
            self.executed.set()
        nb.metadata["remarks"] = self.remarks
        nb.metadata.pop("widgets", None)
        return nb, resources

    def _watch_memory(self):
        """End the kernel when its processes together hold too much."""
        while not self.executed.wait(0.2):
            if self.km is None or not self.km.has_kernel:
                continue
            with contextlib.suppress(psutil.Error):  # processes come and go
                kernel = psutil.Process(self.km.provisioner.pid)
                all_of_it = [kernel, *kernel.children(recursive=True)]
                if sum(p.memory_info().rss for p in all_of_it) > self.memory * 2**30:
                    self.remark(f"more than {self.memory:g} GB of memory")
                    kernel.kill()

    def process_message(self, msg, cell, cell_index):
        self.printed += len(str(msg["content"])) if msg["msg_type"] != "status" else 0
        if self.printed > MOST_OUTPUT and msg["msg_type"] not in ("status", "error"):
            self.remark("output cut")
            # The end of a check is told in the last line of what it prints.
            if msg["msg_type"] != "stream" or self.proof not in msg["content"]["text"]:
                return None
        return super().process_message(msg, cell, cell_index)

    def remark(self, text):
        if text not in self.remarks:
            self.remarks.append(text)

    def preprocess_cell(self, cell, resources, index):
        facts, source = cell.metadata.get("nbgrader", {}), cell.source
        if cell.cell_type != "code" or not source.strip():
            return cell, resources
        is_check = facts.get("grade") and not facts.get("solution")
        self.printed, self.proof = 0, secrets.token_hex(16)
        if is_check:
            cell.source = (
                "__import__('sys').modules['genlib.classroom.guard'].intact()\n"
                f"{source}\nprint({self.proof!r})"
            )
        if not self.over and time.monotonic() > self.deadline:
            self.over = f"all {self.seconds:.0f} seconds were used up"
        try:
            if not self.over:
                cell, resources = super().preprocess_cell(cell, resources, index)
        except DeadKernelError:
            self.over = "Python ended in a cell (os._exit, or too much memory)"
        except CellTimeoutError:
            self.over = "a cell took too long and could not be interrupted"
        except (RuntimeError, OSError) as error:
            self.over = f"Python could not be reached in a cell ({type(error).__name__})"
        finally:
            cell.source = source
        if self.over:
            self.remark(self.over)
            cell.outputs = [_error("NotExecuted", self.over)]
        else:
            cell.outputs = self._kept(cell.outputs, is_check)
        return cell, resources

    def _kept(self, outputs, is_check):
        """What may stay of a cell's outputs, as what a check's have to say."""
        errors = [output for output in outputs if output.output_type == "error"]
        ended = False
        for output in outputs:
            if output.output_type == "stream":
                ended |= self.proof in output.text
                output.text = output.text.replace(f"{self.proof}\n", "")
            elif "data" in output:
                output.data = {kind: output.data[kind] for kind in SHOWN if kind in output.data}
        for error in errors:
            if error.ename == "CellTimeoutError":
                self.remark("a cell took too long")
            if error.ename == "Tampered":
                self.remark(f"tampered: {error.evalue}")
        if not is_check:
            return outputs
        # nbgrader takes a warning in a check for a failure, and a value for points.
        kept = [o for o in outputs if o.output_type == "stream" and o.text] + errors
        for output in kept:
            if output.output_type == "stream":
                output.name = "stdout"
        if not ended and not errors:
            kept.append(_error("NotExecuted", "this check did not come to its end"))
            self.remark("a check was ended before its end")
        return kept


def _error(name, text):
    return new_output("error", ename=name, evalue=text, traceback=[f"✗ {text}"])
