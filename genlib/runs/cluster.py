"""Tasks on Dask distributed: a local cluster of processes, or one that runs already."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time

import psutil

from genlib import UserError

PATIENCE = 300  # seconds that a scheduler that went away has for coming back
_GIGABYTES = 2  # of memory that a run takes, about; for the default number of jobs


def default_jobs(more=0):
    """As many runs at once as there are cores, and ``more``, and memory for."""
    memory = psutil.virtual_memory().available // (_GIGABYTES * 2**30)
    return max(1, min(cores() + more, memory))


def cores():
    """The cores that this process may use, by its affinity and its container's limits."""
    from dask.system import CPU_COUNT

    return CPU_COUNT


def threads(at_once, local):
    """Threads for each of ``at_once`` runs on this machine, so that they do not fight for cores.

    A job of a batch system or a pod sees its own cores alone (``local`` is False, and it has fewer
    than the machine): it does not share them.
    """
    alone = not local and cores() < os.cpu_count()
    return max(1, cores() // (1 if alone else at_once))


def die_with(parent):
    """End this process, a local worker, soon after ``parent`` (a process id) has died: a killed
    sweep must not leave workers that go on. Their kernels end themselves likewise."""
    global _watched
    if _watched is None:
        _watched = threading.Thread(target=_watch, args=(parent,), daemon=True)
        _watched.start()


_watched = None


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextlib.contextmanager
def connected(jobs=1, scheduler=None):
    """Yield a ``distributed.Client``: of ``jobs`` local processes, or of the scheduler's address.

    Raises ``UserError`` for an address where no scheduler answers or that has no worker.
    """
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            # A worker takes one run, and the next when it has ended: none waits behind a long one.
            one_each = dask.config.set({"distributed.scheduler.worker-saturation": 1.0})
            with _deaf_to_ctrl_c(), one_each:
                cluster = LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    memory_limit=None,  # it would watch the worker, not the kernel that takes it
                    dashboard_address="127.0.0.1:0",  # a port that is free
                    silence_logs=logging.CRITICAL,
                )
            yield stack.enter_context(Client(stack.enter_context(cluster)))
            return
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            with Client(scheduler, timeout=10) as client:
                client.wait_for_workers(1, timeout=60)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Dask cluster is at work at {scheduler!r} ({' '.join(str(error).split())}); "
                "give the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786, and "
                "start workers: dask worker ADDRESS --nthreads 1."
            ) from None
        yield stack.enter_context(Client(scheduler, timeout=PATIENCE))


@contextlib.contextmanager
def _deaf_to_ctrl_c():
    """Let the processes started here ignore Ctrl-C, which a terminal sends to all: this one ends
    them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def share(client):
    """The largest number of workers on one machine; a run gets its cores divided by it.

    Raises ``UserError`` for a worker with several threads: a run needs a process of its own.
    """
    hosts = {}
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        if worker["nthreads"] != 1:
            raise UserError(
                f"the worker {address} has {worker['nthreads']} threads, and each run needs a "
                "process of its own; start workers by: dask worker ADDRESS --nthreads 1 "
                "--nworkers N."
            )
        hosts[worker["host"]] = hosts.get(worker["host"], 0) + 1
    return max(hosts.values(), default=1)


def outcomes(client, function, tasks):
    """Call ``function`` with each value of ``tasks`` {key: arguments} on the cluster; yield
    (key, result or exception) as they end.

    A task of a worker that died goes to another one, at most three times (then the exception is
    ``distributed.KilledWorker``); what a restarted scheduler has forgotten is given to it again.
    Keys name the tasks on the cluster too, so that a client that comes back meets those that run.
    Raises ``UserError`` if the scheduler stays away.
    """
    futures = _submit(client, function, tasks)
    try:
        while futures:
            forgotten = {}
            for key, future in list(futures.items()):
                if future.status == "finished":
                    yield key, futures.pop(key).result()
                elif future.status == "error":
                    yield key, futures.pop(key).exception()
                elif future.status != "pending":
                    forgotten[key] = tasks[key]
            if forgotten:
                _wait_for(client)
                futures |= _submit(client, function, forgotten)
            time.sleep(0.1)
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone by now
            client.cancel(list(futures.values()), reason="the sweep was stopped")


def why(error):
    """What an exception that ``outcomes`` gave means, in a sentence."""
    if type(error).__name__ == "KilledWorker":
        return "its worker died four times while it ran, probably out of memory."
    return f"its worker could not run it ({type(error).__name__}: {error})."


def _submit(client, function, tasks):
    keys = list(tasks)
    if not keys:
        return {}
    futures = client.map(function, *zip(*tasks.values(), strict=True), key=keys)
    return dict(zip(keys, futures, strict=True))


def _wait_for(client):
    if client.status == "connecting":
        print("▶ the Dask scheduler has gone: waiting for it to come back", file=sys.stderr)
    while client.status == "connecting":
        time.sleep(0.2)
    if client.status != "running":
        raise UserError(
            "the Dask scheduler has gone and did not come back; start it and its workers, and give "
            "the same command again: what is done stays done."
        )
