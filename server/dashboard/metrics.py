"""The same figures for Prometheus, in its text format, collected when they are asked for.

Runs that ended long ago are left out: the newest are told, and every one that goes on.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from minet_core.errors import FedminetError
from minet_core.runtime.versions import versions
from server.admission.enrolment import admitted_sites
from server.admission.pki import ca_files, expires_at, server_files
from server.admission.revocation import read_crl
from server.dashboard.node_presence import NodePresence
from server.dashboard.run_reader import Runs
from server.dashboard.run_view import RunView, SiteView
from server.dashboard.wording import seen
from server.runs.state_machine import RUN_TRANSITIONS, TERMINAL
from server.server_home import ServerHome

NEWEST_RUNS = 20
SECONDS_OF_A_DAY = 86400.0

_UNREADABLE = (OSError, ValueError, FedminetError)
"""What reading a file raises that is missing, cut short or not what it should be."""

RUN_GAUGES = {
    "rounds_done": "Completed rounds",
    "rounds_planned": "Rounds that the run is to have",
    "round_seconds": "Wall time of the last completed round, s",
    "seconds_left": "Estimated time until the last round, s: the median of the last rounds times those left",
    "worked_on": "1 where a server application works on the run",
    "updated_timestamp_seconds": "When the run's state last changed, seconds of the clock",
}
SITE_GAUGES = {
    "validation_psnr_db": "Validation PSNR of the model that the site scored last, dB",
    "validation_ssim": "Validation SSIM of the same",
    "train_loss": "Mean training loss of the site's last counted round",
    "share": "Part of the last mean that the site was in",
    "training_slices": "Training slices that the site declared",
    "test_psnr_db": "PSNR of the final model on the site's test split, dB",
}
SITE_COUNTERS = {
    "bytes_up": "Bytes of weights that the site sent in completed rounds",
    "bytes_down": "Bytes of weights that were sent to the site in completed rounds",
    "rounds_counted": "Completed rounds whose mean the site was in",
}


class CoordinatorCollector(Collector):
    """Every metric of the coordinator at `home`."""

    def __init__(self, home: ServerHome, runs: Runs, sightings: NodePresence) -> None:
        self._home, self._runs, self._sightings = home, runs, sightings

    def collect(self) -> Iterator[Metric]:
        """Every metric as it stands; what is not known has no sample."""
        yield InfoMetricFamily("fedminet", "Versions", value={"version": versions()["fedminet"]})
        views, unreadable = self._views()
        yield GaugeMetricFamily(
            "fedminet_runs_unreadable", "Runs whose folder cannot be read", value=unreadable
        )
        yield from _run_metrics(views)
        yield from _site_metrics(views)
        yield from self._seen_metrics(views)
        yield from self._certificate_metrics()

    def _views(self) -> tuple[list[RunView], int]:
        entries = self._runs.entries()
        told = [
            entry
            for index, entry in enumerate(entries)
            if index < NEWEST_RUNS or entry.status not in TERMINAL
        ]
        views, unreadable = [], 0
        for entry in told:
            try:
                views.append(self._runs.reader(entry.name).view())
            except FedminetError:
                unreadable += 1
        return views, unreadable

    def _seen_metrics(self, views: list[RunView]) -> Iterator[Metric]:
        sighting = self._sightings.latest()
        nodes = None if sighting is None else sighting.nodes
        yield GaugeMetricFamily(
            "fedminet_superlink_answers", "1 where the SuperLink answered last", value=nodes is not None
        )
        online = GaugeMetricFamily(
            "fedminet_site_online", "1 where the SuperLink sees the site online", labels=["site"]
        )
        for name, node in (nodes or {}).items():
            online.add_metric([name], node.status == "online")
        yield online
        last = GaugeMetricFamily(
            "fedminet_site_last_seen_timestamp_seconds",
            "When the site was last seen, by the SuperLink or by its last reply in any run, seconds of the clock",
            labels=["site"],
        )
        moments: dict[str, datetime.datetime] = {}
        for site in (site for view in views for site in view.sites):
            moment = seen(site, sighting).moment
            if moment is not None and moment > moments.get(site.name, moment - datetime.timedelta(1)):
                moments[site.name] = moment
        for name, moment in sorted(moments.items()):
            last.add_metric([name], moment.timestamp())
        yield last

    def _certificate_metrics(self) -> Iterator[Metric]:
        days = GaugeMetricFamily(
            "fedminet_certificate_days_left", "Days until a certificate ends", labels=["certificate"]
        )
        now = datetime.datetime.now(datetime.UTC)
        for name, ends in _ends(self._home):
            days.add_metric([name], (ends - now).total_seconds() / SECONDS_OF_A_DAY)
        yield days


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics in the form that the scraper accepts, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _ends(home: ServerHome) -> Iterator[tuple[str, datetime.datetime]]:
    """When each certificate ends that can be read, and the revocation list, without which the proxy lets nobody in.

    The others have no sample: an alert on its absence says more than a made-up number.
    """
    certificates = {"ca": ca_files(home.pki).certificate, "server": server_files(home.pki).certificate}
    with contextlib.suppress(*_UNREADABLE):
        certificates |= {f"site:{name}": home.sites / f"{name}.pem" for name in admitted_sites(home)}
    for name, path in certificates.items():
        with contextlib.suppress(*_UNREADABLE):
            yield name, expires_at(path)
    with contextlib.suppress(*_UNREADABLE):
        crl = read_crl(home.pki)
        if crl is not None and crl.next_update_utc is not None:
            yield "crl", crl.next_update_utc


def _run_metrics(views: list[RunView]) -> Iterator[Metric]:
    states = StateSetMetricFamily("fedminet_run_state", "The run's state", labels=["run"])
    gauges = {
        name: GaugeMetricFamily(f"fedminet_run_{name}", text, labels=["run"])
        for name, text in RUN_GAUGES.items()
    }
    for view in views:
        states.add_metric([view.name], {status: view.state.status == status for status in RUN_TRANSITIONS})
        values = {
            "rounds_done": view.state.round,
            "rounds_planned": view.state.rounds,
            "round_seconds": view.round_seconds[-1][1] if view.round_seconds else None,
            "seconds_left": view.time_left.seconds if view.time_left else None,
            "worked_on": view.worked_on,
            "updated_timestamp_seconds": view.updated.timestamp(),
        }
        for name, value in values.items():
            if value is not None:
                gauges[name].add_metric([view.name], value)
    yield states
    yield from gauges.values()


def _site_metrics(views: list[RunView]) -> Iterator[Metric]:
    labels = ["run", "site"]
    gauges = {
        name: GaugeMetricFamily(f"fedminet_site_{name}", text, labels=labels)
        for name, text in SITE_GAUGES.items()
    }
    counters = {
        name: CounterMetricFamily(f"fedminet_site_{name}", text, labels=labels)
        for name, text in SITE_COUNTERS.items()
    }
    refusals = CounterMetricFamily(
        "fedminet_site_refusals",
        "Replies that were refused or did not come, by code",
        labels=[*labels, "code"],
    )
    suspects = CounterMetricFamily(
        "fedminet_site_suspects", "Updates that were far larger than the others", labels=labels
    )
    for view in views:
        for site in view.sites:
            both = [view.name, site.name]
            for name, value in _site_values(site).items():
                if value is not None:
                    gauges[name].add_metric(both, value)
            for name, count in (
                ("bytes_up", site.bytes_up),
                ("bytes_down", site.bytes_down),
                ("rounds_counted", site.n_counted),
            ):
                counters[name].add_metric(both, count)
            for code, count in site.refusals.items():
                refusals.add_metric([*both, code], count)
            suspects.add_metric(both, site.n_suspect)
    yield from gauges.values()
    yield from counters.values()
    yield from (refusals, suspects)


def _site_values(site: SiteView) -> dict[str, float | None]:
    last, scored = site.last_counted, site.last_scored
    return {
        "validation_psnr_db": scored.psnr_db if scored else None,
        "validation_ssim": scored.ssim if scored else None,
        "train_loss": last.train_loss if last else None,
        "share": site.share,
        "training_slices": site.n_training_slices,
        "test_psnr_db": site.test["global_psnr_db"] if site.test else None,
    }
