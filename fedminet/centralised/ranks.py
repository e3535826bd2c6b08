"""Several processes that train one model, one for each GPU: what torch's launcher says of them, and what they share.

`torchrun --nproc-per-node N -m fedminet.main train ...` starts N of them. Each draws its places of every batch, and
DistributedDataParallel takes the mean of their gradients: that of the whole batch, since the parts are equally large.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from minet_core.errors import InvalidSetting
from minet_core.models.base import SuperResolver
from minet_core.training.device import preferred_device

PATIENCE = datetime.timedelta(hours=2)
"""How long the others wait for a step of the first process, which validates a large split alone meanwhile. torch's own
10 minutes would end a run in the middle of it; the launcher notices a process that died in seconds."""


@dataclass(frozen=True)
class Ranks:
    """This process's number among those that train together, and how many they are."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes, validates and reports."""
        return self.rank == 0

    def places(self, batch_size: int) -> range:
        """This process's places of every batch. Raises InvalidSetting (FM-C102) where the parts are not equal."""
        if batch_size % self.world:
            raise InvalidSetting(
                "a batch cannot be shared equally",
                got=f"batches of {batch_size} for {self.world} processes",
                expected="a number of processes that divides the batch",
            )
        return range(self.rank, batch_size, self.world)

    def wrap_ddp(self, model: SuperResolver) -> SuperResolver:
        """The model with gradients that are the mean over all processes; itself where there is one."""
        return model if self.world == 1 else _Shared(model)

    def mean(self, value: float) -> float:
        """The mean of every process's value; all of them must ask."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=preferred_device())
        distributed.all_reduce(total)
        return float(total) / self.world


class _Shared(SuperResolver):
    """A model that is trained by several processes: what its loss is taken of comes through DistributedDataParallel."""

    def __init__(self, model: SuperResolver) -> None:
        super().__init__()
        on_gpu = preferred_device().type == "cuda"
        self.model, self.scale, self.bicubic_skip = model, model.scale, model.bicubic_skip
        self.uses_reference = model.uses_reference
        self.parallel = DistributedDataParallel(
            _TrainingImages(model),
            device_ids=[torch.cuda.current_device()] if on_gpu else None,
            forward_sync_buffers=False,
        )

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Of the model itself: its weights and moments are kept under its own names."""
        return self.model.named_parameters(*args, **kwargs)

    def training_images(
        self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Any, ...]:
        images: tuple[Any, ...] = self.parallel(low_res, reference, upsampled)
        return images

    def training_loss(
        self, images: tuple[Any, ...], target: Tensor, reference: Tensor, *, alpha: float, beta: float
    ) -> Tensor:
        return self.model.training_loss(images, target, reference, alpha=alpha, beta=beta)


class _TrainingImages(nn.Module):
    """`training_images` as the call of a module, which is what DistributedDataParallel watches."""

    def __init__(self, model: SuperResolver) -> None:
        super().__init__()
        self.model = model

    def forward(self, low_res: Tensor, reference: Tensor | None, upsampled: Tensor | None) -> tuple[Any, ...]:
        return self.model.training_images(low_res, reference, upsampled)


@contextlib.contextmanager
def ranks_of_launcher() -> Iterator[Ranks]:
    """The processes that torch's launcher started, connected: by NCCL on GPUs, by gloo on CPUs.

    A process that no launcher started is `Ranks()`. After a failure the group is left as it is:
    the launcher ends the other processes.
    """
    if not distributed.is_torchelastic_launched():
        yield Ranks()
        return
    device = _own_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        timeout=PATIENCE,
        device_id=device if device.type == "cuda" else None,
    )
    yield Ranks(distributed.get_rank(), distributed.get_world_size())
    distributed.destroy_process_group()


def exit_worker() -> None:
    """End a process of the launcher at once and well, when all its work is done; anything else goes on.

    torch 2.13 keeps the connection's threads of a model that was shared (its DistributedDataParallel leaves a reference
    behind). One of them that is late when the interpreter ends would abort the process, and the launcher then ends the
    others.
    """
    if distributed.is_torchelastic_launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _own_device(local_rank: int) -> torch.device:
    """This process's own GPU, from here on its preferred device; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise InvalidSetting(
            "there are more processes than GPUs",
            got=f"process {local_rank + 1}",
            expected=f"{torch.cuda.device_count()} at the most",
            action="Lower --nproc-per-node",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
