"""Damaged notes: pages that one process of a site, or of the coordinator, keeps for another on its own disk."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from client.rounds.kept_stand import KeptStand
from client.rounds.request_budget import BUDGET_FILE, requests_answered
from client.rounds.round_cache import CachedRound, RoundCache
from client.status.current_task import AT_WORK_FILE, LAST_ROUND_FILE, Request, at_work
from client.status.finding import CONFIGURATION, Finding
from client.status.node_activity import ADMISSION_FILE, REPLIES_FILE, Answers, note_admission, read_admission
from client.status.site_status import as_json, as_text, read_status
from client.status.status_file import STATUS_FILE, Registration, StatusWriter
from client.status_folders import NODE_NOTES, TRAINER_NOTES
from minet_core.training.phases import Stand
from server.admission.pki import ISSUED_FILE
from server.admission.revocation import REVOKED_FILE, record_revocation, revocations, revoked_serials
from tests.fuzz.measure import Attempt
from tests.fuzz.mutators import mutated_bytes, mutated_json, mutated_tensors


def notes_of_a_site(folder: Path) -> Attempt:
    """What `fedminet site status` reads, and what is kept of rounds, of a training and of the requests."""
    _write_notes(folder)
    working = at_work(folder, Request("train", "run", 8, "44"))
    working.__enter__()  # while it lasts its page counts
    pages = {
        path: path.read_bytes()
        for path in (
            folder / STATUS_FILE,
            folder / TRAINER_NOTES / AT_WORK_FILE,
            folder / TRAINER_NOTES / LAST_ROUND_FILE,
            folder / NODE_NOTES / ADMISSION_FILE,
            folder / NODE_NOTES / REPLIES_FILE,
            folder / "state" / BUDGET_FILE,
            folder / "state" / "run" / "round-0007.safetensors",
            folder / "state" / "alone.safetensors",
        )
    }

    def attempt(generator: random.Random) -> Callable[[], object]:
        for path, content in pages.items():
            path.write_bytes(content)
        path = generator.choice(sorted(pages))
        if path.suffix == ".safetensors":
            path.write_bytes(mutated_tensors(pages[path], generator))
        else:
            path.write_bytes(_damaged(pages[path], generator))

        def read() -> object:
            assert working is not None
            status = read_status(folder, check=lambda: [Finding(name, "ok", "x") for name in CONFIGURATION])
            said = as_text(status), json.dumps(as_json(status)), read_admission(folder / NODE_NOTES)
            return said, requests_answered(folder / "state"), _kept(folder)

        return read

    return attempt


def _write_notes(folder: Path) -> None:
    writer = StatusWriter(folder, site="sms")
    writer.record_findings([Finding(name, "ok", "in order") for name in CONFIGURATION], kit=folder / "kit")
    writer.record_registration(Registration(True, time.time(), node_id=2**63 + 11))
    for part in (NODE_NOTES, TRAINER_NOTES, "state"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with at_work(folder, Request("train", "run", 7, "43")):
        pass
    note_admission(folder / NODE_NOTES, 2**63 + 11)
    answers = Answers(folder / NODE_NOTES)
    answers.announce("43")
    answers.note_handed_over()
    (folder / "state" / BUDGET_FILE).write_text(json.dumps({"study": ["ab" * 8, "cd" * 8]}))
    arrays = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4)}
    RoundCache(folder / "state", "run").put(
        CachedRound(7, "ab" * 32, {"train_loss": 0.5, "n_steps": 8}, (0.5, 0.25), arrays, arrays)
    )
    KeptStand(folder / "state" / "alone.safetensors", "key").keep(Stand(8, arrays, arrays))


def _kept(folder: Path) -> object:
    last = RoundCache(folder / "state", "run").last()
    stand = KeptStand(folder / "state" / "alone.safetensors", "key").read()
    return None if last is None else [last.answer[name] for name in last.answer], stand


def records_of_an_authority(folder: Path) -> Attempt:
    """revoked.jsonl and issued.jsonl of the coordinator, by which a revoked site stays out."""
    record_revocation(folder, "sms", reason="lost", node_fingerprint="ab" * 32, tls_digest="cd" * 32)
    record_revocation(folder, "umr", reason="left", node_fingerprint="ab" * 32, tls_digest="ef" * 32)
    issued = {
        "site": "sms",
        "serial": "7f",
        "tls_digest": "cd" * 32,
        "expires_at": "2026-01-01T00:00:00+00:00",
    }
    (folder / ISSUED_FILE).write_text(json.dumps(issued) + "\n")
    seeds = {name: (folder / name).read_bytes() for name in (REVOKED_FILE, ISSUED_FILE)}

    def attempt(generator: random.Random) -> Callable[[], object]:
        for name, content in seeds.items():
            (folder / name).write_bytes(content)
        name = generator.choice(sorted(seeds))
        if generator.random() < 0.5:
            lines = seeds[name].splitlines()
            number = generator.randrange(len(lines))
            lines[number] = mutated_json(json.loads(lines[number]), generator)
            (folder / name).write_bytes(b"\n".join([*lines, b""]))
        else:
            (folder / name).write_bytes(mutated_bytes(seeds[name], generator))
        return lambda: (revocations(folder), revoked_serials(folder))

    return attempt


def _damaged(content: bytes, generator: random.Random) -> bytes:
    if generator.random() < 0.5:
        return mutated_bytes(content, generator)
    return mutated_json(json.loads(content), generator)
