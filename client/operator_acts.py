"""What the hospital does with its site, written down in the site's ledger: ingest, withdrawal, start, stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from client.site_home import SiteHome
from client.status.finding import Part
from minet_core.errors import FedminetError, HostError, code_of
from minet_core.ledger.records import Ledger
from sites.store.store import Store


def note_ingest(home: SiteHome) -> None:
    """Write down what the store holds from now on: a digest and counts."""
    cohort = Store(home.store).cohort
    counts = {split: count.slices for split, count in cohort.counts.items()}
    Ledger(home.state).append("ingested", cohort=cohort.digest, slices=counts)


def note_withdrawal(home: SiteHome, *, n_files: int) -> None:
    """Write down that a patient was withdrawn, and what the store holds from now on; not who it was."""
    cohort = Store(home.store).cohort
    counts = {split: count.slices for split, count in cohort.counts.items()}
    Ledger(home.state).append("withdrawn", cohort=cohort.digest, slices=counts, files=n_files)


@contextlib.contextmanager
def noted_start(home: SiteHome, *, part: Part) -> Iterator[None]:
    """Write down that the client starts and, however it ends but by a kill, that it stops.

    The node, in a container of its own, cannot write to the ledger: the trainer's start stands for both. Raises
    LedgerDamaged (FM-S523): nothing is started on a ledger that does not hold together.
    """
    if part == "node":
        yield
        return
    ledger = Ledger(home.state)
    ledger.append("started", part=part, federation=_federation_digest(home))
    code: str | None = None
    try:
        yield
    except FedminetError as failure:
        code = code_of(failure)
        raise
    finally:
        with contextlib.suppress(HostError):  # as a full disk: why the client ended is said, not this
            ledger.append("stopped", part=part, code=code)


def _federation_digest(home: SiteHome) -> str | None:
    from minet_core.admission.kit import FEDERATION_FILE

    if not (home.kit / FEDERATION_FILE).is_file():
        return None
    with contextlib.suppress(FedminetError):  # the checks before the start say what is wrong with it
        return home.federation().digest()
    return None
