"""Damaged folders: a site's store, a run on the coordinator's disk, and a coordinator's back-up."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from minet_core.errors import FedminetError
from minet_core.imaging.volume import Pair
from minet_core.protocol import messages
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.settings.federation import FederationSettings
from server.backup.create import CONTENTS_FILE, back_up
from server.backup.restore import restore
from server.dashboard.app import _rounds_csv
from server.dashboard.metrics import CoordinatorCollector, exposition
from server.dashboard.node_presence import NodePresence, Sighting
from server.dashboard.rendering import Reader as Viewer
from server.dashboard.rendering import announcement, run_page, run_sections
from server.dashboard.run_reader import RunReader, Runs
from server.rounds.replies import KeptReply, check_parcels, keep, read_replies
from server.runs.checked_page import SEAL, page_digest
from server.runs.resubmit import last_submission
from server.runs.run_directory import RunDirectory
from server.runs.state_machine import aggregated, asked, begun, closed, saved
from server.runs.summary import summary_of
from server.server_home import ServerHome
from sites.store.cohort import Cohort, PairRecord, make_cohort
from sites.store.dataset import StoreSlices
from sites.store.pair_file import read_record, write_pair
from sites.store.store import Store
from tests.fuzz.measure import Attempt
from tests.fuzz.mutators import mutated_bytes, mutated_json, mutated_tree, mutated_yaml
from tests.support.admitted import make_coordinator, make_site
from tests.support.small_scans import make_volume


def stores(folder: Path) -> Attempt:
    """A store whose cohort or whose pair is damaged, or says odd things under digests that fit."""
    seed, trial = folder / "seed", folder / "trial"
    seed.mkdir()
    name = "ab12-cd34-01.h5"
    pair = Pair(target=make_volume(1, "T2"), reference=make_volume(1, "T1"), patient="ab12")
    shape = pair.target.array.shape
    record: dict[str, Any] = {"patient": "ab12", "shape": shape, "usable_slices": (0, shape[0])}
    record |= {"resampled": False, "residual_mm": 0.1, "fingerprint": "cd34"}
    sha256 = write_pair(seed / name, pair, record)
    kept = PairRecord(**record, file=name, sha256=sha256)
    cohort = make_cohort(
        [kept], {"ab12": "training"}, site="sms", data_kind="phantom", target="T2", reference="T1"
    )
    Store(seed).write_cohort(cohort)
    page = cohort.model_dump(mode="json")
    content = (seed / name).read_bytes()

    def attempt(generator: random.Random) -> Callable[[], object]:
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(seed, trial)
        kind = generator.random()
        if kind < 0.3:
            (trial / name).write_bytes(mutated_bytes(content, generator))
        elif kind < 0.6:
            with h5py.File(trial / name, "a") as file:
                _change_pair(file, generator)
            changed = kept.model_copy(
                update={"sha256": hashlib.sha256((trial / name).read_bytes()).hexdigest()}
            )
            other = cohort.model_copy(update={"pairs": (changed,)})
            Store(trial).write_cohort(other.model_copy(update={"digest": other.computed_digest()}))
        elif kind < 0.9:
            (trial / "cohort.json").write_bytes(_resealed(mutated_tree(page, generator)))
        else:
            (trial / "cohort.json").write_bytes(mutated_json(page, generator))
        return lambda: _read_store(trial, name)

    return attempt


def _change_pair(file: h5py.File, generator: random.Random) -> None:
    """Whole HDF5, and not what a pair is."""
    role = generator.choice(("target", "reference"))
    change = generator.choice(("gone", "shape", "kind", "group", "attribute", "record", "much"))
    if change in ("attribute", "record"):
        where = {"record": file.attrs, "attribute": generator.choice((file.attrs, file[role].attrs))}[change]
        key = "record" if change == "record" else generator.choice(sorted(where))
        odd = (None, 3, "x", "{}", "[" * 50_000, np.zeros((0,)), np.full(4, np.nan), h5py.Empty("f4"))
        value = generator.choice(odd)
        if value is None:
            del where[key]
        else:
            where[key] = value
        return
    del file[role]
    made: dict[str, dict[str, Any]] = {
        "shape": {"data": np.zeros((2, 3), np.float32)},
        "kind": {"data": np.zeros((6, 32, 32), "S3")},
        "much": {"shape": (64, 2048, 2048), "dtype": "f4", "chunks": (1, 512, 512), "compression": "gzip"},
    }
    if change == "group":
        file.create_group(role)
    elif change in made:
        file.create_dataset(role, **made[change])
        file[role].attrs["contrast"] = "T1"


def _resealed(page: Any) -> bytes:
    """The page with the digest of what it says, as `Cohort.computed_digest` makes it; as it is where it is no page."""
    with contextlib.suppress(ValidationError, AttributeError, TypeError, ValueError):
        page = {**page, "digest": Cohort.model_validate(page).computed_digest()}
    return json.dumps(page).encode()


def _read_store(folder: Path, name: str) -> None:
    """As training, a test, a report and the next ingest read it; one that refuses stops none of the others."""
    refused: FedminetError | None = None
    store = Store(folder)
    for use in (
        lambda: [array.sum() for _, *arrays in store.volumes("training") for array in arrays],
        lambda: [store.read_pair(pair) for pair in store.cohort.pairs],
        lambda: [array.sum() for pair in StoreSlices(store, "training") for array in pair],
        lambda: (store.cohort.remarks(), store.cohort.counts),
        lambda: read_record(folder / name),
    ):
        try:
            use()
        except FedminetError as failure:
            refused = failure
    if refused is not None:
        raise refused


def run_folders(folder: Path) -> Attempt:
    """A run after its beginning, with figures and a reply; pages are damaged, or odd and sealed again."""
    seed, trial = folder / "seed", folder / "trial"
    federation = FederationSettings(name="trial", sites=("sms", "umr"), participation={"quorum": 1})
    declared = {"sms": CohortDeclaration(site="sms", cohort_digest="ab" * 32, n_training_slices=100)}
    run = RunDirectory.create(seed, federation, engine="in-process", declared=declared)
    run.transition(begun)
    run.checkpoint(0).parent.mkdir()
    run.checkpoint(0).write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    run.transition(lambda state: saved(state, {"checkpoints/round-0000.safetensors": digest}))
    run.event("run-started", sites=["sms", "umr"], rounds=federation.rounds)
    run.event("round-started", round=1, attempt=0)
    run.event("share-bounded", round=1, site="sms", claimed=0.9, share=0.5)
    run.event("update-suspect", round=1, site="sms", kind="update_norm", norm=3.0, bound=1.0, code="FM-F410")
    scores = {f"{method}_{score}": 0.5 for method in messages.METHODS for score in messages.SCORES}
    told = {"kind": 0, "n_test_volumes": 2, "n_training_slices": 100, "few_patients": 1, "seconds": 1}
    run.record_tests({"sms": {**scores, **told}})
    submission = {"flower_run": 2**63, "time_s": 1.0, "progress": "[]", "fruitless": 0}
    (seed / "submission.json").write_text(json.dumps(submission))
    run.transition(asked, "2026-01-01T00:00:00.000+00:00")
    run.transition(closed, ("sms",))
    told = {"seconds": 1.0, "bytes_down": 7, "bytes_up": 7, "refused": None, "noted": [], "update_norm": 1.0}
    told |= {"train_loss": 0.1, "train_seconds": 1.0, "n_training_slices": 100, "share": 1.0}
    told |= {"validation": dict.fromkeys(messages.SCORES, 0.5), "shortened": {"update_norm": 0.5}}
    missing = {"seconds": 9.0, "bytes_down": 7, "bytes_up": 0, "refused": "FM-F405", "noted": []}
    record = {"round": 1, "seconds": 2.0, "aggregated": True, "update_norm": 1.0}
    figures = run.metrics({**record, "sites": {"sms": told, "umr": missing}})
    run.checkpoint(1).write_bytes(b"weights")
    run.transition(aggregated, digests={"checkpoints/round-0001.safetensors": digest}, figures=figures)
    replies = run.replies(2)
    replies.mkdir(parents=True)
    keep(replies, KeptReply("sms", 1.0, figures={"round": 2, "n_training_slices": 100}, sha256=digest))
    (replies / "sms.safetensors").write_bytes(b"weights")
    sightings = NodePresence(lambda: Sighting(datetime.datetime.now(datetime.UTC), None))
    screen = CoordinatorCollector(ServerHome(folder), Runs(folder), sightings)
    names = sorted(
        str(path.relative_to(seed)) for path in seed.rglob("*") if path.suffix in (".json", ".jsonl", ".yaml")
    )

    def attempt(generator: random.Random) -> Callable[[], object]:
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(seed, trial)
        path = trial / generator.choice(names)
        if path.suffix == ".yaml":
            path.write_bytes(mutated_yaml(path.read_text(), generator))
        elif path.suffix == ".json" and generator.random() < 0.6:
            path.write_bytes(_sealed_again(json.loads(path.read_text()), generator))
        elif path.suffix == ".jsonl" and generator.random() < 0.5:
            line = json.loads(path.read_text().splitlines()[0])
            path.write_bytes(
                path.read_bytes() + mutated_json(line, generator) + generator.choice((b"\n", b""))
            )
        else:
            path.write_bytes(mutated_bytes(path.read_bytes(), generator))
        return lambda: _use_run(RunDirectory(trial), screen)

    return attempt


def _sealed_again(page: dict[str, Any], generator: random.Random) -> bytes:
    sealed = page.pop(SEAL, None) is not None
    changed = mutated_tree(page, generator)
    if not sealed:
        return json.dumps(changed).encode()
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        changed = {**changed, SEAL: page_digest(changed)}
    return json.dumps(changed).encode()


def _use_run(run: RunDirectory, screen: CoordinatorCollector) -> None:
    """As a screen reads it and a continued run; one that refuses stops none of the others."""
    refused: FedminetError | None = None
    for use in (
        lambda: run.state,
        run.federation,
        run.declared,
        run.tests_recorded,
        run.events_recorded,
        lambda: run.rounds_recorded(last=1),
        lambda: read_replies(run.replies(2)),
        lambda: check_parcels(run.replies(2), ["sms"], round_number=2),
        run.lock_owner,
        lambda: last_submission(run),
        lambda: summary_of(run),
        lambda: _look_at(run, screen),
        run.verify,
        run.repair_after_crash,
        run.prune,
        lambda: run.transition(begun),
    ):
        try:
            use()
        except FedminetError as failure:
            refused = failure
    if refused is not None:
        raise refused


def _look_at(run: RunDirectory, screen: CoordinatorCollector) -> None:
    """The metrics of every run, this one's page, what is read out of it, and its table."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(screen)
    exposition(registry, "")
    view = RunReader(run).view()
    run_page(view, run_sections(view, None, may_control=True), Runs(run.path.parent).entries(), Viewer())
    for event in view.events:
        announcement(event)
    _rounds_csv(view)


def back_ups(folder: Path) -> Attempt:
    """A back-up: cut, damaged, or made anew of odd files and names, with a list that fits."""
    coordinator = make_coordinator(folder / "server")
    coordinator.admit(make_site(folder / "sms"), folder / "kit")
    back_up(coordinator.home, folder / "seed.tar")
    seed, path, home = (folder / "seed.tar").read_bytes(), folder / "backup.tar", folder / "restored"
    with tarfile.open(folder / "seed.tar") as tar:
        members = [(one, tar.extractfile(one).read() if one.isreg() else None) for one in tar]  # type: ignore[union-attr]

    def attempt(generator: random.Random) -> Callable[[], object]:
        shutil.rmtree(home, ignore_errors=True)
        kind = generator.random()
        content = mutated_bytes(seed, generator) if kind < 0.3 else _made_anew(members, generator)
        path.write_bytes(mutated_bytes(content, generator) if kind > 0.95 else content)
        return lambda: restore(path, home, accept_unsigned=True)

    return attempt


_NAMES = (
    "/etc/x",
    "../x",
    "a/../../x",
    "a" * 90,
    "x/" * 60 + "y",
    "é",
    "a\\b",
    ".",
    "",
    "pki",
    "pki/ca.pem/x",
    "back-up.sig",
)
_KINDS = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
)


def _made_anew(members: list[tuple[tarfile.TarInfo, bytes | None]], generator: random.Random) -> bytes:
    """The archive with one member changed, unsigned, its list made to fit what is in it."""
    at = generator.randrange(len(members) - 2)
    files, parts = {}, []
    for number, (member, content) in enumerate(members[:-2]):
        info, changed = _copy_of(member), content
        if number == at:
            info, changed = _changed_member(info, content, generator)
        parts.append((info, changed))
        if changed is not None:
            files[info.name] = {"sha256": hashlib.sha256(changed).hexdigest(), "n_bytes": len(changed)}
    listed = {**json.loads(members[-1][1] or b""), "files": files}
    page = mutated_json(listed, generator) if generator.random() < 0.3 else json.dumps(listed).encode()
    parts.append((_named(CONTENTS_FILE), page))
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=generator.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    ) as tar:
        for info, content in parts:
            info.size = len(content or b"")
            try:
                tar.addfile(info, io.BytesIO(content or b""))
            except (ValueError, OverflowError, UnicodeError):  # what no archive can say
                continue
    return stream.getvalue()


def _changed_member(
    info: tarfile.TarInfo, content: bytes | None, generator: random.Random
) -> tuple[tarfile.TarInfo, bytes | None]:
    kind = generator.random()
    if kind < 0.4 and content is not None:
        if info.name.endswith(".yaml"):
            return info, mutated_yaml(content.decode(), generator)
        if info.name.endswith(".json"):
            return info, mutated_json(json.loads(content), generator)
        return info, mutated_bytes(content, generator)
    if kind < 0.6:
        info.name = generator.choice(_NAMES)
    elif kind < 0.7:
        info.type = generator.choice(_KINDS)
        info.linkname = "pki/ca.pem"
    elif kind < 0.8:
        info.mode = generator.choice((0, 0o777, 0o7777, -1))
    elif kind < 0.9:
        info.mtime = generator.choice((-1, 2**33, 2**62, 2**80, 1e300, 0.5))
    else:
        keys = ("mtime", "size", "path", "uid", "GNU.sparse.size", "hdrcharset", "comment")
        values = ("nan", "inf", "-1", "x", "", "9" * 30, "a/b", "BINARY", "1" * 5000)
        info.pax_headers = {generator.choice(keys): generator.choice(values)}
    return info, content


def _copy_of(member: tarfile.TarInfo) -> tarfile.TarInfo:
    info = _named(member.name)
    info.type, info.mode, info.mtime = member.type, member.mode, member.mtime
    return info


def _named(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = 0o600
    return info
