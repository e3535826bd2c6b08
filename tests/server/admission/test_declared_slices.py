"""`server admit --max-slices`: a site that declares more training slices than it is believed is not admitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet_core.errors import AdmissionRefused
from minet_core.protocol.cohort_declaration import MAX_SLICES
from server.admission.enrolment import admitted_sites
from server.commands import server_commands
from tests.support.admitted import PASSPHRASE, Coordinator, make_coordinator, make_site


def declared(path: Path, n_slices: int) -> Path:
    path.write_text(
        f'{{"site": "sms", "cohort_digest": "{"a" * 64}", "n_training_slices": {n_slices}}}', encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(
    ("n_slices", "limit", "is_admitted"),
    [
        (1_000_000, None, False),
        (MAX_SLICES, None, True),
        (500, 499, False),
        (1_000_000, 1_000_000, True),
    ],
)
def test_a_site_that_declares_too_many_slices_is_admitted_only_where_that_is_said(
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    n_slices: int,
    limit: int | None,
    is_admitted: bool,
) -> None:
    coordinator: Coordinator = make_coordinator(tmp_path / "coordinator")
    site = make_site(tmp_path / "sms")
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    from minet_core.admission.request import read_request

    options = ["--fingerprint", read_request(site.request)[1].fingerprint, "--kit", str(tmp_path / "kit")]
    options += ["--declaration", str(declared(tmp_path / "declaration.json", n_slices))]
    options += ["--passphrase-file", str(tmp_path / "passphrase")]
    options += [] if limit is None else ["--max-slices", str(limit)]
    called = CliRunner().invoke(
        server_commands,
        ["admit", str(coordinator.home.path), "--name", "sms", "--request", str(site.request), *options],
    )
    assert ("sms" in admitted_sites(coordinator.home)) == is_admitted
    assert (tmp_path / "kit").exists() == is_admitted
    if is_admitted:
        assert called.exit_code == 0
        assert f"sms declares {n_slices} training slices" in called.output
    else:
        assert isinstance(called.exception, AdmissionRefused)
        assert called.exception.got == n_slices
        record_property("figure", f"{n_slices} refused by {called.exception.code}")
