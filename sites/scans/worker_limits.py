"""What a process is held to that reads foreign bytes for another one."""

from __future__ import annotations

import math
import resource

PROCESSOR_S = 20
"""For one question, a header or a slice: far more than any needs (a vendor's compressed frame takes 0.02 s). Time of
the processor: a share may be slow."""


def limit_memory(n_bytes: int) -> None:
    """Hold this process's address space to `n_bytes`, and let it leave no core file, which would have a scan in it.

    Parameters
    ----------
    n_bytes
        The wall; what asks for more gets a MemoryError or ends the process.
    """
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_time() -> None:
    """PROCESSOR_S more from here on; past them the kernel ends this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + PROCESSOR_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
