"""How papermill executes a lesson here: with its last printed line in view, and with a time-out."""

import sys
import tempfile
import time

import papermill
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from traitlets.config import Config


class _Client(PapermillNotebookClient):
    def process_message(self, *args, **kwargs):
        output = super().process_message(*args, **kwargs)
        if self.nb_man.pbar and output and output.output_type == "stream":
            lines = [line for line in output.text.splitlines() if line.strip()]
            if lines:
                self.nb_man.pbar.set_postfix_str(lines[-1].strip()[:60], refresh=False)
                self.nb_man.pbar.update(0)  # draws it, if the last time is long enough ago
        return output


class _Lessons(Engine):
    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, seconds=None, config=None, **_):
        end = None if seconds is None else time.monotonic() + seconds

        def remaining(cell):
            return None if end is None else max(1.0, end - time.monotonic())

        client = _Client(nb_man, kernel_name=kernel_name, timeout_func=remaining, config=config)
        return client.execute()


papermill_engines.register("lessons", _Lessons)


def execute(path, output, parameters, progress=True, timeout=None):
    """Execute the notebook ``path`` with ``parameters`` into the file ``output``.

    progress: show a bar of cells with the lesson's last line. timeout: seconds for the whole.
    Raises what papermill and nbclient raise; ``output`` then holds the notebook up to there.
    """
    # A file that keeps what a terminal would draw over gets a line in ten seconds.
    bar = {"desc": path.stem, "miniters": 0, "mininterval": 0.1 if sys.stderr.isatty() else 10}
    with tempfile.TemporaryDirectory() as sockets:
        # Sockets in a folder of their own: no race for ports, and nobody on the network can listen.
        kernel = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        papermill.execute_notebook(
            str(path),
            str(output),
            parameters=parameters,
            kernel_name="python3",
            engine_name="lessons",
            progress_bar=progress and bar,
            config=kernel,
            seconds=timeout,
        )
