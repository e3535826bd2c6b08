"""Pairs made ahead in other processes, a few at a time, and given in the order in which they are asked for.

Each process holds one pair; what it gives back is a file's name, a record and two small images. So memory grows with
the number of processes and not with the number of studies. A process ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from minet_core.errors import FedminetError, ScanReaderFailed
from minet_core.runtime.processes.single_threaded import one_thread_each
from sites.making.make_pair import MadePair, PairTask, make_pair_file
from sites.making.worker_start import begin
from sites.scans.unreadable import refusal_of

MEMORY_BYTES = 3 << 29
"""Room for one process (1.5 GiB); 320 x 320 x 20 takes 0.5 GiB, most of it the libraries. An estimate."""
MAX_PROCESSES = 16
"""The comparison with the store's pairs is not divided: more would wait for it."""
WORTH_A_PROCESS = 4
"""Pairs; a process takes as long to begin as one or two pairs do."""
AHEAD = 2
"""How many pairs are asked for beyond those that are being made."""


class PairMaker:
    """Makes pairs: with one process here, with more in processes of their own.

    Parameters
    ----------
    n_processes
        1 or more.
    """

    def __init__(self, n_processes: int) -> None:
        self._n_processes = n_processes
        self._pool: ProcessPoolExecutor | None = None
        self._asked: dict[str, Future[MadePair]] = {}

    @property
    def has_room(self) -> bool:
        """Whether another pair may be asked for ahead."""
        return self._n_processes > 1 and len(self._asked) < self._n_processes + AHEAD

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self._asked

    def ask(self, task: PairTask) -> None:
        """Let a pair be made ahead; without effect where nothing is.

        Parameters
        ----------
        task
            What to make.
        """
        if self.has_room and task.fingerprint not in self._asked:
            self._asked[task.fingerprint] = self._submit(task)

    def take(self, task: PairTask) -> MadePair:
        """A pair, asked for before or not.

        Parameters
        ----------
        task
            What to make.

        Returns
        -------
        MadePair
            In a file of its own.

        Raises
        ------
        DataError, FileNotWritten
            As `make_pair_file`.
        ScanReaderFailed
            FM-D211: making it ends its process, twice.
        """
        if self._n_processes == 1:
            return make_pair_file(task)
        asked = self._asked.pop(task.fingerprint, None)
        try:
            return (asked or self._submit(task)).result()
        except BrokenProcessPool:
            pass  # this pair's process or another's ended: what was asked for is asked for again, this one alone
        self._end_pool()
        try:
            return self._submit(task).result()
        except BrokenProcessPool:
            self._end_pool()
            raise ScanReaderFailed(
                "a pair ended the process that made it",
                got="twice",
                action="Look for the kernel's out-of-memory message; the other pairs are not concerned",
            ) from None

    def close(self) -> None:
        """End the processes, and forget what nobody took."""
        left = list(self._asked.values())
        self._end_pool()
        for one in left:
            if one.done() and not one.cancelled() and one.exception() is None:
                one.result().forget()

    def _submit(self, task: PairTask) -> Future[MadePair]:
        with one_thread_each():  # a process begins at a task
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._n_processes, mp_context=multiprocessing.get_context("spawn"), initializer=begin
                )
            return self._pool.submit(_make, task)

    def _end_pool(self) -> None:
        self._asked = {}
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


@contextlib.contextmanager
def pair_maker(n_processes: int) -> Iterator[PairMaker]:
    """What makes the pairs of one ingest.

    Parameters
    ----------
    n_processes
        1 or more.

    Yields
    ------
    PairMaker
        Its processes end with the block.
    """
    maker = PairMaker(n_processes)
    try:
        yield maker
    finally:
        maker.close()


def processes_for(n_pairs: int, *, asked: int | None = None) -> int:
    """How many processes make the pairs of an ingest.

    Parameters
    ----------
    n_pairs
        How many candidates there are.
    asked
        By the user; None: as many as this process has cores and free memory for.

    Returns
    -------
    int
        1 or more, and never more than pairs.
    """
    if asked is None:
        by_machine = min(len(os.sched_getaffinity(0)), _available_bytes() // MEMORY_BYTES)
        asked = min(by_machine, n_pairs // WORTH_A_PROCESS, MAX_PROCESSES)
    return max(1, min(asked, n_pairs))


def _available_bytes() -> int:
    """What the kernel would give without swapping; a system that does not say so has enough."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return MAX_PROCESSES * MEMORY_BYTES
    sizes = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return sizes[0] if sizes else MAX_PROCESSES * MEMORY_BYTES


def _make(task: PairTask) -> MadePair:
    """In another process: what it raises goes back without its own traceback, and always with a code."""
    try:
        return make_pair_file(task)
    except FedminetError:
        raise
    except Exception as failure:
        raise refusal_of(failure) from None
