"""The training benchmark: it compares equals, and says where it cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedminet.bench import train as bench
from minet_core.errors import FileMissing
from minet_core.settings.federation import ModelSettings

TINY = ModelSettings(n_groups=1, n_blocks=1, n_features=8, reduction=2)


def test_bench_prints_both_times_and_their_ratio() -> None:
    lines: list[str] = []
    result = bench.bench_train(
        model=TINY, patch_px=8, batch_size=2, n_rounds=2, autocast=False, write=lines.append
    )
    assert result.ratio == pytest.approx(result.literal_s / result.fast_s)
    assert result.dtype == "float32"
    assert lines[-1] == f"ratio    {result.ratio:.2f}"
    assert f"{result.n_threads} threads" in lines[0]


def test_bench_outside_a_checkout_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "ORACLE", tmp_path / "minet_literal.py")
    with pytest.raises(FileMissing, match="from a checkout"):
        bench.bench_train(model=TINY, patch_px=8, batch_size=2, n_rounds=1)
