"""A store on what hospitals have: a share without locks, a folder of another user, a mount for reading, a full disk."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minet_core.errors import FileSystemReadOnly, StoreDamaged
from sites.store.dataset import StoreSlices
from sites.store.store import Store
from sites.store.verify import check
from tests.sites.store.test_store import make_pair, make_store
from tests.support.repository import ROOT
from tests.support.small_scans import write_nifti_patient
from tests.support.without_file_locks import NO_LOCKS, run_without_locks

NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: it takes the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def run_refused(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code as a root to whom files' modes apply: it cannot open what another user keeps to itself."""
    if os.geteuid() != 0:
        pytest.skip("it takes root to make another user's files")

    def drop_rights() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            libc.prctl(24, right, 0, 0, 0)  # PR_CAPBSET_DROP; exec takes them away

    return subprocess.run(
        [sys.executable, "-c", "import sys\n" + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        preexec_fn=drop_rights,
        capture_output=True,
        text=True,
        check=False,
    )


SAY = """
from pathlib import Path
from minet_core.errors import FedminetError
def say(act):
    try:
        act()
    except FedminetError as failure:
        print(failure)
"""


WITHOUT_LOCKS = """
from tests.support.without_file_locks import NO_LOCKS
from sites.store.verify import check
from sites.store.dataset import StoreSlices
from tests.sites.store.test_store import make_store
from sites.store.store import Store
import os
for number in (*NO_LOCKS, 5):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    forbid_locks(number)
    path = Path(sys.argv[1]) / str(number)
    if number == 5:  # EIO is no answer about locks
        say(lambda: Store(path).locked().__enter__())
    else:
        store, _ = make_store(path)
        print(check(path).as_text().splitlines()[0], StoreSlices(store, 'training')[0][0].shape)
        with store.locked():
            say(lambda: store.locked().__enter__())
        print(os.getpid(), len(list(path.glob('.*.held'))))
    sys.stdout.flush()
    os._exit(0)
"""


def test_a_store_is_written_and_read_on_a_share_without_locks(tmp_path: Path) -> None:
    done = run_without_locks(SAY + WITHOUT_LOCKS, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(NO_LOCKS) + 1, (lines, done.stderr)
    for whole, busy, end in zip(lines[0:9:3], lines[1:9:3], lines[2:9:3], strict=True):
        assert "all digests match. (16, 18)" in whole
        assert "FM-D208" in busy
        process, left = end.split()
        assert f"process {process} on" in busy
        assert left == "0"
    assert "FM-S515" in lines[-1]  # and not that another ingest is writing
    assert "Input/output error" in lines[-1]
    assert done.stderr.count("has no file locks") == len(NO_LOCKS)


REFUSED = """
from sites.store.verify import check
from sites.store.dataset import StoreSlices
from sites.settings.definitions import definition
from sites.ingest import ingest
from sites.store.store import Store
store = Path(sys.argv[1])
say(lambda: [StoreSlices(Store(store), 'training')[n] for n in (0, 1)])
say(lambda: check(store))
Path(store / 'cohort.json').chmod(0o600)
os.chown(store / 'cohort.json', 65534, -1)
say(lambda: check(store))
say(lambda: Store(store / 'closed').locked().__enter__())
few = definition('sms').model_copy(update={'allow_few_patients': True, 'data_kind': 'phantom'})
say(lambda: print(ingest(Path(sys.argv[2]), Path(sys.argv[3]), few).as_text()))
"""


def test_what_is_another_user_s_is_neither_damaged_nor_busy(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "store")
    for number in (1, 2, 3):
        write_nifti_patient(tmp_path / "scans" / f"P{number}", number)
    (store.path / "closed").mkdir()
    for path in (
        store.path / store.cohort.pairs[0].file,
        store.path / "pseudonym.key",
        store.path / "closed",
        tmp_path / "scans" / "P3" / "T1.nii.gz",
    ):
        path.chmod(0o500 if path.is_dir() else 0o600)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, -1)
    done = run_refused(SAY + "import os\n" + REFUSED, store.path, tmp_path / "scans", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    slices, key, cohort, closed, *report = done.stdout.splitlines()
    for line in (slices, key, cohort, closed):
        assert line.startswith("FM-S510"), line
        assert "is user nobody's" in line
        assert "this is user root" in line
    assert "Accepted 2 pairs (0 already there), refused 1" in report[0]
    refused = next(line for line in report if line.startswith("  refused"))
    assert "FM-D201" in refused
    assert "Permission denied" in refused
    assert "is user nobody's, mode 0600; this is user root" in refused


def test_a_store_is_read_on_a_mount_for_reading(tmp_path: Path) -> None:
    stored = make_store(tmp_path / "store")[0].path
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(stored), str(stored)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here: it takes the right to mount")
    try:
        assert "all digests match" in check(stored).as_text()
        StoreSlices(Store(stored), "training")[0]
        with (
            pytest.raises(FileSystemReadOnly, match=r"FM-S511.*Mount it for writing"),
            Store(stored).locked(),
        ):
            pass
    finally:
        subprocess.run(["umount", str(stored)], check=True)


def test_a_missing_file_is_still_damage(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "store")
    (store.path / store.cohort.pairs[0].file).unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        check(store.path)


def test_a_full_disk_ends_an_ingest_with_its_code_and_no_crash(tmp_path: Path, small_disk: Path) -> None:
    """HDF5 crashed at the process' end on what it could not write."""
    for number in range(1, 5):
        write_nifti_patient(tmp_path / "scans" / f"P{number}", number)
    done = subprocess.run(
        [sys.executable, "-c", "from pathlib import Path\nimport sys\n"
         "from sites.settings.definitions import definition\n"
         "from sites.ingest import ingest\nfrom minet_core.errors import FedminetError\n"
         "few = definition('sms').model_copy(update={'allow_few_patients': True, 'data_kind': 'phantom'})\n"
         "try:\n    ingest(Path(sys.argv[1]), Path(sys.argv[2]), few)\n"
         "except FedminetError as failure:\n    print(failure)\n    sys.exit(failure.exit_status)\n",
         str(tmp_path / "scans"), str(small_disk / "store")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 6, (done.returncode, done.stdout, done.stderr)
    assert "FM-S504" in done.stdout
    assert "No space left on device" in done.stdout
    assert not list((small_disk / "store").glob(".*.partial"))


def test_a_pair_is_stored_as_it_is(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "store", ("training", "test"), complex_target=True)
    pair = store.read_pair(store.cohort.pairs[0])
    assert pair.target.array.tobytes() == make_pair(0, complex_target=True).target.array.tobytes()
