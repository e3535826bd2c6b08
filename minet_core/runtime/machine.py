"""What machine a figure was measured on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MachineFacts:
    """Cores that this process may use, memory in GiB, and the processor's name."""

    cores: int
    memory_gib: float
    processor: str


def machine_facts() -> MachineFacts:
    """The facts of this machine.

    Returns
    -------
    MachineFacts
        Of the whole machine, but for the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return MachineFacts(cores=cores, memory_gib=round(memory, 1), processor=_processor())


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
