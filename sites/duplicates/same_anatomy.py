"""Refusing, or giving to the earlier patient, a pair that shows what another patient's pair shows."""

from __future__ import annotations

from collections.abc import MutableMapping

from minet_core.errors import ScanInvalid
from sites.duplicates.likeness import COPY, Images, Match, Signatures, images_of
from sites.quality.figure_text import told_apart
from sites.settings.site_settings import DuplicateSettings
from sites.store.cohort import PairRecord
from sites.store.store import Store


class SameAnatomy:
    """What an ingest asks of every pair.

    Parameters
    ----------
    store
        Where earlier pairs are read from.
    signatures
        Of the store's pairs; they are added to.
    settings
        The site's.
    labels
        By file, what the site calls the pairs accepted so far.
    """

    def __init__(
        self,
        store: Store,
        signatures: Signatures,
        settings: DuplicateSettings,
        *,
        labels: MutableMapping[str, str],
    ) -> None:
        self.labels = labels
        self.last_match: Match | None = None
        """Whom the pair was like that was refused last."""
        self._store = store
        self._signatures = signatures
        self._settings = settings

    @property
    def merges(self) -> bool:
        return self._settings.same_anatomy == "merge"

    def same_files(self, record: PairRecord) -> ScanInvalid:
        """The refusal of files that are there, byte for byte, under another patient.

        Parameters
        ----------
        record
            The pair that was there before.

        Returns
        -------
        ScanInvalid
            FM-D202, to be raised.
        """
        return ScanInvalid(
            "the same scans are there under another patient",
            got=self._called(record.file),
            expected="one name a patient",
            action="Remove the copy, or give both one patient's name (nifti.patient_id)",
        )

    def require_known(self, record: PairRecord, records: MutableMapping[str, PairRecord]) -> None:
        """Compare a pair that is in the store already, where it was not compared before.

        Parameters
        ----------
        record
            The pair.
        records
            By name, the store's pairs; a refused one is taken out: the store was made before pairs were compared.

        Raises
        ------
        ScanInvalid
            FM-D202: it shows another patient's anatomy.
        """
        if record.file in self._signatures:
            return
        pair = self._store.read_pair(record)
        images = images_of(pair)
        match = self._nearest(images, patient=record.patient)
        if match is not None:
            records.pop(record.name, None)
            raise self._refusal(match)
        self._signatures.add(images, file=record.file, patient=record.patient)

    def owner_of(self, images: Images, *, patient: str) -> str:
        """Whose a new pair is: its patient's, or the one's who shows the same anatomy, where the site merges.

        Parameters
        ----------
        images
            Of the pair, as `images_of` gives them.
        patient
            The pseudonym of the patient it was ingested for.

        Returns
        -------
        str
            A pseudonym.

        Raises
        ------
        ScanInvalid
            FM-D202: it is another's and is not to be joined, or a copy of another's scan.
        """
        match = self._nearest(images, patient=patient)
        if match is None:
            return patient
        if self.merges and match.likeness < COPY:
            return match.patient
        raise self._refusal(match)

    def keep(self, images: Images, *, file: str, patient: str) -> None:
        """Remember a pair that is taken.

        Parameters
        ----------
        images
            Of the pair, as `images_of` gives them.
        file
            The name of its file in the store.
        patient
            The pseudonym that `owner_of` gave.
        """
        self._signatures.drop(file)
        self._signatures.add(images, file=file, patient=patient)

    def _nearest(self, images: Images, *, patient: str) -> Match | None:
        return self._signatures.nearest(images, patient=patient, limit=self._settings.max_likeness)

    def require_other(self, match: Match) -> None:
        """Refuse a pair again that was refused for its likeness, while the other pair is there.

        Parameters
        ----------
        match
            As `last_match` had it.

        Raises
        ------
        ScanInvalid
            FM-D202: the same refusal.
        """
        if match.file in self._signatures:
            raise self._refusal(match)

    def _refusal(self, match: Match) -> ScanInvalid:
        self.last_match = match
        limit, found = told_apart(match.likeness, self._settings.max_likeness)
        copied = match.likeness >= COPY
        return ScanInvalid(
            "the scans are a copy of another patient's"
            if copied
            else "the scans show another patient's anatomy",
            got=f"the {match.role} is like {self._called(match.file)} to {found}",
            expected=f"less than {limit} (1: the same image)",
            action="Remove the copy, or give both one patient's name (nifti.patient_id)"
            if copied
            else "Where both are one patient, give them one name (nifti.patient_id) or set duplicates.same_anatomy: "
            "merge; where they are two, raise duplicates.max_likeness",
        )

    def _called(self, file: str) -> str:
        return f"{self.labels[file]} ({file})" if file in self.labels else file
