"""`fedminet site fetch`: studies of a PACS into the site's inbox. Counts are said, and no number or name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from client.pacs.query import Moved, Pacs
from client.pacs.questions import Question
from client.receive.inbox import Inbox
from client.receive.intake import Intake
from client.receive.peer import Caller, Peer
from client.receive.receiver import Receiver
from client.site_home import SiteHome
from minet_core.errors import DicomTransferIncomplete, InvalidSetting, RunBusy, StudyNotInPacs
from sites.settings.site_settings import SiteSettings
from sites.store.pseudonym import naming_key

SHOWN = 10


@dataclass(frozen=True)
class Fetched:
    """Counts. n_cut: series that the PACS gave up. not_found: the places of numbers that no study has, as "line 3"."""

    n_asked: int
    n_studies: int
    n_series: int
    n_objects: int
    n_failed: int
    n_cut: int
    not_found: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def as_text(self) -> str:
        """For a person."""
        return (
            f"Asked for {self.n_asked}: {self.n_studies} studies with {self.n_series} MR series, "
            f"{self.n_objects} objects fetched, {self.n_failed} not, {self.n_cut} series given up; "
            f"{len(self.not_found)} not found."
        )

    def require_all(self) -> None:
        """Raises DicomTransferIncomplete (FM-S525), StudyNotInPacs (FM-D221)."""
        if self.n_failed or self.n_cut:
            raise DicomTransferIncomplete(
                "objects did not come from the PACS",
                got=f"{self.n_failed} of {self.n_failed + self.n_objects}, {self.n_cut} series given up",
                action="See the receiver's log; objects that are no MR images are refused. What is missing comes "
                "with another fetch",
            )
        if self.not_found:
            shown = ", ".join(self.not_found[:SHOWN]) + (", ..." if len(self.not_found) > SHOWN else "")
            raise StudyNotInPacs(
                "the PACS has no study by a number",
                got=f"{len(self.not_found)}: {shown}",
                action="Compare the numbers with the PACS",
            )


def fetch(
    home: SiteHome, questions: Sequence[Question], *, progress: Callable[[int, int], None] | None = None
) -> Fetched:
    """Fetch the MR series of every study that answers a question.

    Raises InvalidSetting (FM-C102): no PACS is set, or more studies than are taken; DicomPeerUnreachable (FM-S524).
    What is there of the studies is fetched where others are not: see `Fetched.require_all`.
    """
    settings = home.settings()
    pacs = _pacs(settings)
    found = {one.label: pacs.studies(one) for one in questions}
    studies = sorted({study for of_question in found.values() for study in of_question})
    if len(studies) > settings.pacs.max_studies:
        raise InvalidSetting(
            "too many studies for one fetch",
            got=len(studies),
            expected=f"at most {settings.pacs.max_studies}",
            action="Ask for fewer, or raise pacs.max_studies of site.yaml",
        )
    series = [(study, one) for study in studies for one in pacs.series(study)]
    moved = list[Moved]()
    if series:
        with _retriever(home, settings, pacs) as retrieve:
            for done, (study, one) in enumerate(series):
                if progress is not None:
                    progress(done, len(series))
                moved.append(retrieve(study, one))
    if progress is not None:
        progress(len(series), len(series))
    return Fetched(
        n_asked=len(questions),
        n_studies=len(studies),
        n_series=len(series),
        n_objects=sum(one.completed for one in moved),
        n_failed=sum(one.failed for one in moved),
        n_cut=sum(one.cut for one in moved),
        not_found=tuple(label for label, of_question in found.items() if not of_question),
    )


def _pacs(settings: SiteSettings) -> Pacs:
    asked = settings.pacs
    if asked.host is None:
        raise InvalidSetting(
            "there is no PACS to fetch from",
            got="pacs.host is null",
            action="Set pacs.title, pacs.host and pacs.port in site.yaml",
        )
    caller = Caller.of_site(settings.receive, timeout_s=asked.timeout_s, tls=asked.tls)
    return Pacs(caller, Peer(asked.title, asked.host, asked.port))


@contextlib.contextmanager
def _retriever(home: SiteHome, settings: SiteSettings, pacs: Pacs) -> Iterator[Callable[[str, str], Moved]]:
    """What fetches a series. For C-MOVE the receiver that runs is used, or one for the time of the fetch."""
    inbox = Inbox(home.inbox, key=naming_key(home.store))
    inbox.make_folders()
    if settings.pacs.retrieve == "get":
        intake = Intake(settings.receive, inbox)
        yield lambda study, series: pacs.get(study, series, intake=intake)
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(RunBusy):
            stack.enter_context(Receiver(settings.receive, inbox).running())
        yield lambda study, series: pacs.move(study, series, destination=settings.receive.title)
