"""One side of a comparison: a process that works whenever a line asks it to, and says how long it took.

    python side.py CHECKOUT WORK OPTIONS

CHECKOUT is the folder whose minet_core is measured, so that another commit's checkout is a side like any other; the
literal model is read from its tests. It first writes a line of JSON with what was counted. Each line that is read is
one measurement, whose reply is {"seconds"}: a processor's where the side has one thread, which a busy machine disturbs
least, and else the clock's. The end of the lines is answered by {"peak_bytes"}: the most that the process held while it
did the work twice, before anything was counted, since what counts holds on to all that it counts.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Work = Callable[[], object]
Options = dict[str, Any]

TENSOR = (64, 64, 3, 3)
"""A convolution of the paper's size."""

ROOF_CHUNK = 2**14
"""Values copied and added at a time: what is copied stays in a core's cache."""

LEARNING_RATE = 1e-6
"""Noise teaches nothing: at a preset's own rate a model could lose the image."""


def train(options: Options) -> Work:
    """A step of a checkout's own training loop."""
    return _train_of(options, compiled=False)


def _train_of(options: Options, *, compiled: bool) -> Work:

    from minet_core.training.batches import random_batch
    from minet_core.training.loop import StepPlan, adam, train_steps

    model, settings = _model_and_settings(options)
    batches = itertools.repeat(random_batch(options["edge"], scale=2, batch_size=options["batch"]))
    plan = StepPlan(
        settings=settings.model_copy(update={"learning_rate": LEARNING_RATE, "warmup_steps": 0}),
        n_steps=1,
        total_steps=10**9,
        autocast_dtype=_autocast_dtype(options),
    )
    optimizer = adam(model)
    if compiled:
        model.compile(backend=options.get("backend", "inductor"))
    return lambda: train_steps(model, batches, plan, optimizer=optimizer)


def compiled_train(options: Options) -> Work:
    """The same step of a model that torch.compile makes kernels of; `backend`: which of its compilers."""
    return _train_of(options, compiled=True)


def literal_train(options: Options) -> Work:
    """The same step by the equations as they are printed: plain NCHW, Adam as torch has it by default."""
    import torch

    from minet_core.models.loss import reconstruction_loss
    from minet_core.training.batches import random_batch

    literal = _literal(options)
    model, settings = _model_and_settings(options)
    weights, batch = (
        dict(model.named_parameters()),
        random_batch(options["edge"], scale=2, batch_size=options["batch"]),
    )
    optimizer = torch.optim.Adam(weights.values(), lr=LEARNING_RATE)

    def run() -> None:
        skip = batch.upsampled if model.bicubic_skip else None
        images = literal.minet(weights, batch.low_res, batch.reference, skip, scale=2)
        loss = reconstruction_loss(
            images, batch.target, batch.reference, alpha=settings.alpha, beta=settings.beta
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights.values(), settings.clip_norm or float("inf"))
        optimizer.step()

    return run


def infer(options: Options) -> Work:
    """A volume of `batch` slices by a checkout's own inference, normalisation and interpolation included."""
    return _infer_of(options, compiled=False)


def compiled_infer(options: Options) -> Work:
    """The same of a model that torch.compile makes kernels of."""
    return _infer_of(options, compiled=True)


def _infer_of(options: Options, *, compiled: bool) -> Work:
    import torch

    from minet_core.evaluation.inference import super_resolve
    from minet_core.training.device import to_channels_last

    model, _ = _model_and_settings(options)
    to_channels_last(model)
    if compiled:
        model.target_image = torch.compile(model.target_image, backend=options.get("backend", "inductor"))
    low_res, reference = _volume(options)
    dtype = _autocast_dtype(options)
    return lambda: super_resolve(model, low_res, reference, scale=2, autocast_dtype=dtype)


def exported_infer(options: Options) -> Work:
    """The same volume by the model's ONNX file in ONNX Runtime, in this checkout's own inference."""
    import tempfile

    from minet_core.checkpoint import save_checkpoint
    from minet_core.checkpoint_manifest import describe
    from minet_core.evaluation.inference import super_resolve
    from minet_core.exported.onnx_file import export_onnx
    from minet_core.exported.onnx_runtime import load_onnx_model
    from minet_core.settings.federation import PRESETS
    from minet_core.weights.manifest import learnable

    weights = learnable(_model_and_settings(options)[0])
    manifest = describe(weights, model=PRESETS[options["preset"]][0], scale=2, round_number=0, provenance={})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "model.safetensors")
        save_checkpoint(checkpoint, weights, manifest)
        export_onnx(checkpoint, checkpoint.with_suffix(".onnx"))
        model, _ = load_onnx_model(checkpoint.with_suffix(".onnx"))
    low_res, reference = _volume(options)
    return lambda: super_resolve(model, low_res, reference, scale=2)


def literal_infer(options: Options) -> Work:
    """The same volume, slice by slice, by the equations as they are printed."""
    import torch

    from minet_core.training.samples import as_tensor, make_inputs

    literal = _literal(options)
    model, _ = _model_and_settings(options)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    low_res, reference = _volume(options)

    def run() -> None:
        with torch.inference_mode():
            for target, guide in zip(low_res, reference, strict=True):
                one = make_inputs(as_tensor(target), as_tensor(guide), 2)
                skip = one.upsampled[None, None] if model.bicubic_skip else None
                images = literal.minet(
                    weights, one.low_res[None, None], one.reference[None, None], skip, scale=2
                )
                one.restore(images[0]).clamp_min(0).numpy()

    return run


def data(options: Options) -> Work:
    """One batch of patches, cut from slices that are in memory."""
    import numpy as np

    from minet_core.training.batches import BatchRecipe, PlannedSamples, plan_batches
    from minet_core.training.samples import PreparedSlices

    edge = options["slice_px"]
    pixels = np.random.default_rng(1).random((2, 8, edge, edge), np.float32) + 0.5
    slices = list(zip(*pixels, strict=True))

    class Slices:
        shapes = [(edge, edge)] * len(slices)

        def __len__(self) -> int:
            return len(slices)

        def __getitem__(self, index: int) -> Any:
            return slices[index]

    recipe = BatchRecipe(
        scale=2, batch_size=options["batch"], patch_px=options["edge"], seed=1, label="bench"
    )
    samples = PlannedSamples(PreparedSlices(Slices(), scale=2, cache_bytes=2**30), recipe)
    planned = plan_batches(Slices.shapes, recipe)
    return lambda: samples[next(planned)]


def aggregate(options: Options) -> Work:
    """The weighted mean of every tensor of the model, of `sites` replies."""
    from minet_core.algorithms.weighted_mean import mean_over_sites

    replies = _replies(options)
    weight_of = {site: float(number) for number, site in enumerate(replies, start=1)}
    first = next(iter(replies.values()))

    def run() -> None:
        for name, value in first.items():
            mean_over_sites(name, replies, weight_of=weight_of, shape=value.shape, dtype="float32")

    return run


def copy_and_add(options: Options) -> Work:
    """The machine's roof: every number of the replies copied once and added once, in float32, and nothing looked at."""
    import numpy as np

    rows = [
        np.concatenate([value.ravel() for value in arrays.values()]) for arrays in _replies(options).values()
    ]
    total, own = np.zeros_like(rows[0]), np.empty(ROOF_CHUNK, np.float32)

    def run() -> None:
        total.fill(0)
        for row in rows:
            for start in range(0, row.size, ROOF_CHUNK):
                part = own[: min(ROOF_CHUNK, row.size - start)]
                np.copyto(part, row[start : start + ROOF_CHUNK])
                np.add(total[start : start + ROOF_CHUNK], part, out=total[start : start + ROOF_CHUNK])

    return run


def flower_average(options: Options) -> Work:
    """The same replies by the aggregation of Flower's FedAvg, from the arrays as its messages hold them."""
    import logging

    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp import strategy

    from fedminet.simulation.in_process_grid import server_identity

    logging.getLogger("flwr").setLevel(logging.ERROR)
    with server_identity():
        replies = [
            Message(
                RecordDict(
                    {
                        "arrays": ArrayRecord({name: Array(value) for name, value in arrays.items()}),
                        "metrics": MetricRecord({"num-examples": number}),
                    }
                ),
                1,
                "train",
            )
            for number, arrays in enumerate(_replies(options).values(), start=1)
        ]

    def run() -> None:
        with server_identity():
            mean, _ = strategy.FedAvg().aggregate_train(1, replies)
        assert mean is not None

    return run


def nvflare_average(options: Options) -> Work:
    """The same replies by NVFlare's own weighted mean. nvflare: the folder that NVFlare was installed in."""
    sys.path.append(options["nvflare"])
    import nvflare.app_common.aggregators.weighted_aggregation_helper as nvflare  # type: ignore[import-not-found]

    replies = _replies(options)

    def run() -> None:
        helper = nvflare.WeightedAggregationHelper()
        for number, (site, arrays) in enumerate(replies.items(), start=1):
            helper.add(arrays, number, site, 0)
        helper.get_result()

    return run


def convolution(options: Options) -> Work:
    """The machine's roof: convolutions of the model's width, batch, frame and number type, and nothing else.

    Forward, and backward where that is asked for; as many as fill `flops`, so that its time is
    what the machine needs for the counted work of a model.
    """
    import torch
    from torch.nn import functional

    width, edge, batch = options["features"], options["edge"], options["conv_batch"]
    layout, dtype = torch.channels_last, _autocast_dtype(options) or torch.float32
    image, gradient = (
        torch.randn(batch, width, edge, edge, dtype=dtype).contiguous(memory_format=layout) for _ in range(2)
    )
    weight = torch.randn(width, width, 3, 3, dtype=dtype).contiguous(memory_format=layout)
    bias = torch.zeros(width, dtype=dtype)
    one = 2 * 9 * width * width * edge * edge * batch * (3 if options["backward"] else 1)
    n_times = max(1, round(options["flops"] / one))
    sides = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, True])

    def run() -> None:
        for _ in range(n_times):
            functional.conv2d(image, weight, bias, padding=1)
            if options["backward"]:
                torch.ops.aten.convolution_backward(gradient, image, weight, [width], *sides)

    return run


WORKS: dict[str, Callable[[Options], Work]] = {
    "train": train,
    "literal-train": literal_train,
    "compiled-train": compiled_train,
    "infer": infer,
    "compiled-infer": compiled_infer,
    "literal-infer": literal_infer,
    "exported-infer": exported_infer,
    "data": data,
    "aggregate": aggregate,
    "copy-and-add": copy_and_add,
    "flower-average": flower_average,
    "nvflare-average": nvflare_average,
    "convolution": convolution,
}


def counted(work: Work, *, backward: bool) -> dict[str, int]:
    """FLOPs of one call as torch counts them, the bytes that it keeps for its backward pass, and its operations.

    Each storage is counted once, and those of leaves (parameters) are not.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    kept: dict[int, int] = {}
    held = []

    def keep(tensor: Any) -> Any:
        if not tensor.is_leaf or not tensor.requires_grad:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            held.append(tensor.detach())  # so that no address is used twice
        return tensor

    class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
        number = 0

        def __torch_dispatch__(self, call: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.number += 1
            return call(*args, **(kwargs or {}))

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, FlopCounterMode(display=False) as flops:
        work()
    if not backward:
        kept.clear()
    held.clear()
    with Operations() as operations:  # type: ignore[no-untyped-call]
        work()
    return {
        "flops": flops.get_total_flops(),
        "saved_bytes": sum(kept.values()),
        "operations": operations.number,
    }


def _autocast_dtype(options: Options) -> Any:
    """None computes in float32: as on a processor without bfloat16, where that is asked for."""
    import torch

    from minet_core.training.device import autocast_dtype_for

    return None if options.get("float32") else autocast_dtype_for(torch.device("cpu"))


def _model_and_settings(options: Options) -> tuple[Any, Any]:
    import torch

    from minet_core.models.registry import build_model
    from minet_core.settings.federation import PRESETS

    settings, training = PRESETS[options["preset"]]
    torch.manual_seed(0)
    return build_model(settings.model_dump(), scale=2), training


def _volume(options: Options) -> tuple[Any, Any]:
    import numpy as np

    edge, generator = options["edge"], np.random.default_rng(1)
    low_res = generator.random((options["batch"], edge // 2, edge // 2), np.float32)
    return low_res, generator.random((options["batch"], edge, edge), np.float32)


def _replies(options: Options) -> dict[str, dict[str, Any]]:
    """Of the preset's model, or of `parameters` values in tensors of `TENSOR`."""
    import numpy as np

    from minet_core.weights.manifest import learnable

    if options.get("parameters"):
        n_tensors = max(1, round(options["parameters"] / math.prod(TENSOR)))
        generator = np.random.default_rng(1)
        weights = {f"tensor-{n:04d}": generator.random(TENSOR, np.float32) for n in range(n_tensors)}
    else:
        weights = learnable(_model_and_settings(options)[0])
    return {
        f"site-{number}": {name: value + np.float32(number) for name, value in weights.items()}
        for number in range(options["sites"])
    }


def _literal(options: Options) -> ModuleType:
    path = Path(options["checkout"]) / "tests" / "oracles" / "minet_literal.py"
    specification = importlib.util.spec_from_file_location("minet_literal", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def serve(checkout: str, name: str, options: Options) -> None:
    """Do the work twice unmeasured, then once for each line, and reply on standard output.

    Twice: the second step of a training is the first that has Adam's moments, and takes the most memory.
    """
    work = WORKS[name]({**options, "checkout": checkout})
    began = _processor_seconds()
    work()
    first = _processor_seconds() - began
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    counts = counted(work, backward="train" in name) if options.get("count") else {}
    print(json.dumps({"ready": True, **counts, "first_seconds": first}), flush=True)
    clock = time.process_time if options.get("threads") == 1 else time.perf_counter
    for _ in sys.stdin:
        began = clock()
        work()
        print(json.dumps({"seconds": clock() - began}), flush=True)
    print(json.dumps({"peak_bytes": peak}), flush=True)


def _processor_seconds() -> float:
    """Of this process and of those that it waited for, as a compiler's."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    sys.path[0] = sys.argv[1]
    serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
