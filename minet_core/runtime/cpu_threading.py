"""How a process that trains on the CPU shares the cores with others. Imports no torch: it must act before."""

from __future__ import annotations


def cpu_threading_environment() -> dict[str, str]:
    """Variables for a child process that trains on the CPU beside others.

    They act when OpenMP and the allocator start: OpenMP's before torch is imported, the allocator's before the
    process begins. A waiting OpenMP thread sleeps rather than spins: on a busy machine a spinning one takes the core
    that its own partner waits for (six times the time for one residual block). glibc keeps freed memory instead of
    giving it back: a step frees and asks for the same megabytes, and a step of the `quick` preset takes 30 page
    faults, not 4,000. It asks for its memory in pages of 2 MB, where the system gives them on request (Linux as most
    distributions set it): a step's 36 MB are more pages of 4 kB than a core knows the places of, and those of 2 MB take
    1 to 5% off a step or a slice (docs/results/speed.md). What computes in a process that runs already calls
    `minet_core.runtime.memory.keep_freed_memory`.

    Returns
    -------
    dict
        The number of threads is not among them, it is the caller's: one for each process where several share the
        cores.
    """
    return {
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**34),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
