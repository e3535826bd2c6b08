"""The processes that make sites: one thread each, and forked from one that has imported what they need."""

from __future__ import annotations

import subprocess
import sys

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
