"""The worker behind the fuzzing: a reader in a process of its own, whose every input is timed and weighed.

The process is forked, so that it costs no import. An input begins with a message and ends with one; where the second
does not come the process has died, or hangs and is killed, and another one goes on behind that input.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import sites.scans.foreign_hdf5
from minet_core.errors import FedminetError

MEMORY_BYTES = 1 << 30
"""What a reader may take over what its process had before: the promise of docs/results/readers.md."""
ADDRESS_BYTES = 3 << 30
"""Of address space beside what the process has: what asks for more is told so, and not the machine."""

PATIENCE = 6.0
DRIVER = "the driver itself"

Attempt = Callable[[random.Random], Callable[[], object]]
"""One input: makes it and gives back the call that reads it."""


@dataclass(frozen=True)
class Reader:
    """A reader of foreign bytes. prepare: makes valid seeds in a folder. limit_s: for one input, processor time.

    By the clock it has PATIENCE times as long, for the machine may have other work.
    """

    name: str
    prepare: Callable[[Path], Attempt]
    limit_s: float = 10.0


@dataclass
class Tally:
    """What became of the inputs. failures: by what was raised, the first input and its trace."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    peak_bytes: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0

    @property
    def wrong(self) -> list[str]:
        """What may not happen, in words."""
        said = [f"{kind}: {trace}" for kind, trace in self.failures.items()]
        if self.peak_bytes > MEMORY_BYTES:
            said.append(f"{self.peak_bytes / 2**20:.0f} MiB of memory")
        return said


def fuzz(reader: Reader, *, n_inputs: int, seed: int = 0) -> Tally:
    """Give `n_inputs` inputs to a reader; the same seed gives the same inputs."""
    tally, started = Tally(), time.monotonic()
    context = multiprocessing.get_context("fork")
    while tally.inputs < n_inputs:
        ours, theirs = context.Pipe(duplex=False)
        todo = range(seed + tally.inputs, seed + n_inputs)
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_quick_disk()) as folder:
            child = context.Process(target=_work, args=(reader, todo, Path(folder), theirs))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads that only wait
                child.start()
            theirs.close()
            _collect(reader, ours, tally)
            if child.is_alive():
                os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
    tally.seconds = time.monotonic() - started
    return tally


def _collect(reader: Reader, answers: Connection, tally: Tally) -> None:
    """Take answers until the process has done all, or does no more."""
    at = None
    while True:
        try:
            if not answers.poll(reader.limit_s * PATIENCE if at is not None else 600.0):
                break
            message = answers.recv()
        except (EOFError, OSError):
            break
        if isinstance(message, int):
            at = message
            continue
        outcome, trace, peak, seconds = message
        if outcome == DRIVER:
            raise RuntimeError(trace)
        at, tally.inputs = None, tally.inputs + 1
        tally.outcomes[outcome] += 1
        if trace:
            tally.failures.setdefault(outcome, trace)
        tally.peak_bytes = max(tally.peak_bytes, peak)
        tally.slowest_s = max(tally.slowest_s, seconds)
        if peak > MEMORY_BYTES or seconds > reader.limit_s:
            tally.failures.setdefault("excess", f"input {tally.inputs - 1}: {peak} bytes, {seconds:.1f} s")
    if at is not None:
        kind = "hang or crash of the process"
        tally.inputs += 1
        tally.outcomes[kind] += 1
        tally.failures.setdefault(kind, f"input {at}")


def _work(reader: Reader, numbers: Sequence[int], folder: Path, answers: Connection) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        attempt = reader.prepare(folder)
        most = _memory("self")["VmSize"] + ADDRESS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
        warnings.simplefilter("ignore")
        for number in numbers:
            read = attempt(random.Random(number))
            answers.send(number)
            answers.send(_one(read, number))
    except BaseException:
        answers.send((DRIVER, traceback.format_exc(), 0, 0.0))
    finally:
        sites.scans.foreign_hdf5._process._end()
        answers.close()
        os._exit(0)


def _one(read: Callable[[], object], number: int) -> tuple[str, str, int, float]:
    before = _begin_weighing()
    started = time.process_time()
    trace = ""
    try:
        read()
        outcome = "accepted"
    except FedminetError as failure:
        outcome = failure.code
    except BaseException as failure:
        outcome = f"raw {type(failure).__name__}"
        trace = f"input {number}: " + "".join(traceback.format_exception(failure))[-3000:]
    return outcome, trace, _grown_since(before), time.process_time() - started


def _begin_weighing() -> dict[str, int]:
    """Resident bytes of this process and of the one that reads HDF5; their peaks count from here."""
    before = {}
    for process in _processes():
        Path(f"/proc/{process}/clear_refs").write_text("5")
        before[process] = _memory(process).get("VmRSS", 0)
    return before


def _grown_since(before: dict[str, int]) -> int:
    """The sum of the peaks over what was resident before; of a process that is new, all that it takes."""
    peaks = {process: _memory(process).get("VmHWM", 0) for process in _processes()}
    return sum(max(0, peak - before.get(process, 0)) for process, peak in peaks.items())


def _processes() -> list[str]:
    child = sites.scans.foreign_hdf5._process._child
    return ["self"] if child is None or child.poll() is not None else ["self", str(child.pid)]


def _memory(process: str) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has ended
        return {}
    found = (line.split() for line in lines if line.startswith("Vm"))
    return {name.rstrip(":"): int(number) * 1024 for name, number, _ in found}


def _quick_disk() -> str | None:
    """In memory where there is room: what is made durable here is for nobody."""
    return (
        "/dev/shm"
        if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 30
        else None
    )
