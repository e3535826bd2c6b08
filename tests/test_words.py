"""One word for one thing: names that were replaced do not come back (decision 19)."""

import re

from tests.support.repository import ROOT

ROOMS = ("client", "server", "minet_core", "sites", "fedminet")

REPLACED = [
    "Incoming",
    "weigh_global_change",
    "KeptRound",
    "KeptRounds",
    "shorten_waits",
    "give_half_sent_requests_up",
    "SteadfastNodeState",
    "_give_out_again",
    "only_client",
    "kept_page",
    "conduct_round",
    "REASKED",
    "PromptGrid",
    "without_waits",
    "forget_old",
    "MOST_FRUITLESS",
    "tend_runs",
    "SaidOnce",
    "bring_in_line",
    "tell_superlink",
    "Sightings",
    "GrowingLines",
    "Chosen",
    "agreement_of",
    "weights_of",
    "memory_down",
    "memory_up",
    "SETTLING_STEPS",
    "NO_IMAGE",
    "bring_to_form",
    "_descend",
    "Recomputable",
    "LongRun",
]
"""Of functions, classes and constants; plain English words are not among them, since prose may have them."""

LIMITS = re.compile(
    r"\b_?(?:MOST|LEAST|FEWEST|LONGEST|SHORTEST|LARGEST|SMALLEST)_[A-Z]\w*|\b(?:most|least)_[a-z]\w*"
)
"""MAX_ and MIN_ are the words of limits, in constants and in keys of settings."""

ALLOWED = {"least_squares"}


def test_no_replaced_name_is_left() -> None:
    words = re.compile(rf"\b(?:{'|'.join(REPLACED)})\b")
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found = {*words.findall(text), *LIMITS.findall(text)} - ALLOWED
            assert not found, f"{path.relative_to(ROOT)}: {sorted(found)}"
