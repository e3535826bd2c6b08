"""A site that computes groups of layers again sends the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedminet.simulation.simulate import federate
from minet_core.models import activation_checkpointing
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation


def test_a_site_that_recomputes_gives_the_same_global_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = make_tiny_sites(tmp_path)
    federation = tiny_federation(rounds=1)

    def model(name: str) -> bytes:
        return federate(tmp_path / name, federation, homes, lambda _done, _of: None).global_model.read_bytes()

    recomputed: list[bool] = []
    real = activation_checkpointing.checkpoint

    def counted(*arguments: object, **options: object) -> object:
        recomputed.append(True)
        return real(*arguments, **options)

    monkeypatch.setattr(activation_checkpointing, "checkpoint", counted)
    stored = model("stored")
    assert not recomputed  # a processor stores all
    settings = homes["sms"].path / "site.yaml"
    text = settings.read_text(encoding="utf-8")
    assert "recompute: null" in text
    settings.write_text(text.replace("recompute: null", "recompute: true"), encoding="utf-8")
    assert model("recomputed") == stored
    assert len(recomputed) == 2 * 2  # the two branches' groups, in each of this site's two steps
