"""The participation contract: what meets it, what does not, and what a late site costs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from fedminet.simulation.in_process_grid import InProcessGrid, node_id_of
from minet_core.errors import ConfigurationError
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.settings.federation import ParticipationSettings
from server.runs.participation import in_short, participation_violation, require_declarations
from tests.faults.trial_sites import conduct_trial, trial_federation, trial_site

SLICES = {"sms": 100, "umr": 50, "fastmri": 70}
DECLARED = {
    site: CohortDeclaration(site=site, cohort_digest="0" * 12, n_training_slices=n)
    for site, n in SLICES.items()
}


@given(
    accepted=st.sets(st.sampled_from(sorted(SLICES))),
    quorum=st.integers(1, 3),
    required=st.sets(st.sampled_from(sorted(SLICES))),
    min_share=st.floats(0, 1),
)
def test_a_round_counts_where_every_part_of_the_contract_is_met(
    accepted: set[str], quorum: int, required: set[str], min_share: float
) -> None:
    contract = ParticipationSettings(quorum=quorum, required=tuple(required), min_share=min_share)
    found = participation_violation(contract, {site: SLICES[site] for site in accepted}, declared=DECLARED)
    share = sum(SLICES[site] for site in accepted) / sum(SLICES.values())
    met = len(accepted) >= quorum and required <= accepted and (share >= min_share - 1e-12 or min_share == 0)
    assert (found is None) == met


def test_a_share_of_all_cases_needs_every_declaration() -> None:
    federation = trial_federation(participation={"quorum": 1, "min_share": 0.5})
    require_declarations(federation, ("sms", "umr", "fastmri"))
    with pytest.raises(ConfigurationError, match=r"FM-C100.*umr"):
        require_declarations(federation, ("sms", "fastmri"))


class LateGrid(InProcessGrid):
    """One site's first reply comes when the round after the one it was asked in has begun."""

    late = node_id_of("umr")
    begun = ""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        self.begun = sent[0].metadata.group_id
        return super().push_messages(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ids = list(message_ids)
        if self.begun == "1":
            ids = [i for i in ids if i not in self._asked or self._asked[i].metadata.dst_node_id != self.late]
        return super().pull_messages(ids)


def test_a_straggler_is_left_out_of_its_round_and_takes_part_in_the_next(tmp_path: Path) -> None:
    federation = trial_federation(rounds=2, participation={"quorum": 2, "deadline_s": 3.0, "retries": 0})
    grid = LateGrid({site: trial_site(shift=0.1, n_training_slices=n) for site, n in SLICES.items()})
    run = conduct_trial(tmp_path, grid, federation)
    assert (run.state.status, run.state.reason) == ("partial", "round 1 without umr")
    rounds = [e["sites"] for e in run.events_recorded() if e["event"] == "round-completed"]
    assert rounds == [["fastmri", "sms"], ["fastmri", "sms", "umr"]]
    first = run.rounds_recorded()[0]["sites"]
    assert first["umr"]["refused"] == "FM-F405"
    assert first["umr"]["bytes_down"] == first["sms"]["bytes_down"] > 0
    assert first["sms"]["share"] + first["fastmri"]["share"] == pytest.approx(1.0)


def test_the_same_shortfall_of_neighbouring_rounds_is_one_line() -> None:
    each = [f"round {number} without umr" for number in (1, 2, 3, 5)]
    assert in_short([*each, "round 6 without sms"]) == [
        "rounds 1 to 3 without umr",
        "round 5 without umr",
        "round 6 without sms",
    ]
