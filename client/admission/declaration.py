"""What the site declares of its cohort, for the coordinator to hold its replies to."""

from __future__ import annotations

from pathlib import Path

from client.site_home import SiteHome
from minet_core.protocol.cohort_declaration import DECLARATION_FILE, CohortDeclaration
from minet_core.runtime.files.atomic_write import write_json
from sites.store.store import Store


def declare(home: SiteHome) -> Path:
    """Write the declaration of the site's store to its folder. Raises NoScansFound (FM-D205) where it is empty."""
    path = home.path / DECLARATION_FILE
    write_json(path, declaration_of(home).model_dump(mode="json"))
    return path


def declaration_of(home: SiteHome) -> CohortDeclaration:
    """The declaration of the site's store. Raises NoScansFound (FM-D205) where it is empty."""
    cohort = Store(home.store).cohort
    return CohortDeclaration(
        site=home.settings().name,
        cohort_digest=cohort.digest,
        n_training_slices=cohort.counts["training"].slices,
    )
