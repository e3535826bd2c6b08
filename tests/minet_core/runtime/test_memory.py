"""What is freed leaves the process, whatever lies behind it, or stays there, as is asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minet_core.errors import HostError
from minet_core.runtime import memory
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.memory import _glibc, keep_freed_memory
from tests.faults.resident_memory import resident_bytes

SCRIPT = """
from tests.faults.resident_memory import resident_bytes
from minet_core.runtime.memory import give_back_memory
arrays, kept = [], []
for _ in range(400):
    arrays.append(bytearray(b"x" * 100_000))  # below the size from which a block has pages of its own
    kept.append(bytearray(2000))
before = resident_bytes()
arrays.clear()
held = resident_bytes()
give_back_memory(7_000_000)
kept_small = before - resident_bytes()
give_back_memory(40_000_000)
print(before - held, kept_small, before - resident_bytes())
"""


def test_free_pages_of_the_heap_are_returned() -> None:
    try:
        resident_bytes()
    except HostError:
        pytest.skip("this machine does not tell a process's memory")
    if _glibc() is None:
        pytest.skip("this machine has no glibc")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    by_itself, too_small, in_the_end = map(int, done.stdout.split())
    assert by_itself < 10_000_000  # the positive control: without the call most of the 40 MB stay
    assert too_small < 10_000_000  # not worth the look through every object
    assert in_the_end > 30_000_000


REUSE = """
import resource, sys, numpy
from minet_core.runtime.memory import keep_freed_memory


def page_faults():
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        kept = [numpy.ones(2**17) for _ in range(32)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began


print(page_faults(), keep_freed_memory(), page_faults())
"""


def test_a_running_process_reuses_what_it_freed() -> None:
    if _glibc() is None:
        pytest.skip("this machine has no glibc")
    plain = {name: value for name, value in os.environ.items() if name not in cpu_threading_environment()}
    done = subprocess.run(
        [sys.executable, "-c", REUSE], capture_output=True, text=True, check=True, env=plain
    )
    by_itself, acts, kept = done.stdout.split()
    # 32 MiB, 8192 pages: asked for ten times by the allocator left alone (the positive control), and once here.
    assert acts == "True"
    assert int(kept) < 0.2 * int(by_itself)


class TakesAll:
    """In place of glibc. told: what it was asked for."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def mallopt(self, name: int, value: int) -> int:
        self.told.append((name, value))
        return 1


@pytest.mark.parametrize(
    ("asked", "acts"),
    [
        ({}, True),
        (cpu_threading_environment(), True),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ({"MALLOC_MMAP_THRESHOLD_": "131072"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, True),
    ],
)
def test_what_the_environment_asks_of_the_allocator_stands(
    asked: dict[str, str], acts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a hospital's machine has little memory."""
    for name in cpu_threading_environment():
        monkeypatch.delenv(name, raising=False)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    allocator = TakesAll()
    monkeypatch.setattr(memory, "_glibc", lambda: allocator)
    assert keep_freed_memory() is acts
    assert bool(allocator.told) is acts


def test_nothing_is_asked_of_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(_name: str) -> None:
        raise OSError("libc.so.6: cannot open shared object file")

    monkeypatch.setattr(memory.ctypes, "CDLL", not_there)
    _glibc.cache_clear()
    try:
        assert keep_freed_memory() is False
        memory.give_back_memory(memory.WORTH_IT_BYTES)
    finally:
        _glibc.cache_clear()
