"""The federation without its transport: the same two apps, on an in-process Grid or on Ray."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp

from client.admission.declaration import declaration_of
from client.app import build_client_app
from client.site_home import SiteHome
from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.job import train_job, training_job
from fedminet.simulation.in_process_grid import run_in_process
from fedminet.single_machine.federation import Rehearsal
from minet_core.errors import ConfigurationError, RunFailed, SettingsMismatch
from minet_core.models.base import SuperResolver
from minet_core.report.summary import Summary
from minet_core.runtime.files.atomic_write import write_text
from minet_core.runtime.progress import Advance, progress
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import settings_text
from server.app import build_server_app
from server.runs.run_directory import Engine, RunDirectory
from sites.scores import by_method, scores_on_test_split
from sites.settings.site_policy import open_policy
from sites.store.store import Store

COMPARISONS = ("pooled", "local")


def simulate(
    rehearsal: Rehearsal, *, engine: str = "in-process", compare: Sequence[str] = (), quiet: bool = False
) -> Summary:
    """Run the federation over the rehearsal's sites, and train what it is to be compared with.

    engine: "in-process" or "ray". compare: any of "pooled" and "local". Raises RunFailed (FM-F403) where the run
    ends without a global model, ConfigurationError for an unknown choice.
    """
    unknown = set(compare) - set(COMPARISONS)
    if unknown:
        raise ConfigurationError(
            "--compare is not understood", got=sorted(unknown), expected=" or ".join(COMPARISONS)
        )
    if engine not in ENGINES:
        raise ConfigurationError("no such engine", got=engine, expected=" or ".join(ENGINES))
    federation = rehearsal.federation
    rehearsal.make_sites()
    homes = rehearsal.homes()
    for home in homes.values():
        write_text(home.kit / "federation.yaml", settings_text(federation))
    run = _create_run(
        rehearsal.out / "coordinator" / "runs" / "simulation",
        federation,
        homes,
        engine="ray" if engine == "ray" else "in-process",
    )
    with progress("Rounds", quiet=quiet) as advance:
        ENGINES[engine](run, homes, advance)
    if run.state.status == "failed":
        raise RunFailed("the simulation ended without a global model", got=run.state.reason)
    return rehearsal.finish(
        run,
        compared=_comparisons(rehearsal.out / "compared", homes, federation, compare=compare, quiet=quiet),
    )


def federate(
    folder: Path, federation: FederationSettings, made: Mapping[str, SiteHome], advance: Advance
) -> RunDirectory:
    """One whole federation in this process, by sites with folders of their own under `folder`.

    made: ingested sites, whose settings and stores are read, and nothing else of them. A run that was interrupted in
    `folder` is gone on with; one that failed is begun anew. Raises SettingsMismatch (FM-C105) where it was begun with
    other settings or scans, RunFailed (FM-F403) where not every round was completed with every site, and what ended
    the run.
    """
    run, homes = _begin(folder, federation, made)
    if not run.ended:
        ENGINES["in-process"](run, homes, advance)
    if run.state.status != "completed" or set(run.tests_recorded()) != set(homes):
        raise RunFailed(
            f"{folder.name} did not complete every round with every site",
            got=run.state.reason or run.state.status,
            action=f"Read {run.path / 'events.jsonl'}",
        )
    return run


def _begin(
    folder: Path, federation: FederationSettings, made: Mapping[str, SiteHome]
) -> tuple[RunDirectory, dict[str, SiteHome]]:
    """The run of `folder`, new where there is none to be gone on with, and its sites' own folders."""
    run = RunDirectory(folder / "coordinator" / "runs" / "comparison")
    homes = {site: SiteHome(folder / "sites" / site) for site in made}
    begun = _is_begun(run, federation, made)
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)
    for site, home in made.items():
        _lend(home, homes[site], federation)
    if not begun:
        _create_run(run.path, federation, homes, engine="in-process", keep_checkpoints=1)
    return run, homes


class _RoundsDone(BaseException):
    """Raised where a site would be tested: no site answers, and the run stays as it stands after its last round."""


def federate_untested(
    folder: Path, federation: FederationSettings, made: Mapping[str, SiteHome], advance: Advance
) -> Path:
    """The rounds of a federation, as in `federate`, without the test that ends one: no test patient is read.

    Returns the global model's file. Raises as `federate`.
    """
    run, homes = _begin(folder, federation, made)
    with contextlib.suppress(_RoundsDone):
        _run_in_process(run, homes, advance, apps=_training_apps(homes))
    records = run.rounds_recorded()
    if len(records) < federation.rounds or any(set(record["sites"]) != set(homes) for record in records):
        raise RunFailed(
            f"{folder.name} did not complete every round with every site",
            got=run.state.reason or run.state.status,
            action=f"Read {run.path / 'events.jsonl'}",
        )
    return run.global_model


def _training_apps(homes: Mapping[str, SiteHome]) -> dict[str, ClientApp]:
    """The sites' apps, which train and let no test begin."""

    def trains_only(app: ClientApp) -> ClientApp:
        def answer(message: Message, context: Context) -> Message:
            if message.metadata.message_type == MessageType.EVALUATE:
                raise _RoundsDone
            return app(message=message, context=context)

        return cast(ClientApp, answer)

    return {site: trains_only(app) for site, app in _apps(homes).items()}


def _apps(homes: Mapping[str, SiteHome]) -> dict[str, ClientApp]:
    return {site: build_client_app(lambda _context, path=home.path: path) for site, home in homes.items()}  # type: ignore[misc]


def _lend(made: SiteHome, home: SiteHome, federation: FederationSettings) -> None:
    """Give `home`, a folder of this run alone, the settings of the site `made` and a link to its store; again where the
    run goes on, since either may have been moved."""
    # A site's policy is held against what a coordinator asks for: here nobody else asks.
    settings = made.settings().model_copy(update={"policy": open_policy()})
    write_text(home.path / "site.yaml", settings_text(settings))
    write_text(home.kit / "federation.yaml", settings_text(federation))
    if (
        not home.store.exists() or home.store.is_symlink()
    ):  # else whoever copied the folder copied the store with it
        home.store.unlink(missing_ok=True)
        home.store.symlink_to(made.store.resolve(), target_is_directory=True)


def _create_run(
    path: Path,
    federation: FederationSettings,
    homes: Mapping[str, SiteHome],
    *,
    engine: Engine,
    keep_checkpoints: int | None = None,
) -> RunDirectory:
    return RunDirectory.create(
        path,
        federation,
        engine=engine,
        declared={site: declaration_of(home) for site, home in homes.items()},
        keep_checkpoints=keep_checkpoints,
    )


def _is_begun(run: RunDirectory, federation: FederationSettings, made: Mapping[str, SiteHome]) -> bool:
    """Whether this very run is there to be gone on with. Raises SettingsMismatch (FM-C105) where another one is."""
    if not (run.path / "state.json").exists():
        return False
    declared = {site: declaration_of(home) for site, home in made.items()}
    if (run.federation(), run.declared()) != (federation, declared):
        raise SettingsMismatch(
            "a run that was begun with other settings or scans is here",
            got=run.path,
            action="Ask for the settings of that run, or name another folder",
        )
    return run.state.status not in ("failed", "partial")


def _run_in_process(
    run: RunDirectory,
    homes: Mapping[str, SiteHome],
    advance: Advance,
    *,
    apps: Mapping[str, ClientApp] | None = None,
) -> None:
    run_in_process(
        build_server_app(run.path.parent),
        _apps(homes) if apps is None else apps,
        run_config={"run": run.path.name},
        on_reply=lambda: advance(run.state.round, run.state.rounds),
    )


def _run_on_ray(run: RunDirectory, homes: Mapping[str, SiteHome], advance: Advance) -> None:
    from fedminet.simulation.ray_engine import run_on_ray

    run_on_ray(run, [(site, home.path) for site, home in homes.items()])
    advance(run.state.round, run.state.rounds)


ENGINES = {"in-process": _run_in_process, "ray": _run_on_ray}


def _comparisons(
    folder: Path,
    homes: Mapping[str, SiteHome],
    federation: FederationSettings,
    *,
    compare: Sequence[str],
    quiet: bool,
) -> dict[str, dict[str, object]]:
    """By site, the scores of the pooled and of the site's own model on the site's test split."""
    compared: dict[str, dict[str, object]] = {site: {} for site in homes}
    if "pooled" in compare:
        with progress("Pooled training", quiet=quiet) as advance:
            job = training_job(homes, federation, TrainingFolder(folder / "pooled"))
            model = train_job(job, progress=advance)
        for site, home in homes.items():
            compared[site]["pooled"] = _scores(model, home, federation)
    if "local" in compare:
        for site, home in homes.items():
            with progress(f"Local training at {site}", quiet=quiet) as advance:
                job = training_job({site: home}, federation, TrainingFolder(folder / "local" / site))
                model = train_job(job, progress=advance)
            compared[site]["local"] = _scores(model, home, federation)
    return compared


def _scores(model: SuperResolver, home: SiteHome, federation: FederationSettings) -> dict[str, float]:
    return by_method(
        scores_on_test_split(model, Store(home.store), scale=federation.scale, seed=federation.seed)
    )["global"]
