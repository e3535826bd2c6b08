"""What the running containers may do: asserted from outside, in the kernel's own words, and by trying from inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.federation import SERVICES, TRAINER_MEMORY_MIB, USER, Federation
from tests.containers.reference_run import SITES

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
TRAINER = "trainer-umr"
NODE = "node-umr"

ALLOCATE = "import sys; block = bytearray(int(sys.argv[1]) << 20); print(len(block) >> 20)"


def process_numbers(federation: Federation, service: str) -> list[int]:
    """Every process of the container, by its number on this machine."""
    table = federation.engine.docker("top", federation.container(service), "-eo", "pid").splitlines()[1:]
    return [int(line) for line in table]


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_is_an_ordinary_user_without_any_capability(
    federation: Federation, service: str
) -> None:
    pids = process_numbers(federation, service)
    assert pids
    for pid in pids:
        status = status_of(pid)
        assert set(status["Uid"].split()) == {str(USER)}
        assert set(status["Gid"].split()) == {str(USER)}
        assert {int(status[name], 16) for name in CAPABILITY_SETS} == {0}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"  # a filter is on
    assert int(status_of(1)["CapEff"], 16) != 0  # the control: this machine's first process has them


@pytest.mark.parametrize("service", SERVICES)
def test_the_root_is_read_only_and_tmp_is_not(federation: Federation, service: str) -> None:
    def touch(path: str) -> str:
        container = federation.container(service)
        done = federation.engine.tried(
            "exec", container, "bash", "-c", f"echo x > {path}/probe && rm {path}/probe"
        )
        return "written" if done.returncode == 0 else done.stderr

    for folder in ("/", "/opt", "/usr/bin", "/etc"):
        assert "Read-only file system" in touch(folder) or "Permission denied" in touch(folder)
    assert touch("/tmp") == "written"
    mounts = Path(f"/proc/{federation.host_pid(service)}/mountinfo").read_text(encoding="utf-8").splitlines()
    (root,) = [line.split() for line in mounts if line.split()[4] == "/"]
    assert "ro" in root[5].split(",")


@pytest.mark.parametrize("service", [f"trainer-{site}" for site in SITES])
def test_the_trainer_reads_its_store_and_cannot_write_to_it(federation: Federation, service: str) -> None:
    program = "import sys; open(sys.argv[1], 'ab').close(); print('written')"
    container = federation.container(service)
    store = federation.made / "sites" / service.removeprefix("trainer-") / "store"
    scan = next(store.glob("*.h5")).name
    read = federation.exec(service, "python", "-c", f"print(len(open('/site/store/{scan}', 'rb').read()))")
    assert int(read) == (store / scan).stat().st_size
    for path in (f"/site/store/{scan}", "/site/store/new", "/site/site.yaml", "/site/kit/kit.json"):
        done = federation.engine.tried("exec", container, "python", "-c", program, path)
        assert "Read-only file system" in done.stderr, (path, done.stdout, done.stderr)
    # the control: by the same program it writes where it has to
    assert federation.exec(service, "python", "-c", program, "/site/state/probe") == "written"


def test_the_trainer_has_no_key_and_the_node_has_no_scan(federation: Federation) -> None:
    listed = "import os, sys; print(*sorted(os.listdir(sys.argv[1])))"
    assert federation.exec(TRAINER, "python", "-c", listed, "/site/keys") == "authority.json"
    assert federation.exec(NODE, "python", "-c", listed, "/site/store") == ""
    # the control: each sees the folder that is its own
    assert "node" in federation.exec(NODE, "python", "-c", listed, "/site/keys").split()
    assert "cohort.json" in federation.exec(TRAINER, "python", "-c", listed, "/site/store").split()


@pytest.mark.parametrize(
    ("service", "own", "other"), [(NODE, "node", "trainer"), (TRAINER, "trainer", "node")]
)
def test_each_part_writes_its_own_notes_and_reads_the_others(
    federation: Federation, service: str, own: str, other: str
) -> None:
    program = "import sys; open(sys.argv[1], 'ab').close(); print('written')"
    container = federation.container(service)
    theirs = f"/site/status/{other}/status.json"
    assert '"started"' in federation.exec(service, "python", "-c", f"print(open({theirs!r}).read())")
    done = federation.engine.tried("exec", container, "python", "-c", program, theirs)
    assert "Read-only file system" in done.stderr
    assert federation.exec(service, "python", "-c", program, f"/site/status/{own}/status.json") == "written"


def test_the_limit_of_memory_is_enforced(federation: Federation) -> None:
    """A process that asks for more than the container may have is killed; one that asks for less is not."""
    limit = Path(f"/proc/{federation.host_pid(TRAINER)}/cgroup").read_text(encoding="utf-8")
    inspected = federation.inspect(TRAINER)["HostConfig"]
    assert inspected["Memory"] == inspected["MemorySwap"] == TRAINER_MEMORY_MIB << 20, limit
    container = federation.container(TRAINER)
    assert federation.exec(TRAINER, "python", "-c", ALLOCATE, "256") == "256"
    done = federation.engine.tried("exec", container, "python", "-c", ALLOCATE, str(TRAINER_MEMORY_MIB + 512))
    assert done.returncode == 137, (done.returncode, done.stdout, done.stderr)
    federation.wait(lambda: federation.works(TRAINER), deadline_s=120, what="the trainer is healthy")


@pytest.mark.parametrize("service", SERVICES)
def test_the_number_of_processes_is_limited(federation: Federation, service: str) -> None:
    assert federation.inspect(service)["HostConfig"]["PidsLimit"] == 512


def test_no_container_has_the_engines_socket_or_a_device_of_the_machine(federation: Federation) -> None:
    for service in SERVICES:
        inspected = federation.inspect(service)
        assert not inspected["HostConfig"]["Privileged"]
        assert not inspected["HostConfig"]["Devices"]
        assert inspected["HostConfig"]["PidMode"] == ""
        assert inspected["HostConfig"]["IpcMode"] == "private"
        assert not [m for m in inspected["Mounts"] if "docker" in m.get("Source", "").split("/")]
