"""What a site declares of the patients it trains on, before a run: a digest and a count.

The coordinator records it at admission. Every reply repeats it, so a cohort that was changed behind a run, or a count
that was made up to weigh more in the mean, is seen. Where a site was admitted without one, its first valid reply of
the run declares for the rest of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, StringConstraints

from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing
from minet_core.runtime.json_text import parse_json
from minet_core.settings.names import SiteName
from minet_core.settings.yaml_file import Settings, parse_settings

DECLARATION_FILE = "declaration.json"
_MAX_BYTES = 64 * 1024
"""A declaration has 200 bytes; more of a file is not read."""

_DIGITS = 12
"""Hexadecimal digits of a digest that travel in a reply: 48 bits, which a float64 holds exactly."""


MAX_SLICES = 100_000
"""Training slices that a site is believed without a word of the coordinator: the whole fastMRI knee set, the largest
public one, has about 60,000 slices."""


class CohortDeclaration(Settings):
    """`declaration.json`: no patient, no path and no scan is in it."""

    site: SiteName = Field(description="the site's name")
    cohort_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12,64}$")] = Field(
        description="digest of the site's cohort.json"
    )
    n_training_slices: PositiveInt = Field(description="slices of the training split: the site's weight")

    @property
    def cohort_number(self) -> int:
        """The digest as it travels in a reply."""
        return cohort_number(self.cohort_digest)


def require_believable(declared: CohortDeclaration, *, max_slices: int) -> None:
    """Refuse a declaration of more training slices than the coordinator believes.

    Parameters
    ----------
    declared
        By a site.
    max_slices
        The most that are believed, `MAX_SLICES` without a word of the coordinator.

    Raises
    ------
    AdmissionRefused
        FM-F404, for more.
    """
    if declared.n_training_slices > max_slices:
        raise AdmissionRefused(
            f"{declared.site} declares more training slices than are believed",
            got=declared.n_training_slices,
            expected=f"at most {max_slices}",
            action="Ask the site for its number of patients; where it is right, give --max-slices",
        )


def cohort_number(digest: str) -> int:
    """The first 48 bits of a cohort's digest.

    Parameters
    ----------
    digest
        12 hexadecimal digits or more.

    Returns
    -------
    int
        0 to 2^48 - 1, which a float64 holds exactly.
    """
    return int(digest[:_DIGITS], 16)


def declared_by_reply(site: str, *, number: int, n_training_slices: int) -> CohortDeclaration:
    """The declaration that a site's first valid reply stands for.

    Parameters
    ----------
    site
        Its name.
    number
        The cohort's, as the reply has it (`cohort_number`).
    n_training_slices
        As the reply has them.

    Returns
    -------
    CohortDeclaration
        Its digest has 12 hexadecimal digits.
    """
    return CohortDeclaration(
        site=site, cohort_digest=f"{number:0{_DIGITS}x}", n_training_slices=n_training_slices
    )


def read_declaration(path: Path) -> CohortDeclaration:
    """Read a site's declaration.

    Parameters
    ----------
    path
        Of `declaration.json`.

    Returns
    -------
    CohortDeclaration
        What the site declares.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    ConfigurationError, UnknownKey, InvalidSetting
        FM-C100 to FM-C102, for what is no declaration.
    """
    if not path.is_file():
        raise FileMissing(
            "a site's declaration is missing",
            got=path,
            action="Use the one that `fedminet site ingest` wrote",
        )
    try:
        with path.open("rb") as stream:
            content = parse_json(stream.read(_MAX_BYTES))
    except ValueError as failure:
        raise ConfigurationError(f"{path} is not a JSON file") from failure
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no declaration")
    return parse_settings(content, CohortDeclaration, source=str(path))
