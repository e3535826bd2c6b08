"""Asking ahead for the pairs that are likely to be made, while there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sites.making.make_pair import PairTask
from sites.making.pair_workers import PairMaker
from sites.pairing.candidates import Candidate


class AskingAhead:
    """The candidates of an ingest, looked at before their turn.

    Parameters
    ----------
    maker
        What makes the pairs.
    candidates
        In their order.
    fingerprint_of
        What a candidate's pair is made from; whatever it raises is raised again at the candidate's turn.
    is_made
        Whether nothing is likely to be made for a fingerprint.
    task_of
        The making of a candidate's pair.
    """

    def __init__(
        self,
        maker: PairMaker,
        candidates: Sequence[Candidate],
        *,
        fingerprint_of: Callable[[Candidate], str],
        is_made: Callable[[str], bool],
        task_of: Callable[[Candidate, str], PairTask],
    ) -> None:
        self._maker, self._candidates = maker, candidates
        self._fingerprint_of, self._is_made, self._task_of = fingerprint_of, is_made, task_of
        self._next = 0
        self._fingerprints: dict[int, str] = {}

    def fingerprint(self, place: int) -> str:
        """Of a candidate, by its place; what was found ahead is given once.

        Parameters
        ----------
        place
            From 0.

        Returns
        -------
        str
            As `fingerprint_of` gives it, and it raises what that raises.
        """
        ahead = self._fingerprints.pop(place, None)
        return ahead or self._fingerprint_of(self._candidates[place])

    def ask_from(self, place: int) -> None:
        """Let pairs from a place on be made while there is room.

        Parameters
        ----------
        place
            Of the candidate whose turn it is.
        """
        place = max(place, self._next)
        while place < len(self._candidates) and self._maker.has_room:
            candidate = self._candidates[place]
            try:
                fingerprint = self._fingerprint_of(candidate)
            except Exception:  # whatever it is, the same is raised at this pair's turn, and refused there
                place += 1
                break
            self._fingerprints[place] = fingerprint
            if fingerprint not in self._maker and not self._is_made(fingerprint):
                self._maker.ask(self._task_of(candidate, fingerprint))
            place += 1
        self._next = place
