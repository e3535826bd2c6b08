"""The replies of the round in work, on the disk: each is checked, kept, and read again one tensor at a time.

    replies/round-0008/sms.safetensors   what the site sent, byte for byte
    replies/round-0008/sms.json          what was found about it; written last, so a reply with this page is whole

A reply lives on the disk and not in memory: the coordinator needs room for one model whatever the number of sites, the
mean can be taken in the order of the sites' names whatever the order of arrival, and a coordinator that was killed
need not ask again for what it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import FiniteFloat, TypeAdapter

from minet_core.algorithms.influence import Shortened
from minet_core.algorithms.interface import Reply
from minet_core.errors import (
    CohortChanged,
    DuplicateReply,
    FedminetError,
    FileNotWritten,
    ReplyMissing,
    ReplyRefused,
    StaleMessage,
    UpdateSuspect,
)
from minet_core.protocol import messages
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.protocol.exchange_plan import ExchangePlan
from minet_core.runtime.files.atomic_write import replacing, sha256_of_file
from minet_core.runtime.said_elsewhere import without_folders
from minet_core.weights.lazy_arrays import StoredArrays
from minet_core.weights.manifest import Arrays
from minet_core.weights.update_norm import MAX_NORM, norm, update_norm
from server.rounds.exchange import Received, opened_figures, opened_parcel
from server.runs.checked_page import damaged, read_page, write_page


@dataclass(frozen=True)
class KeptReply:
    """What is known of one site's reply, or of its absence.

    seconds: from the request to the reply. refused: the code it was refused with, FM-F405 where none came. why: for
    the events, in our words. noted: codes of what was seen and does not exclude it. bytes_down, bytes_up: of the
    weights, to the site and from it. update_norm: of the change of the weights; memory_norm: of the algorithm's own
    tensors, where it sends any. shortened: what the update and the algorithm's own tensors are multiplied by
    before they count. agreement: cosine of the update to the mean of the others' directions. turned: share of the
    tensors on which the others agree in which it goes against them.
    """

    site: str
    seconds: FiniteFloat
    refused: str | None = None
    why: str | None = None
    noted: tuple[str, ...] = ()
    bytes_down: int = 0
    bytes_up: int = 0
    update_norm: FiniteFloat | None = None
    memory_norm: FiniteFloat | None = None
    shortened: Mapping[str, FiniteFloat] = field(default_factory=dict)
    agreement: FiniteFloat | None = None
    turned: FiniteFloat | None = None
    sha256: str | None = None
    figures: Mapping[str, FiniteFloat] | None = None

    @property
    def n_training_slices(self) -> int:
        return int((self.figures or {})["n_training_slices"])


_KEPT = TypeAdapter(KeptReply)


@dataclass(frozen=True)
class Expected:
    """What a reply of the round in work must be."""

    agreement: ExchangePlan
    round_number: int
    run_number: int
    declared: Mapping[str, CohortDeclaration]
    global_weights: Arrays
    validated: bool = True


def take_reply(folder: Path, received: Received, expected: Expected) -> KeptReply:
    """Check a reply and keep it in `folder`; a refused one is kept by its code.

    A second answer to one request is refused. Where it differs from the first, neither is believed. Raises
    FileNotWritten (FM-S509) and its kinds, as DiskFull (FM-S504): no fault of the site's, which is asked again.
    """
    try:
        if received.again:
            return _second(folder, received, expected)
        kept = _checked(folder, received, expected)
    except FileNotWritten:
        raise
    except FedminetError as failure:
        kept = KeptReply(
            received.site,
            received.seconds,
            refusal_code(failure),
            without_folders(failure.what),
            bytes_down=received.bytes_down,
        )
        _parcel(folder, received.site).unlink(missing_ok=True)
    keep(folder, kept)
    return kept


def note_missing(folder: Path, site: str, *, seconds: float, bytes_down: int) -> KeptReply:
    """Keep that a site gave no reply before the deadline."""
    missing = ReplyMissing("no reply came before the deadline")
    kept = KeptReply(site, seconds, missing.code, missing.what, bytes_down=bytes_down)
    keep(folder, kept)
    return kept


def read_replies(folder: Path) -> dict[str, KeptReply]:
    """Every reply that was kept whole, by site."""
    return {path.stem: read_reply(folder, path.stem) for path in sorted(folder.glob("*.json"))}


def read_reply(folder: Path, site: str) -> KeptReply:
    """The reply of one site that was kept whole. Raises RunDamaged (FM-S517)."""
    path = page_of(folder, site)
    content = read_page(path)
    try:
        kept = _KEPT.validate_python(content)
    except ValueError as failure:
        raise damaged(path, "is no reply's page") from failure
    if kept.site != site:
        raise damaged(path, "is another site's")
    return kept


def check_parcels(folder: Path, sites: Iterable[str], *, round_number: int) -> None:
    """Hold the files of replies that were accepted against their pages. Raises RunDamaged (FM-S517)."""
    for site in sites:
        kept = read_reply(folder, site)
        path = _parcel(folder, site)
        if int((kept.figures or {}).get("round", 0)) != round_number:
            raise damaged(page_of(folder, site), "is of another round")
        if not path.is_file() or sha256_of_file(path) != kept.sha256:
            raise damaged(path, "is not what the site sent")


def page_of(folder: Path, site: str) -> Path:
    """Where what was found about a site's reply is kept."""
    return folder / f"{site}.json"


def keep(folder: Path, kept: KeptReply) -> None:
    """Keep what was found about a reply, in place of what was known before."""
    write_page(page_of(folder, kept.site), asdict(kept))


def refuse(folder: Path, kept: KeptReply, failure: FedminetError) -> KeptReply:
    """Refuse a reply that was accepted before."""
    refused = replace(kept, refused=failure.code, why=without_folders(failure.what))
    keep(folder, refused)
    return refused


def note(folder: Path, kept: KeptReply, failure: FedminetError) -> KeptReply:
    """Keep beside a reply what was seen of it, without excluding it."""
    noted = replace(kept, noted=tuple(sorted({*kept.noted, failure.code})))
    keep(folder, noted)
    return noted


def forget_refused(folder: Path) -> None:
    """Forget what was refused and what was missing, so that these sites are asked again."""
    for kept in read_replies(folder).values():
        if kept.refused is not None:
            page_of(folder, kept.site).unlink()
            _parcel(folder, kept.site).unlink(missing_ok=True)


def as_reply(folder: Path, kept: KeptReply, expected: Expected) -> Reply:
    """The reply as the algorithm takes it, its tensors read from the disk one by one as they are asked for."""
    stored = StoredArrays(_parcel(folder, kept.site))
    weights = expected.agreement.decoded(stored, reference=expected.global_weights)
    memory = expected.agreement.memory_in(stored)
    if (factor := kept.shortened.get("update_norm")) is not None:
        weights = Shortened(weights, expected.global_weights, factor)
    if (factor := kept.shortened.get("memory_norm")) is not None:
        memory = Shortened(memory, None, factor)
    return Reply(site=kept.site, n_training_slices=kept.n_training_slices, weights=weights, memory=memory)


def check_binding(figures: Mapping[str, float], site: str, expected: Expected) -> None:
    """Raise StaleMessage (FM-F408), CohortChanged (FM-F409) where figures are not of this round, run and cohort."""
    if int(figures["round"]) != expected.round_number:
        raise StaleMessage(
            "a reply is of another round", got=int(figures["round"]), expected=expected.round_number
        )
    if int(figures["run"]) != expected.run_number:
        raise StaleMessage("a reply is of another run")
    cohort = expected.declared.get(site)
    if cohort is None:
        return
    if int(figures["cohort"]) != cohort.cohort_number:
        raise CohortChanged("a reply names another cohort than the site declared")
    if int(figures["n_training_slices"]) != cohort.n_training_slices:
        raise CohortChanged(
            "a reply counts other training slices than the site declared",
            got=int(figures["n_training_slices"]),
            expected=cohort.n_training_slices,
        )


def refusal_code(failure: FedminetError) -> str:
    """The site's own code where its client sent one, else the code of our refusal."""
    if isinstance(failure, ReplyRefused) and isinstance(failure.got, str) and failure.got.startswith("FM-"):
        return failure.got
    return failure.code


def _checked(folder: Path, received: Received, expected: Expected) -> KeptReply:
    figures = opened_figures(
        received.message,
        agreed=messages.train_figures(validated=expected.validated),
        records={messages.MODEL, messages.METRICS},
    )
    check_binding(figures, received.site, expected)
    agreement = expected.agreement
    content = opened_parcel(received.message, manifest=agreement.reply_manifest)
    path = _parcel(folder, received.site)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    weights, memory = agreement.checked_reply(path, reference=expected.global_weights)
    norms = (update_norm(weights, expected.global_weights), norm(memory))
    if not max(norms) <= MAX_NORM:
        raise UpdateSuspect(
            "an update is too large to compute with", expected=f"a norm of at most {MAX_NORM:g}"
        )
    return KeptReply(
        site=received.site,
        seconds=received.seconds,
        bytes_down=received.bytes_down,
        bytes_up=len(content),
        update_norm=norms[0],
        memory_norm=norms[1] if len(memory) else None,
        sha256=hashlib.sha256(content).hexdigest(),
        figures=figures,
    )


def _second(folder: Path, received: Received, expected: Expected) -> KeptReply:
    """What becomes of a site that answered twice: the first answer stands where both are the same."""
    refused = DuplicateReply("a site answered one request twice")
    first = read_reply(folder, received.site)
    try:
        content = opened_parcel(received.message, manifest=expected.agreement.reply_manifest)
        same = hashlib.sha256(content).hexdigest() == first.sha256
    except (FedminetError, KeyError):
        same = False
    if first.refused is None:
        (note if same else refuse)(folder, first, refused)
    return KeptReply(received.site, received.seconds, refused.code, refused.what)


def _parcel(folder: Path, site: str) -> Path:
    return folder / f"{site}.safetensors"
