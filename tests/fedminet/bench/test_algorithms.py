"""The comparison of algorithms: its cells are made once, held to their settings, and told apart in the table."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from client.site_home import SiteHome
from fedminet.bench import algorithms as bench
from fedminet.bench.algorithms import ALONE, FEDERATED, METHODS, Cell, cell_path, compare, table_text
from fedminet.main import run
from fedminet.simulation import simulate
from fedminet.single_machine.sites import MADE_OF
from minet_core.checkpoint import load_checkpoint, load_model
from minet_core.errors import ConfigurationError, QuorumNotMet, RunFailed
from minet_core.protocol.exchange_plan import exchange_plan_of
from minet_core.report.summary import Scores
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings
from server.runs.run_directory import RunDirectory
from sites.scores import by_method, scores_on_test_split
from sites.store.store import Store
from tests.faults.tiny_sites import N_PATIENTS, make_tiny_sites, tiny_federation
from tests.faults.tiny_sites import TINY_SITES as SITES

SEED = 5


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison") / f"seed-{SEED}-patients-{N_PATIENTS}"
    make_tiny_sites(folder)
    write_json(folder / MADE_OF, {"phantoms": {"patients": N_PATIENTS, "seed": SEED}})
    return folder


@pytest.fixture(scope="module")
def compared(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Cell]]:
    """Every method on one seed of tiny sites, and the folder it was done in."""
    out = tmp_path_factory.mktemp("out")
    shutil.copytree(phantoms, out / "phantoms" / phantoms.name)
    return out, compare_tiny(out)


def compare_tiny(out: Path, **changes: object) -> list[Cell]:
    return compare(out, tiny_federation(rounds=2, **changes), seeds=[SEED], n_patients=N_PATIENTS, quiet=True)


def cell(method: str, seed: int, psnr_db: float, *, n_pairs: int = 2, bytes_up: float = 2000.0) -> Cell:
    """A cell of one site."""
    return Cell(
        method=method,
        seed=seed,
        federation="",
        n_patients=2,
        n_pairs={"sms": n_pairs},
        scores={"sms": Scores(psnr_db=psnr_db, ssim=0.9, nmse=0.01)},
        sinc={"sms": Scores(psnr_db=30.0, ssim=0.8, nmse=0.02)},
        bytes_up={"sms": bytes_up} if method in FEDERATED else {},
        seconds=3.0,
    )


def one_site() -> FederationSettings:
    return tiny_federation(sites=("sms",), participation={"quorum": 1})


def test_every_method_gives_one_durable_cell_a_seed(compared: tuple[Path, list[Cell]]) -> None:
    out, cells = compared
    assert [one.method for one in cells] == list(METHODS)
    for one in cells:
        kept = cell_path(out, one.method, SEED).read_text()
        assert Cell.model_validate_json(kept) == one
        assert set(one.scores) == set(one.sinc) == set(SITES)
        assert one.seconds > 0
        assert one.n_pairs == dict.fromkeys(SITES, N_PATIENTS)
        for site in SITES:  # the same test volumes for every method; a federation's figures travel rounded
            assert one.sinc[site].psnr_db == pytest.approx(cells[0].sinc[site].psnr_db, abs=1e-3)
            assert one.sinc[site].ssim == pytest.approx(cells[0].sinc[site].ssim, abs=1e-4)
    # A federation's figures travel rounded, so methods are told apart by their models.
    models = {method: _final_model(out / "runs" / f"{method}-{SEED}") for method in FEDERATED}
    assert len(set(models.values())) == len(FEDERATED)
    alone = {one.scores["sms"].psnr_db for one in cells if one.method in ALONE}
    assert len(alone) == len(ALONE)


def _final_model(run: Path) -> bytes:
    """The values of the last checkpoint, whatever it says of itself."""
    tensors, _ = load_checkpoint(max(run.rglob("checkpoints/*.safetensors")))
    return b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))


def test_only_a_federation_sends_and_a_control_variate_doubles_it(compared: tuple[Path, list[Cell]]) -> None:
    sent = {one.method: one.bytes_up for one in compared[1]}
    assert all(not sent[method] for method in ALONE)
    weights = {
        name: exchange_plan_of(tiny_federation(algorithm={"name": name})).reply_manifest for name in FEDERATED
    }
    for name in FEDERATED:
        payload = 4 * sum(_n_values(shape) for _, shape, _ in weights[name].entries)
        assert set(sent[name]) == set(SITES)
        assert payload < min(sent[name].values())
    assert sent["fedprox"]["sms"] == pytest.approx(sent["fedavg"]["sms"], rel=0.01)
    assert 1.8 < sent["scaffold"]["sms"] / sent["fedavg"]["sms"] < 2.2
    assert sent["personal-head"]["sms"] < sent["fedavg"]["sms"]


def test_a_personal_head_is_tested_with_the_head_of_each_site(compared: tuple[Path, list[Cell]]) -> None:
    out, cells = compared
    personal = next(one for one in cells if one.method == "personal-head")
    homes = {s: SiteHome.at(out / "runs" / f"personal-head-{SEED}" / "sites" / s) for s in SITES}
    for site, other in zip(SITES, SITES[1:] + SITES[:1], strict=True):
        own, strange = (
            by_method(scores_on_test_split(model, Store(homes[site].store), scale=2, seed=SEED))["global"][
                "psnr_db"
            ]
            for model, _ in (load_model(homes[name].results / "model.safetensors") for name in (site, other))
        )
        assert personal.scores[site].psnr_db == pytest.approx(own, abs=6e-4)  # it travelled rounded
        assert abs(own - strange) > 1e-5


def test_methods_share_the_stores_and_no_state(compared: tuple[Path, list[Cell]]) -> None:
    out, _ = compared
    made = out / "phantoms" / f"seed-{SEED}-patients-{N_PATIENTS}" / "sites" / "sms"
    assert not (made / "state").exists()  # what was made is as it was
    assert not (made / "kit").exists()
    store = next(path for path in (made / "store").rglob("*") if path.is_file())
    for method in FEDERATED:
        own = out / "runs" / f"{method}-{SEED}" / "sites" / "sms"
        assert (own / store.relative_to(made)).samefile(store)
        assert (own / "state").is_dir()
        assert (own / "kit" / "federation.yaml").is_file()


def test_a_cell_that_is_there_is_not_made_again(
    compared: tuple[Path, list[Cell]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    shutil.copytree(compared[0], out, copy_function=os.link)
    cell_path(out, "fedprox", SEED).unlink()  # as where the comparison was ended before it
    made: list[str] = []
    original = bench._made_cell
    monkeypatch.setattr(
        bench, "_made_cell", lambda *given, **more: made.append(given[1]) or original(*given, **more)
    )
    again = compare_tiny(out)
    assert made == ["fedprox"]
    assert [one.scores for one in again] == [one.scores for one in compared[1]]
    assert (out / "table.md").read_text() == table_text(again, tiny_federation(rounds=2))


def test_a_cell_of_other_settings_is_refused(compared: tuple[Path, list[Cell]]) -> None:
    out, _ = compared
    before = cell_path(out, "fedavg", SEED).read_bytes()
    with pytest.raises(ConfigurationError, match="other settings"):
        compare_tiny(out, scale=4)
    assert cell_path(out, "fedavg", SEED).read_bytes() == before


def test_a_federation_that_failed_gives_no_cell(phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms, tmp_path / "phantoms" / phantoms.name)
    suspecting = tiny_federation(quarantine={"norm_factor": 1e-6, "refuse_norm": True})
    with pytest.raises(QuorumNotMet):
        compare(tmp_path, suspecting, seeds=[SEED], n_patients=N_PATIENTS, methods=["fedavg"], quiet=True)
    assert not cell_path(tmp_path, "fedavg", SEED).exists()


def test_a_federation_that_lost_a_site_gives_no_cell(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(phantoms, tmp_path / "phantoms" / phantoms.name)
    through_the_apps = simulate.ENGINES["in-process"]

    def and_a_store_is_lost(
        run_directory: RunDirectory, homes: Mapping[str, SiteHome], advance: Advance
    ) -> None:
        homes["umr"].store.unlink()
        through_the_apps(run_directory, homes, advance)

    monkeypatch.setitem(simulate.ENGINES, "in-process", and_a_store_is_lost)
    federation = tiny_federation(participation={"quorum": 2, "deadline_s": 60.0, "retries": 0})
    with pytest.raises(RunFailed, match="every round with every site"):
        compare(tmp_path, federation, seeds=[SEED], n_patients=N_PATIENTS, methods=["fedavg"], quiet=True)
    assert not cell_path(tmp_path, "fedavg", SEED).exists()


def test_the_table_pairs_the_differences_by_seed() -> None:
    cells = [
        cell("fedavg", 1, 30.0),
        cell("fedprox", 1, 30.5),
        cell("fedavg", 2, 34.0),
        cell("fedprox", 2, 34.1),
    ]
    text = table_text(cells, one_site())
    # Means 32.00 and 32.30; within the seeds +0.5 and +0.1, however far the seeds lie apart.
    assert "| fedavg | 32.00 (30.00 to 34.00) | 0.9000 (0.9000 to 0.9000) |  |" in text
    assert "| fedprox | 32.30 (30.50 to 34.10) | 0.9000 (0.9000 to 0.9000) | +0.30 (+0.10 to +0.50) |" in text
    assert "| fedprox | 2.0 | 3 (3 to 3) |" in text
    assert "seed 100 only" in text


def test_the_table_names_once_what_the_ingest_refused() -> None:
    line = "- sms of seed 2 has 1 of 2 pairs: its ingest refused the others."
    cells = [cell(method, seed, 30.0, n_pairs=3 - seed) for seed in (1, 2) for method in ("fedavg", "local")]
    assert table_text(cells, one_site()).splitlines()[-1] == line
    assert table_text(cells, one_site()).count("refused") == 1
    assert "refused" not in table_text(cells[:2], one_site())


def test_a_table_without_the_reference_has_no_differences() -> None:
    text = table_text([cell("pooled", 1, 30.0)], one_site())
    assert "| pooled | 30.00 | 0.9000 |  |" in text
    assert "| pooled | none | 3 |" in text


def test_the_command_asks_for_the_first_seeds_and_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def instead(out: Path, **options: object) -> list[Cell]:
        asked.update(options)
        (out / "table.md").write_text("the table\n")
        return []

    monkeypatch.setattr(bench, "bench_algorithms", instead)
    arguments = ["bench", "algorithms", "--out", str(tmp_path), "--seeds", "2", "--rounds", "3"]
    monkeypatch.setattr(sys, "argv", ["fedminet", *arguments])
    with pytest.raises(SystemExit) as ending:
        run()
    assert not ending.value.code
    assert capsys.readouterr().out == "the table\n"
    assert list(asked.pop("seeds")) == [1, 2]  # type: ignore[call-overload]
    usual = bench.USUAL.local_steps
    assert asked == {"rounds": 3, "local_steps": usual, "n_patients": 10, "quiet": False}


def _n_values(shape: tuple[int, ...]) -> int:
    n_values = 1
    for length in shape:
        n_values *= length
    return n_values
