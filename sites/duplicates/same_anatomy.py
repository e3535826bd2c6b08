"""Refusing, or giving to the earlier patient, a pair that shows what another patient's pair shows."""

from __future__ import annotations

from collections.abc import MutableMapping

from minet_core.errors import ScanInvalid
from minet_core.imaging.volume import Pair
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
        self._store = store
        self._signatures = signatures
        self._settings = settings
        self._made: tuple[str, Images] | None = None

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

    def owner_of(self, pair: Pair, *, file: str) -> str:
        """Whose a new pair is: its patient's, or the one's who shows the same anatomy, where the site merges.

        Parameters
        ----------
        pair
            The pair, under the pseudonym of the patient it was ingested for.
        file
            The name that its file will have in the store.

        Returns
        -------
        str
            A pseudonym.

        Raises
        ------
        ScanInvalid
            FM-D202: it is another's and is not to be joined, or a copy of another's scan.
        """
        images = images_of(pair)
        self._made = file, images
        match = self._nearest(images, patient=pair.patient)
        if match is None:
            return pair.patient
        if self.merges and match.likeness < COPY:
            return match.patient
        raise self._refusal(match)

    def keep(self, pair: Pair, *, file: str) -> None:
        """Remember a pair that `owner_of` was asked about last, and that is taken.

        Parameters
        ----------
        pair
            The pair, under the pseudonym that `owner_of` gave.
        file
            The name of its file in the store.
        """
        if self._made is not None:
            self._signatures.drop(file)
            self._signatures.add(self._made[1], file=file, patient=pair.patient)

    def _nearest(self, images: Images, *, patient: str) -> Match | None:
        return self._signatures.nearest(images, patient=patient, limit=self._settings.max_likeness)

    def _refusal(self, match: Match) -> ScanInvalid:
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
