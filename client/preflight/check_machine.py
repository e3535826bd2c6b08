"""What the site's machine must have: room on the disk, a device to train on, a free port."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile

import torch

from client.admission.kit import Kit
from client.rounds.round_cache import KEPT_ROUNDS, KEPT_RUNS, kept_round_bytes
from client.site_home import SiteHome
from client.status.finding import Finding
from minet_core.errors import DeviceMissing, DiskFull, FedminetError
from minet_core.runtime.files.atomic_write import status_of
from minet_core.runtime.files.file_failures import failure_of
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.processes.child_processes import child_environment, require_port_free
from minet_core.runtime.processes.proxy_variables import without_proxy
from minet_core.settings.federation import FederationSettings
from sites.settings.site_settings import Device

LOG_BYTES = 100 * 10**6
"""Room for logs and the results of tests below which nothing is started; ten times as much is without a warning."""

PROBE_DEADLINE_S = 120.0
"""For a fresh process to import torch and ask the driver; one that hangs is a driver's fault."""

_PROBE = """
import json, torch
found = []
if torch.cuda.is_available():
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        (torch.ones(64, 64, device=f"cuda:{number}") @ torch.ones(64, 64, device=f"cuda:{number}")).sum().item()
        found.append({"name": torch.cuda.get_device_name(number), "free": free, "total": total})
print(json.dumps(found))
"""
"""Asked in a process of its own: it ends with the memory that the driver gives to whoever asks. A product on each
device shows that it works for this torch, not only that it is listed."""


def check_disk(home: SiteHome, federation: FederationSettings) -> Finding:
    """Free room for what a run writes: refused below what the next rounds need, a warning below all that is kept."""
    folder = (
        home.state if home.state.is_dir() else home.path
    )  # the one may be writable where the other is not
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"0")
            trial.flush()
    except OSError as failure:
        return Finding.refused(
            "disk",
            failure_of(failure, f"{folder} cannot be written to", path=folder),
        )
    a_round = kept_round_bytes(federation)
    by_run = [
        sum(status.st_size for status in map(status_of, folder.glob("round-*")) if status)
        for folder in home.state.glob("*/")
        if folder.is_dir()
    ]
    needed = (KEPT_ROUNDS + 1) * a_round - min(max(by_run, default=0), KEPT_ROUNDS * a_round) + LOG_BYTES
    wanted = (KEPT_RUNS * KEPT_ROUNDS + 1) * a_round - sum(by_run) + 10 * LOG_BYTES
    free = shutil.disk_usage(folder).free
    got = f"{_size(free)} free; a round keeps {_size(a_round)}"
    if free < needed:
        full = DiskFull(
            "there is too little room on the disk of the site's folder",
            got=got,
            expected=f"at least {_size(needed)}",
            action="Make room, or put the site's folder on a larger disk",
        )
        return Finding.refused("disk", full)
    if free < wanted:
        return Finding(
            "disk", "warning", got, f"{_size(wanted)} for {KEPT_RUNS} runs and their logs", "Make room"
        )
    return Finding("disk", "ok", got)


def check_device(wish: Device) -> Finding:
    """What the site trains on."""
    cores = machine_facts().cores
    if wish == "cpu":
        return Finding("device", "note", f"the CPU, {cores} cores, as compute.device of site.yaml says")
    devices, why = _cuda_devices()
    if devices:
        first = devices[0]
        more = f", the first of {len(devices)}" if len(devices) > 1 else ""
        return Finding(
            "device", "ok", f"{first['name']}{more}, {_size(first['free'])} of {_size(first['total'])} free"
        )
    if wish == "cuda":
        failure = DeviceMissing(
            "site.yaml asks for a CUDA device, and there is none that works",
            got=why,
            expected="a CUDA device",
            action="Give the client the GPU (container: the NVIDIA runtime), or set compute.device to auto",
        )
        return Finding.refused("device", failure)
    return Finding(
        "device",
        "note",
        f"the CPU, {cores} cores ({why}): a round takes many times as long as on a GPU, with the same result",
        action="To be refused rather than slow, set compute.device to cuda in site.yaml",
    )


def check_port(host: str, port: int) -> Finding:
    """That the port for the site's own processes is free; 0 takes any that is."""
    if port == 0:
        return Finding("port", "ok", f"any free one of {host}")
    try:
        require_port_free(host, port)
    except FedminetError as failure:
        return Finding.refused("port", failure)
    return Finding("port", "ok", f"{host}:{port} is free")


def check_disk_and_device(home: SiteHome, kit: Kit | None) -> list[Finding]:
    """Both; the room that is needed is not known without a kit."""
    disk = (
        Finding("disk", "unknown", "how much room is needed, the kit says")
        if kit is None
        else check_disk(home, kit.federation)
    )
    return [disk, check_device(home.settings().compute.device)]


def _cuda_devices() -> tuple[list[dict[str, object]], str]:
    """Name, free and total bytes of every CUDA device that works; why there is none."""
    if torch.version.cuda is None:
        return [], "this torch was built without CUDA"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=without_proxy(child_environment()),
            capture_output=True,
            text=True,
            timeout=PROBE_DEADLINE_S,
            check=True,
        )
        return list(json.loads(asked.stdout.strip().splitlines()[-1])), "no CUDA device is visible"
    except subprocess.TimeoutExpired:
        return [], f"the driver did not answer within {PROBE_DEADLINE_S:g} s"
    except subprocess.CalledProcessError as failure:
        last = (failure.stderr or "").strip().splitlines()[-1:]
        return [], f"the device does not work: {' '.join(last)[:200]}"
    except (ValueError, IndexError):
        return [], "the driver gave no answer that can be read"


def _size(n_bytes: object) -> str:
    assert isinstance(n_bytes, int)
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 10**9 else f"{max(n_bytes, 0) / 1e6:.1f} MB"
