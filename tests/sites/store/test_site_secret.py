"""The seed by which a site draws its patches is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from minet_core.errors import StoreDamaged
from sites.store.pseudonym import keep_key, site_key
from sites.store.site_secret import patch_seed


def test_it_is_another_one_at_each_site_and_for_each_federation_seed(tmp_path: Path) -> None:
    for name in ("sms", "umr"):
        site_key(tmp_path / name, may_make=True)
    seeds = {
        patch_seed(tmp_path / name, federation_seed=seed) for name in ("sms", "umr") for seed in range(50)
    }
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_it_is_the_same_after_a_restart_and_with_the_key_of_a_seeded_phantom(tmp_path: Path) -> None:
    for name in ("first", "second"):
        keep_key(tmp_path / name, b"k" * 32)
    assert patch_seed(tmp_path / "first", federation_seed=1) == patch_seed(
        tmp_path / "second", federation_seed=1
    )
    assert patch_seed(tmp_path / "first", federation_seed=1) == patch_seed(
        tmp_path / "first", federation_seed=1
    )


def test_a_store_without_its_key_draws_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="FM-D207"):
        patch_seed(tmp_path, federation_seed=1)
