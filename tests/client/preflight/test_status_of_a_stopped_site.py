"""`fedminet site status` of an admitted site that does not run: the same answer as before a start, without torch."""

from __future__ import annotations

import json
import subprocess
import sys

from client.admission.model_size import MODEL_SIZE_FILE, read_model_size
from client.preflight.check_admission import check_admission
from client.site_home import SiteHome
from tests.client.preflight.findings import found
from tests.support.repository import ROOT

_STATUS = """
import sys
from pathlib import Path
from client.preflight.check_admission import check_admission
from client.site_home import SiteHome
findings = check_admission(SiteHome.at(Path(sys.argv[1])), count_model=False).findings
policy = next(one for one in findings if one.check == "policy")
print("torch" in sys.modules, policy.level, policy.got, sep="|")
"""


def _told(home: SiteHome) -> list[str]:
    """Whether torch was loaded, and the level and text of the check of the policy."""
    done = subprocess.run(
        [sys.executable, "-c", _STATUS, str(home.path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().split("|")


def test_the_weights_that_were_counted_before_are_told_without_torch(home: SiteHome) -> None:
    checked = found(check_admission(home).findings, "policy")
    assert _told(home) == ["False", checked.level, checked.got]


def test_without_a_count_they_are_counted_and_kept(home: SiteHome) -> None:
    path = home.state / MODEL_SIZE_FILE
    path.unlink(missing_ok=True)
    assert _told(home)[0] == "True"
    assert _told(home)[0] == "False"
    path.write_text("{", encoding="utf-8")
    assert _told(home)[0] == "True"


def test_a_count_of_another_file_is_no_count(home: SiteHome) -> None:
    federation = home.federation()
    check_admission(home)
    assert read_model_size(home, federation) is not None
    other = federation.model_copy(update={"rounds": federation.rounds + 1})
    assert read_model_size(home, other) is None


def test_a_check_before_a_start_counts_anew(home: SiteHome) -> None:
    """Whoever writes into the folder gets another number told, and nothing started by it."""
    true = found(check_admission(home).findings, "policy")
    path = home.state / MODEL_SIZE_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "n_parameters": 7}), encoding="utf-8")
    assert found(check_admission(home).findings, "policy") == true
