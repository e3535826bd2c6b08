"""Taking a patient out of the site: the store, the declaration, the site's own results; and the runs that it was in.

No list of who was in which round is kept. What there is: the ledger, which has the digest of every cohort and every
answer in their order. Answers given while the cohort that the patient is withdrawn from was in the store are of the
patient for certain; of answers before, by another cohort, only that they may be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.admission.declaration import declare
from client.admission.keys import SiteKeys
from client.admission.request import make_request
from client.operator_acts import note_withdrawal
from client.receive.drain import remove_patients
from client.receive.inbox import Inbox
from client.site_home import SiteHome
from minet_core.ledger.records import Ledger
from minet_core.protocol.cohort_declaration import DECLARATION_FILE
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_failures import naming_failures
from minet_core.runtime.json_text import parse_json
from sites.onboarding.drawn import FILE
from sites.store.pseudonym import naming_key
from sites.withdraw import Withdrawal, withdraw

_HOLDING = ("ingested", "withdrawn")
"""Events that say what the store holds from then on."""


@dataclass(frozen=True)
class RunOfPatient:
    """A run that this site answered: the rounds that used the patient's scans, and those that may have.

    kept: whether the site still keeps the run's last rounds.
    """

    study: str
    run: str
    certain: tuple[int, ...]
    possible: tuple[int, ...]
    kept: bool

    def as_text(self) -> str:
        """A line for a person."""
        said = [
            f"{what} in {len(rounds)} rounds ({rounds[0]} to {rounds[-1]})"
            for what, rounds in (
                ("used the patient's scans", self.certain),
                ("may have used them", self.possible),
            )
            if rounds
        ]
        kept = "; its last rounds are kept here" if self.kept else ""
        return f"Run {self.run} of {self.study} {' and '.join(said)}{kept}."


@dataclass(frozen=True)
class PatientWithdrawn:
    """What was done, and the runs. request: to be sent to the coordinator; None: the site has no key."""

    withdrawal: Withdrawal
    runs: tuple[RunOfPatient, ...]
    results_removed: tuple[str, ...]
    request: Path | None

    def as_json(self) -> dict[str, Any]:
        """The page for a script."""
        done = self.withdrawal
        return {
            "patient": done.patient,
            "split": done.split,
            "withdrawn_before": done.before,
            "files_removed": done.n_files,
            "results_removed": list(self.results_removed),
            "cohort": done.cohort.digest,
            "counts": {split: count.model_dump() for split, count in done.cohort.counts.items()},
            "runs": [
                {
                    "study": one.study,
                    "run": one.run,
                    "rounds": list(one.certain),
                    "possible_rounds": list(one.possible),
                    "kept_here": one.kept,
                }
                for one in self.runs
            ],
            "remarks": done.remarks(),
            "request": None if self.request is None else str(self.request),
        }

    def as_text(self) -> str:
        """The page for a person."""
        done = self.withdrawal
        lines = [
            f"Patient {done.patient} ({done.split or 'no split'}) is withdrawn: {done.n_files} files removed, "
            "and no ingest takes the patient again under this identifier.",
            *(f"{name} of the site's own results is removed." for name in self.results_removed),
            *done.remarks(),
        ]
        lines += [one.as_text() for one in self.runs]
        if not self.runs:
            lines.append("The ledger has no answer to a run.")
        if self.runs:
            lines.append(
                "What a model has learnt is not taken back: tell the coordinator which runs they are."
            )
        if self.request is not None:
            lines.append(f"Send the coordinator {self.request}: the cohort has another digest.")
        return "\n".join(lines)


def withdraw_patient(home: SiteHome, patient: str) -> PatientWithdrawn:
    """Withdraw a patient; given again, it completes what a killed one left.

    Raises InvalidSetting (FM-C102) for a pseudonym that the store never had, and what `sites.withdraw` raises;
    LedgerDamaged (FM-S523).
    """
    records = list(Ledger(home.state).records())  # before anything is done: a damaged ledger stops it
    done = withdraw(home.store, patient)
    _empty_inbox(home, patient)
    # The patient is on its pictures; the next ingest draws the others again.
    (home.path / FILE).unlink(missing_ok=True)
    removed = _forget_results(home, patient)
    request = _declare(home, done)
    if _last_cohort(records) != done.cohort.digest:
        note_withdrawal(home, n_files=done.n_files)
    runs = runs_of_patient(records, left=done.left, test=done.split == "test", kept=home.state)
    return PatientWithdrawn(done, tuple(runs), tuple(removed), request)


def runs_of_patient(
    records: Iterable[Mapping[str, Any]], *, left: str, test: bool, kept: Path
) -> list[RunOfPatient]:
    """The runs that a patient was or may have been in, from the site's ledger.

    left: the digest of the cohort that the patient left. test: the patient is of the test split. kept: the site's
    state.
    """
    records = list(records)
    last = max((n for n, one in enumerate(records) if _cohort_of(one) == left), default=len(records))
    cohort: str | None = None
    found: dict[tuple[str, str], dict[int, bool]] = {}
    for n, record in enumerate(records):
        if record["event"] in _HOLDING:
            cohort = _cohort_of(record)
            if n > last and cohort != left:
                break  # what follows was answered without the patient
        elif record["event"] == "answered" and (record.get("task") == "test") is test:
            rounds = found.setdefault((str(record.get("study")), str(record.get("run"))), {})
            rounds[int(record["round"])] = cohort == left
    return [
        RunOfPatient(
            study=study,
            run=run,
            certain=tuple(sorted(number for number, sure in rounds.items() if sure)),
            possible=tuple(sorted(number for number, sure in rounds.items() if not sure)),
            kept=(kept / run).is_dir(),
        )
        for (study, run), rounds in sorted(found.items())
    ]


def _cohort_of(record: Mapping[str, Any]) -> str | None:
    """The digest of the cohort that the store holds from this record on; None where the record is of something else."""
    return str(record.get("cohort")) if record["event"] in _HOLDING else None


def _last_cohort(records: Iterable[Mapping[str, Any]]) -> str | None:
    return next((one for one in map(_cohort_of, reversed(list(records))) if one is not None), None)


def _declare(home: SiteHome, done: Withdrawal) -> Path | None:
    """Declare what is left, and the request that holds it; without a training slice there is nothing to declare."""
    if done.cohort.counts["training"].slices == 0:
        (home.path / DECLARATION_FILE).unlink(missing_ok=True)
    else:
        declare(home)
    return make_request(home).path if SiteKeys.of(home.keys).private_key.is_file() else None


def _empty_inbox(home: SiteHome, patient: str) -> None:
    """Remove the patient's objects from the inbox; what a receiver takes later goes with the next ingest."""
    if home.inbox.is_dir():
        with naming_failures("the inbox cannot be written to", path=home.inbox):
            remove_patients(Inbox(home.inbox, key=naming_key(home.store)), {patient})


def _forget_results(home: SiteHome, patient: str) -> list[str]:
    """Remove the patient's scores and image from the site's own results; the names of the files that changed."""
    scores, panel, changed = home.results / "test.json", home.results / "panel.npz", list[str]()
    if not scores.is_file():
        return changed
    with contextlib.suppress(ValueError):  # a page that is none names nobody
        content = parse_json(scores.read_bytes())
        theirs = [name for name in content if name.split("-")[0] == patient]
        if theirs and panel.is_file() and next(iter(content)) in theirs:  # the image is of the first volume
            panel.unlink()
            changed.append(panel.name)
        if theirs:
            write_json(scores, {name: figures for name, figures in content.items() if name not in theirs})
            changed.append(scores.name)
    return changed
