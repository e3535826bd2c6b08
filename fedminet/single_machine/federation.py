"""A federation rehearsed on one machine: what the demonstration and the simulation have in common.

OUT/scans/SITE         phantoms of the sites whose folder was not named
OUT/sites/SITE         each site's folder
OUT/coordinator        the coordinator's folder
OUT/global.safetensors, summary.json, report.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from client.rounds.results import read_panel
from client.site_home import SiteHome
from fedminet.single_machine.sites import DEFAULT_SITES, make_sites, parse_named_sites, say_refused
from minet_core.errors import ConfigurationError
from minet_core.report.panel import Panel
from minet_core.report.render import write_report
from minet_core.report.summary import Summary, read_summary, write_summary
from minet_core.runtime.files.atomic_write import replacing
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from server.runs.run_directory import RunDirectory
from server.runs.summary import summary_of


@dataclass(frozen=True)
class Schedule:
    """Rounds, each site's optimizer steps in one, and what each site does after them.

    preset: whose model and recipe. training: of the recipe's settings, those in which it differs from the preset's.
    adaptation: None: none. refuse_opposed: whether an update that points away from the others' is refused.
    """

    rounds: int
    local_steps: int
    training: Mapping[str, int] = field(default_factory=dict)
    adaptation: AdaptationSettings | None = None
    refuse_opposed: bool = True
    preset: str = "quick"


DEMO_ADAPTATION = AdaptationSettings(
    steps=250, decay_fraction=1.0, validation_slices=6, alone=False, ensemble=False
)
"""A quarter of a short demonstration's steps: there is no message in them, so they cost less time than those of the
rounds, and a site's own contrasts gain more by them. See docs/results/main-job.md."""

SCHEDULES = {
    "demo": Schedule(24, 100, training={"batch_size": 2, "validation_slices": 1}, adaptation=DEMO_ADAPTATION),
    "demo on scans": Schedule(96, 15),
    "demo on scans at 4x": Schedule(96, 30),
    # The nearer to consensus, the more the knees' few steps point away from the brains': nobody attacks here.
    "simulation": Schedule(256, 5, training={"batch_size": 2, "validation_slices": 1}, refuse_opposed=False),
}
"""Where nothing else is asked for. Short rounds drift apart less, and a round costs some 2 s of messages on the
deployment engine and nothing in a simulation. Scans teach more slowly than phantoms, and a larger enlargement more
slowly than a smaller one. Early on, four times the steps on a quarter of the preset's patches teach more in the same
time. See docs/results/main-job.md."""

DEMO_TRAINING_S = 100.0
"""What the demonstration on phantoms takes for its rounds and its adaptation at most, where nothing else is asked for:
all of it is to end in 5 minutes on two cores, installation included."""


@dataclass(frozen=True)
class Rehearsal:
    """What is to be rehearsed: where, with whose scans, under which federation file."""

    out: Path
    named: Mapping[str, Path]
    federation: FederationSettings
    n_patients: int

    @classmethod
    def declared(
        cls,
        out: Path,
        site_options: list[str],
        *,
        schedule: Schedule,
        scale: int,
        n_patients: int,
        seed: int,
        algorithm: str = "fedavg",
    ) -> Rehearsal:
        """From the command line's options. Raises ConfigurationError where `out` holds something already."""
        named = parse_named_sites(site_options)
        if out.exists() and any(out.iterdir()):
            raise ConfigurationError(
                "the output folder is not empty", got=out, action="Name a new folder with --out"
            )
        federation = federation_of(
            name="rehearsal",
            sites=DEFAULT_SITES,
            preset=schedule.preset,
            scale=scale,
            rounds=schedule.rounds,
            local_steps=schedule.local_steps,
            seed=seed,
            algorithm=algorithm,
        )
        training = federation.training.model_copy(update=schedule.training)
        quarantine = federation.quarantine.model_copy(update={"refuse_opposed": schedule.refuse_opposed})
        federation = federation.model_copy(
            update={"training": training, "adaptation": schedule.adaptation, "quarantine": quarantine}
        )
        return cls(out.resolve(), named, federation, n_patients)

    def adapting(self, adaptation: AdaptationSettings | None) -> Rehearsal:
        """The same, with this adaptation at each site after the last round; None: without any."""
        return replace(self, federation=self.federation.model_copy(update={"adaptation": adaptation}))

    def home(self, site: str) -> SiteHome:
        """The folder of one of the sites."""
        return SiteHome.at(self.out / "sites" / site)

    def homes(self) -> dict[str, SiteHome]:
        """The folders of all of them."""
        return {site: self.home(site) for site in self.federation.sites}

    def make_sites(self) -> None:
        """Make every site's folder and ingest its scans; what was refused is said on the standard error."""
        say_refused(make_sites(self.out, self.named, n_patients=self.n_patients, seed=self.federation.seed))

    def finish(
        self, run: RunDirectory, *, compared: Mapping[str, Mapping[str, object]] | None = None
    ) -> Summary:
        """Bring the run's model, summary and report to the top of `out`, with the images that are on this machine.

        compared: by site, further methods' scores, as in `SiteSummary.compared`.
        """
        content = summary_of(run).model_dump(mode="json", by_alias=True)
        for site, methods in (compared or {}).items():
            content["sites"][site]["compared"] = methods
        summary = Summary.model_validate(content)
        if run.global_model.exists():
            with replacing(self.out / "global.safetensors") as temporary:
                temporary.write_bytes(run.global_model.read_bytes())
        write_summary(self.out / "summary.json", summary)
        draw_report(self.out)
        return summary


def draw_report(out: Path) -> Path:
    """report.html of a rehearsal's folder, anew from its summary.json and its sites' panels."""
    summary = read_summary(out / "summary.json")
    path = out / "report.html"
    write_report(path, summary, panels=read_panels(out, summary))
    return path


def read_panels(out: Path, summary: Summary) -> dict[str, Panel]:
    """The images that the rehearsal's sites kept, by site."""
    found = {site: read_panel(SiteHome.at(out / "sites" / site)) for site in summary.sites}
    return {site: panel for site, panel in found.items() if panel is not None}
