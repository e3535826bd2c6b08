"""What training says of itself as it goes on: a line of `metrics.jsonl`, and on request TensorBoard's events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from fedminet.centralised.folder import TrainingFolder
from minet_core.errors import ConfigurationError
from minet_core.runtime.files.atomic_write import append_line

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of the steps since the line before.

    step: steps done in all. round: rounds done. loss: mean over the steps. learning_rate: of the last of them.
    seconds: wall time of the steps, validation not included. processor_seconds: of all threads of this process in them.
    validation: by site, the scores of its validation
    split; empty but at the end of a round.
    """

    step: int
    round: int
    loss: float
    learning_rate: float
    seconds: float
    processor_seconds: float
    samples_per_second: float
    validation: dict[str, dict[str, float]] = field(default_factory=dict)


Record = Callable[[Figures], None]


@contextlib.contextmanager
def training_log(folder: TrainingFolder, *, step: int, tensorboard: bool) -> Iterator[Record]:
    """Append figures to the folder's log, durably; events after `step`, of a process that was killed, are overruled.

    Raises ConfigurationError (FM-C100) without the `tensorboard` extra where it is asked for.
    """
    writer = _writer(folder, step=step) if tensorboard else None

    def record(figures: Figures) -> None:
        append_line(folder.metrics, asdict(figures))
        if writer is not None:
            _write_events(writer, figures)

    try:
        yield record
    finally:
        if writer is not None:
            writer.close()


def require_tensorboard() -> None:
    """Raises ConfigurationError (FM-C100) without the `tensorboard` extra."""
    try:
        import torch.utils.tensorboard  # noqa: F401  only to say what is missing
    except ImportError as failure:
        raise ConfigurationError(
            "TensorBoard is not installed", action="Install it: pip install 'fedminet[tensorboard]'"
        ) from failure


def _writer(folder: TrainingFolder, *, step: int) -> SummaryWriter:
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder.events), purge_step=step + 1)


def _write_events(writer: SummaryWriter, figures: Figures) -> None:
    scalars = {
        "training/loss": figures.loss,
        "training/learning_rate": figures.learning_rate,
        "training/samples_per_second": figures.samples_per_second,
        **{
            f"validation/{score}/{site}": value
            for site, scores in figures.validation.items()
            for score, value in scores.items()
        },
    }
    for tag, value in scalars.items():
        writer.add_scalar(tag, value, figures.step)
    writer.flush()
