"""How a cell's model comes to be: by a federation in this process, or trained on one site's or all sites' data.

Either goes on where an interrupted attempt has left its folder; an attempt that came to its end gives its model again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.site_home import SiteHome
from fedminet.centralised.baseline import steps_of_one_round
from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.job import train_job, training_job
from fedminet.simulation.simulate import federate
from minet_core.checkpoint import load_model
from minet_core.models.base import SuperResolver
from minet_core.runtime.files.atomic_write import replacing
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings
from minet_core.training.device import preferred_device

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Trained:
    """A model on the device. attempt: the folder it came to be in, to be removed when the model has served.

    n_steps: optimizer steps of one site. seconds: they took, of the slowest site.
    """

    model: SuperResolver
    attempt: Path
    n_steps: int
    seconds: float


def train_together(
    folder: Path, federation: FederationSettings, members: Mapping[str, SiteHome], advance: Advance
) -> Trained:
    """The global model of a federation, kept in `folder`. seconds: with validation. Raises what `federate` raises."""
    attempt = folder / "run"
    run = federate(attempt, federation, members, advance)
    rounds = run.rounds_recorded()
    seconds = max(sum(record["sites"][site]["train_seconds"] for record in rounds) for site in members)
    n_steps = len(rounds) * steps_of_one_round(list(members.values()), federation)
    return Trained(_kept(run.global_model, folder), attempt, n_steps, seconds)


def train_on_all(
    folder: Path, federation: FederationSettings, members: Mapping[str, SiteHome], advance: Advance
) -> Trained:
    """One model of the data of all members, kept in `folder`. seconds: without validation. Raises what `train_job`
    raises."""
    attempt = TrainingFolder(folder / "training")
    job = training_job(members, federation, attempt)
    train_job(job, progress=advance)
    figures = [json.loads(line) for line in attempt.metrics.read_text(encoding="utf-8").splitlines()]
    seconds = sum(line["seconds"] for line in figures)
    return Trained(_kept(attempt.model, folder), attempt.path, job.run.n_steps, seconds)


def _kept(model: Path, folder: Path) -> SuperResolver:
    """The model, copied into the folder."""
    path = folder / MODEL_FILE
    with replacing(path) as temporary:
        shutil.copyfile(model, temporary)
    loaded, _ = load_model(path)
    return loaded.to(preferred_device())
