"""The inbox is emptied by ingest: what the store took leaves it, and no kill loses an object or has one twice."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result
from pydicom import dcmread
from typer.testing import CliRunner

from client.receive.drain import draining
from client.receive.inbox import Inbox
from client.site_home import SiteHome
from fedminet.main import command_line
from minet_core.errors import InvalidSetting, NoScansAccepted, TooFewPatients
from minet_core.settings.yaml_file import parse_yaml
from sites.settings.definitions import definition_text
from sites.settings.receive_settings import ReceiveSettings
from sites.store.pseudonym import naming_key
from sites.store.store import Store
from tests.support.dicom_series import Header, write_classic
from tests.support.small_scans import affine_of, make_volume

TIMES = {
    "T1": {"echo_time_ms": 10.0, "repetition_time_ms": 600.0},
    "T2": {"echo_time_ms": 100.0, "repetition_time_ms": 4500.0},
}
AFFINE = affine_of((4.0, 3.0, 3.0))
LONG_AGO = time.time() - 3600


def make_site(folder: Path, **receive: object) -> SiteHome:
    """A site with keys that takes DICOM."""
    content = {**parse_yaml(definition_text("sms")), "reader": "dicom", "data_kind": "phantom"}
    content |= {"allow_few_patients": True, "receive": receive}
    (folder / "dicom.yaml").write_text(yaml.safe_dump(content))
    command = ["site", "init", str(folder / "home"), "--definition", str(folder / "dicom.yaml")]
    assert CliRunner().invoke(command_line(), command).exit_code == 0
    return SiteHome.at(folder / "home")


def inbox_of(home: SiteHome) -> Inbox:
    inbox = Inbox(home.inbox, key=naming_key(home.store))
    inbox.make_folders()
    return inbox


def study(folder: Path, seed: int, contrasts: Iterable[str] = ("T1", "T2")) -> list[Path]:
    """The files of one patient's study."""
    paths = []
    for contrast in contrasts:
        array = np.rint(make_volume(seed, contrast).array).astype(np.uint16)
        header = Header(patient_id=f"QZ{seed}XJ", study=str(seed), series=contrast, **TIMES[contrast])
        paths += write_classic(folder / f"{seed}{contrast}", array, AFFINE, header=header)
    return paths


def deliver(inbox: Inbox, paths: Iterable[Path], *, when: float = LONG_AGO) -> None:
    """As the receiver writes them, some time ago."""
    for path in paths:
        instance = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        inbox.put(instance, path.read_bytes())
        os.utime(inbox.received / inbox.name_of(instance), (when, when))


def ingest(home: SiteHome, *options: str) -> Result:
    result = CliRunner().invoke(command_line(), ["site", "ingest", str(home.path), "--json", *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def counts(result: Result) -> dict[str, int]:
    return json.loads(result.stdout.splitlines()[-1])["inbox"]


def objects_below(folder: Path) -> dict[str, bytes]:
    """By name; fails where one is there twice."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*.dcm"):
        assert path.name not in found
        found[path.name] = path.read_bytes()
    return found


def test_what_is_done_leaves_the_inbox_and_what_still_arrives_stays(tmp_path: Path) -> None:
    home = make_site(tmp_path)
    inbox = inbox_of(home)
    for seed in (1, 2, 3):
        deliver(inbox, study(tmp_path, seed))
    deliver(inbox, study(tmp_path, 4, ["T2"]))
    late = study(tmp_path, 5)
    deliver(inbox, late[:-1])
    deliver(inbox, late[-1:], when=time.time())
    result = ingest(home)
    assert result.exit_code == 3, "one study is refused"
    assert counts(result) == {"taken": 3, "set_aside": 1, "arriving": 1}
    assert len(Store(home.store).cohort.pairs) == 3
    assert len(list(inbox.received.iterdir())) == len(late)
    assert len(objects_below(inbox.refused)) == len(late) // 2
    assert len(objects_below(inbox.taken)) == 3 * len(late)
    assert not list(inbox.ingesting.iterdir())
    digest = Store(home.store).cohort.digest
    result = ingest(home)
    assert result.exit_code == 0, result.output
    assert counts(result) == {"taken": 0, "set_aside": 0, "arriving": 1}
    assert Store(home.store).cohort.digest == digest
    for path in home.inbox.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert "QZ" not in str(path)


def test_what_was_set_aside_is_tried_with_what_came_later(tmp_path: Path) -> None:
    home = make_site(tmp_path)
    inbox = inbox_of(home)
    deliver(inbox, study(tmp_path, 1))
    deliver(inbox, study(tmp_path, 2))
    deliver(inbox, study(tmp_path, 3, ["T2"]))
    assert counts(ingest(home))["set_aside"] == 1
    deliver(inbox, study(tmp_path, 3, ["T1"]))
    assert counts(ingest(home)) == {"taken": 1, "set_aside": 0, "arriving": 0}
    assert not list(inbox.refused.iterdir())
    assert len(Store(home.store).cohort.pairs) == 3


def test_a_study_in_two_halves_is_one_while_the_first_is_kept(tmp_path: Path) -> None:
    home = make_site(tmp_path)
    inbox = inbox_of(home)
    halves = study(tmp_path, 1)
    deliver(inbox, study(tmp_path, 2))
    deliver(inbox, [path for path in halves if int(path.stem) <= 7])
    assert counts(ingest(home))["taken"] == 2, "a stack with its end missing looks whole"
    first = {pair.patient: pair.shape[0] for pair in Store(home.store).cohort.pairs}
    deliver(inbox, [path for path in halves if int(path.stem) > 7])
    assert counts(ingest(home))["taken"] == 1
    second = {pair.patient: pair.shape[0] for pair in Store(home.store).cohort.pairs}
    assert sorted(second.values()) == sorted([max(first.values())] * 2)
    assert len(objects_below(inbox.taken)) == 2 * len(halves)


def test_a_part_of_a_study_whose_objects_are_gone_does_not_take_its_place(tmp_path: Path) -> None:
    home = make_site(tmp_path, keep_taken_days=0)
    inbox = inbox_of(home)
    paths = study(tmp_path, 1)
    deliver(inbox, [*paths, *study(tmp_path, 2)])
    assert counts(ingest(home))["taken"] == 2
    assert not objects_below(home.inbox), "they are not kept"
    digest = Store(home.store).cohort.digest
    part = [path for path in paths if int(path.stem) <= 7]
    deliver(inbox, part)
    result = ingest(home)
    assert result.exit_code == 3
    assert "FM-D220" in result.stderr
    assert f"{len(paths) - len(part)} of its objects are missing" in result.stderr
    assert Store(home.store).cohort.digest == digest
    assert len(objects_below(inbox.refused)) == len(part)
    deliver(inbox, [path for path in paths if path not in part])
    assert counts(ingest(home)) == {"taken": 1, "set_aside": 0, "arriving": 0}
    assert Store(home.store).cohort.digest == digest
    assert not objects_below(home.inbox)


def test_what_was_set_aside_is_tried_again_on_request(tmp_path: Path) -> None:
    home = make_site(tmp_path)
    inbox = inbox_of(home)
    deliver(inbox, [*study(tmp_path, 1), *study(tmp_path, 2), *study(tmp_path, 3, ["T1"])])
    assert counts(ingest(home))["set_aside"] == 1
    assert counts(ingest(home)) == {"taken": 0, "set_aside": 0, "arriving": 0}
    with pytest.raises(NoScansAccepted):  # it is the only one
        ingest(home, "--again")
    assert len(objects_below(inbox.refused)) == len(study(tmp_path, 3, ["T1"]))


def test_too_few_patients_leave_the_inbox_as_it_is(tmp_path: Path) -> None:
    home = make_site(tmp_path)
    inbox = inbox_of(home)
    deliver(inbox, study(tmp_path, 1))
    before = objects_below(inbox.received)
    with pytest.raises(TooFewPatients):
        ingest(home)
    assert objects_below(inbox.received) == before
    deliver(inbox, study(tmp_path, 2))
    assert counts(ingest(home))["taken"] == 2


def test_a_withdrawn_patient_leaves_the_inbox_too(tmp_path: Path) -> None:
    home = make_site(tmp_path)
    inbox = inbox_of(home)
    for seed in (1, 2, 3):
        deliver(inbox, study(tmp_path, seed))
    ingest(home)
    n_objects = len(objects_below(inbox.taken))
    patients = Store(home.store).cohort.patients
    patient = next(one for one, split in patients.items() if split == "training")
    command = ["site", "withdraw", str(home.path), patient]
    assert CliRunner().invoke(command_line(), command).exit_code == 0
    assert len(objects_below(inbox.taken)) == n_objects * 2 // 3
    for seed in (1, 2, 3):
        deliver(inbox, study(tmp_path, seed))
    assert counts(ingest(home)) == {"taken": 2, "set_aside": 0, "arriving": 0}
    assert len(objects_below(home.inbox)) == n_objects * 2 // 3


@pytest.mark.parametrize(
    ("options", "said"), [(["--prune"], "does not say which"), (["x", "--again"], "only the inbox")]
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: list[str], said: str) -> None:
    home = make_site(tmp_path)
    with pytest.raises(InvalidSetting, match=said):
        ingest(home, *options)


CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def run_until(inbox: Inbox, settings: ReceiveSettings, last: int) -> bool:
    """A drain in a process of its own, which is killed at that change of the file system; whether it came to its end.

    The study of the smaller label is taken, the other one refused.
    """
    child = os.fork()
    if child == 0:
        left = iter(range(last, -1, -1))

        def hook(event: str, _: object) -> None:
            if event in CHANGES and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        with draining(inbox, settings, withdrawn=()) as batch:
            batch.settle(taken=batch.labels[:1], refused=batch.labels[1:])
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_kill_at_any_change_loses_nothing(tmp_path: Path) -> None:
    """An audit hook counts the changes, so that each is the last one of some process."""
    settings, ended, last = ReceiveSettings(keep_taken_days=None), False, 0
    paths = [study(tmp_path, seed)[:3] for seed in (1, 2)]
    while not ended:
        inbox = Inbox(tmp_path / f"inbox{last}", key=b"k" * 32)
        inbox.make_folders()
        for of_study in paths:
            deliver(inbox, of_study)
        every = objects_below(inbox.folder)
        ended = run_until(inbox, settings, last)
        assert objects_below(inbox.folder) == every
        deliver(inbox, paths[0][:1])  # one comes again after the kill
        with draining(inbox, settings, withdrawn=()) as batch:
            batch.settle(taken=batch.labels, refused=())
        found = {path.name for path in (*inbox.taken.rglob("*.dcm"), *inbox.refused.rglob("*.dcm"))}
        assert found == set(every)
        assert not list(inbox.received.iterdir())
        assert not list(inbox.ingesting.iterdir())
        last += 1
    assert last > 15
