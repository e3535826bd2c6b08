"""A process's resident memory. Nothing large is imported here: who is asked may hold nothing else."""

from __future__ import annotations

from pathlib import Path

from minet_core.errors import HostError

STATUS = Path("/proc/self/status")


def resident_bytes(entry: str = "VmRSS") -> int:
    """This process's resident memory, or with VmHWM the most it had. Raises HostError (FM-S500) without /proc."""
    lines = STATUS.read_text(encoding="ascii").splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith(f"{entry}:"):
            return 1024 * int(line.split()[1])
    raise HostError(
        "this machine does not tell a process's memory", got=f"no {entry}", expected=f"Linux's {STATUS}"
    )


def grown_bytes() -> tuple[int, bool]:
    """What 50 MB more add to a process, and whether the most it had is at least what it has.

    To a hundredth: the kernel counts pages by processor, and takes the most when it comes by (proc(5), VmRSS).
    """
    before = resident_bytes()
    held = bytearray(b"1") * 50_000_000
    most, now = resident_bytes("VmHWM"), resident_bytes()
    return now - before, most >= 0.99 * now >= 0.99 * len(held)
