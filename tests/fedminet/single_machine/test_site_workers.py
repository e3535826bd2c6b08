"""The processes that make sites: one thread each, and forked from one that has imported what they need."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_SCRIPT = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from fedminet.single_machine.site_workers import begin_site_workers

os.environ.pop("OMP_NUM_THREADS", None)
context = begin_site_workers()
assert "torch" not in sys.modules and "OMP_NUM_THREADS" not in os.environ
with ProcessPoolExecutor(1, mp_context=context) as pool:
    print(pool.submit(os.getenv, "OMP_NUM_THREADS").result())
    print(pool.submit(eval, "'sites.ingest' in __import__('sys').modules").result())
    print(pool.submit(os.getppid).result() != os.getpid())
"""


def test_a_worker_has_one_thread_and_its_imports_and_the_command_neither() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["1", "True", "True"], done.stderr


_LONG = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from fedminet.single_machine.site_workers import begin_site_workers
from sites.making.worker_start import end_with_parent

pool = ProcessPoolExecutor(1, mp_context=begin_site_workers(), initializer=end_with_parent)
print(pool.submit(os.getpid).result(), flush=True)
pool.submit(time.sleep, 600).result()
"""


def test_a_worker_at_work_ends_with_a_command_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _LONG], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        worker = Path("/proc") / command.stdout.readline().strip()
        assert worker.exists()
        command.kill()
    ends = time.monotonic() + 60
    while worker.exists():
        assert time.monotonic() < ends
        time.sleep(0.1)
