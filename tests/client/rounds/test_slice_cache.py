"""A site's slices, prepared once a process."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from client.rounds import round as site_round
from client.rounds.round import MAX_STORES, prepared_training_slices
from minet_core.training.samples import make_sample
from sites.store.dataset import StoreSlices
from sites.store.store import Store
from tests.faults.tiny_sites import make_tiny_sites


def test_a_slice_is_read_in_the_first_round_and_not_again(tmp_path: Path) -> None:
    store = Store(make_tiny_sites(tmp_path, names=("sms",))["sms"].store)
    first = prepared_training_slices(store, scale=2)
    target, reference = StoreSlices(store, "training")[3]
    assert torch.equal(first[3].target, make_sample(target, reference, 2).target)
    for file in store.path.glob("*.h5"):
        file.unlink()
    again = prepared_training_slices(Store(store.path), scale=2)
    assert again[3] is first[3]


def test_another_scale_another_folder_and_another_cohort_are_prepared_anew(tmp_path: Path) -> None:
    homes = make_tiny_sites(tmp_path, names=("sms", "umr"))
    store = Store(homes["sms"].store)
    first = prepared_training_slices(store, scale=2)
    before = first[0].target
    assert prepared_training_slices(store, scale=4).scale == 4
    assert prepared_training_slices(Store(homes["umr"].store), scale=2) is not first
    shutil.rmtree(store.path)
    shutil.copytree(homes["umr"].store, store.path)
    other = prepared_training_slices(Store(store.path), scale=2)
    assert other is not first
    assert not torch.equal(other[0].target, before)


def test_many_sites_in_one_process_keep_no_more_than_a_few(tmp_path: Path) -> None:
    store = Store(make_tiny_sites(tmp_path, names=("sms",))["sms"].store)
    for number in range(2 * MAX_STORES):
        folder = tmp_path / str(number)
        shutil.copytree(store.path, folder)
        prepared_training_slices(Store(folder), scale=2)
    assert site_round._prepared.cache_info().currsize == MAX_STORES


def test_an_ingest_in_the_middle_of_a_round_changes_nothing_in_it(tmp_path: Path) -> None:
    """The reply names the cohort that was read when the round began: that one is trained on."""
    store = Store(make_tiny_sites(tmp_path, names=("sms",))["sms"].store)
    declared, n_slices = store.cohort.digest, len(StoreSlices(store, "training"))
    none = store.cohort.model_copy(update={"pairs": ()})
    Store(store.path).write_cohort(none.model_copy(update={"digest": none.computed_digest()}))
    assert len(StoreSlices(Store(store.path), "training")) == 0
    assert store.cohort.digest == declared
    assert len(prepared_training_slices(store, scale=2)) == n_slices > 0
