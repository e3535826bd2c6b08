"""Making the sites of a rehearsal on this machine: a folder each, scans from a named folder or phantoms, ingested.

A site whose folder was named is `surrogate` unless its own site.yaml in that folder says what it is: only the
hospital can call its scans real. Such a site, and one of phantoms, has an open policy: the coordinator is at hand. A
site.yaml of the folder keeps its own.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from client.site_home import SiteHome
from fedminet.single_machine.site_workers import begin_site_workers
from minet_core.errors import ConfigurationError, FileMissing
from minet_core.runtime.files.atomic_write import write_json
from minet_core.settings.yaml_file import read_settings, write_settings
from sites.ingest import ingest
from sites.making.worker_start import end_with_parent
from sites.phantom_files import write_phantom_site
from sites.settings.definitions import definition
from sites.settings.site_policy import open_policy
from sites.settings.site_settings import SiteSettings
from sites.store.pseudonym import keep_key

DEFAULT_SITES = ("sms", "umr", "fastmri")
MADE_OF = "made-of.json"
REFUSED = "refused.json"

Ratio = tuple[int, int, int]
"""Patients of training, validation and test, to each other."""


@dataclass(frozen=True)
class Source:
    """Where a site's scans come from: `folder`, or phantoms of `n_patients` where it is None.

    ratio: of training, validation and test patients; None: as the site's definition has it. varied: phantoms who differ
    as patients do (`minet_core.phantom.variety`).
    """

    site: str
    folder: Path | None
    n_patients: int
    seed: int
    ratio: Ratio | None = None
    varied: bool = False


def parse_named_sites(options: list[str]) -> dict[str, Path]:
    """`["sms=FOLDER"]` as a mapping. Raises ConfigurationError, FileMissing with the option as it was given."""
    named: dict[str, Path] = {}
    for option in options:
        name, separator, folder = option.partition("=")
        if not separator or name not in DEFAULT_SITES or not folder:
            raise ConfigurationError(
                "--site is not understood",
                got=option,
                expected=f"NAME=FOLDER, NAME one of {', '.join(DEFAULT_SITES)}",
            )
        if not Path(folder).is_dir():
            raise FileMissing("the folder of --site is missing", got=option, action="Give an existing folder")
        _require_new(name, named)
        named[name] = Path(folder)
    return named


def parse_sites(options: list[str]) -> tuple[dict[str, Path], dict[str, SiteHome]]:
    """Of `["sms=FOLDER", "knee"]` the named folders of scans, and by its own name each site that is ingested already.

    Raises ConfigurationError for a name that is given twice, and what `parse_named_sites` and `SiteHome.at` raise.
    """
    scans, ingested = [], dict[str, SiteHome]()
    for option in options:
        if "=" in option and not Path(option).is_dir():
            scans.append(option)
            continue
        home = SiteHome.at(Path(option).resolve())
        name = home.settings().name
        _require_new(name, ingested)
        ingested[name] = home
    named = parse_named_sites(scans)
    for name in named:
        _require_new(name, ingested)
    return named, ingested


def _require_new(name: str, given: Collection[str]) -> None:
    if name in given:
        raise ConfigurationError("--site gives a site twice", got=name, expected="each name once")


def make_sites(
    out: Path,
    named: Mapping[str, Path],
    *,
    n_patients: int,
    seed: int,
    sites: Sequence[str] = DEFAULT_SITES,
    ratio: Ratio | None = None,
    varied: bool = False,
) -> list[str]:
    """Make and ingest every one of `sites` under `out/sites`; phantoms are written under `out/scans`.

    ratio: of the patients of each split; None: as each site's definition has it.
    The sites are made side by side, one more at a time than there are processors: three are never alike, and a
    processor that waits for the last of them makes nothing. Returns what the ingests refused.
    """
    sources = [Source(site, named.get(site), n_patients, seed, ratio, varied) for site in sites]
    n_workers = min(len(sources), multiprocessing.cpu_count() + 1)
    context = begin_site_workers()
    with ProcessPoolExecutor(max_workers=n_workers, mp_context=context, initializer=end_with_parent) as pool:
        refused = list(pool.map(_make_site, [out] * len(sources), sources))
    return [
        f"{source.site}: {text}" for source, texts in zip(sources, refused, strict=True) for text in texts
    ]


def make_sites_once(
    folder: Path,
    named: Mapping[str, Path],
    *,
    sites: Sequence[str],
    n_patients: int,
    seed: int,
    ratio: Ratio | None = None,
    varied: bool = False,
) -> None:
    """The same where `folder` is not there yet: whole or not at all. What the stores hold of phantoms is kept, the
    scans they were made from are not. What an ingest refused is said on the standard error, and `n_refused` knows it.
    Raises ConfigurationError where `folder` was made of something else.
    """
    made_of: dict[str, object] = {site: str(named[site].resolve()) for site in sites if site in named}
    if any(site not in named for site in sites):
        made_of["phantoms"] = {"patients": n_patients, "seed": seed}
    if ratio is not None:
        made_of["ratio"] = list(ratio)
    if varied:
        made_of["varied"] = True
    if folder.exists():
        _require_made_of(folder, made_of)
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    refused = make_sites(
        unfinished, named, n_patients=n_patients, seed=seed, sites=sites, ratio=ratio, varied=varied
    )
    say_refused(refused)
    shutil.rmtree(unfinished / "scans", ignore_errors=True)
    write_json(unfinished / REFUSED, Counter(text.partition(":")[0] for text in refused))
    write_json(unfinished / MADE_OF, made_of)
    unfinished.rename(folder)


def say_refused(refused: Sequence[str]) -> None:
    """What ingests refused, on the standard error: it holds names of scans."""
    for text in refused:
        sys.stderr.write(f"Refused at {text}\n")


def n_refused(folder: Path) -> dict[str, int]:
    """By site, how many scans of those that `make_sites_once` made `folder` of were refused; no site that has none."""
    path = folder / REFUSED
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _require_made_of(folder: Path, made_of: Mapping[str, object]) -> None:
    path = folder / MADE_OF
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else "an earlier version's sites"
    if found != made_of:
        raise ConfigurationError(
            "the sites that are here were made of something else",
            got=found,
            expected=dict(made_of),
            action="Name a new folder with --out, or ask for what is here",
        )


def _make_site(out: Path, source: Source) -> list[str]:
    home = out / "sites" / source.site
    home.mkdir(parents=True, exist_ok=True)
    scans = source.folder or out / "scans" / source.site
    settings = _settings(source)
    if source.ratio is not None:
        split = settings.split.model_copy(update={"ratio": source.ratio})
        settings = settings.model_copy(update={"split": split})
    if source.folder is None and not scans.exists():
        write_phantom_site(
            scans, site=source.site, n_patients=source.n_patients, seed=source.seed, varied=source.varied
        )
    if source.folder is None:
        # The order of a store's slices is that of its pseudonyms: with this key a seed makes the same model again.
        phantom = f"phantom of {source.site}, seed {source.seed}"
        keep_key(home / "store", hashlib.sha256(phantom.encode()).digest())
    write_settings(home / "site.yaml", settings)
    report = ingest(scans, home / "store", settings)
    return [refusal.message for refusal in report.refused]


def _settings(source: Source) -> SiteSettings:
    if source.folder is None:
        return _as_published(definition(source.site)).model_copy(update={"data_kind": "phantom"})
    if (source.folder / "site.yaml").is_file():
        return read_settings(source.folder / "site.yaml", SiteSettings)
    return _as_published(definition(source.site)).model_copy(
        update={"data_kind": "surrogate", "allow_few_patients": True}
    )


def _as_published(settings: SiteSettings) -> SiteSettings:
    """The published results are of a split by quota, and nobody is taken from such a site; it has no policy to keep."""
    split = settings.split.model_copy(update={"draw": "quota"})
    return settings.model_copy(update={"split": split, "policy": open_policy()})
