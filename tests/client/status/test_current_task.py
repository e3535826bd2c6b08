"""What a task notes of itself on the site's disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.status.current_task import at_work, last_round
from tests.support.site_at_work import ASKED


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(143)])
def test_a_task_that_the_client_is_ended_in_has_not_failed(tmp_path: Path, ending: BaseException) -> None:
    with pytest.raises(type(ending)), at_work(tmp_path, ASKED):
        raise ending
    assert last_round(tmp_path).failed is None
    with pytest.raises(ValueError, match="defect"), at_work(tmp_path, ASKED):
        raise ValueError("a defect")
    failed = last_round(tmp_path).failed
    assert failed is not None
    assert failed.code == "FM-S900"
