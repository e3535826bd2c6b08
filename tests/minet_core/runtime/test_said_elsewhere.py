"""What is said of a failure away from this machine names no folder of it."""

from __future__ import annotations

import pytest

from minet_core.errors import DiskFull
from minet_core.runtime.said_elsewhere import said_elsewhere, without_folders


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/srv/prof miller/runs/state.json cannot be written", "state.json cannot be written"),
        ("the file '/home/miller/a.txt' is gone", "the file 'a.txt' is gone"),
        ("from /srv/a/b to /home/c/d.e", "from b to d.e"),
        ("~/study/a.txt is gone", "a.txt is gone"),
        ("/state.json is gone", "state.json is gone"),
        ("(/srv/a/b)", "(b)"),
        ("3/4 of the sites, 12 s/round", "3/4 of the sites, 12 s/round"),
        ("/srv/Miller, John/heart: a; b/x.json is gone", "x.json is gone"),
        ("/home/o'neil/x.json is gone", "x.json is gone"),
        ("'/srv/a/b','/srv/c/d' and (/e/f)", "'b','d' and (f)"),
        ("https://server:9092/fleet/x is gone", "https://server:9092/fleet/x is gone"),
        ("a federation of sms/umr is left", "a federation of sms/umr is left"),
    ],
)
def test_a_path_is_its_last_name(text: str, kept: str) -> None:
    assert without_folders(text) == kept


def test_what_was_got_is_not_said() -> None:
    failure = DiskFull("/srv/miller/state.json cannot be written", got="/srv/miller", action="Make room")
    assert said_elsewhere(failure) == "FM-S504: state.json cannot be written"
