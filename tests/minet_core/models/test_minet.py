"""MINet against a literal float64 reading of each equation, forward and gradient."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from minet_core.errors import InvalidSetting, ModelError
from minet_core.imaging.interpolation import bicubic
from minet_core.models.loss import reconstruction_loss
from minet_core.models.minet import gram
from minet_core.models.minet.channel_spatial_attention import ChannelSpatialAttention
from minet_core.models.minet.gated_residual import gated_residual
from minet_core.models.minet.model import MINet
from minet_core.models.minet.multi_stage_integration import MultiStageIntegration
from minet_core.models.minet.residual_groups import ResidualGroup
from minet_core.models.registry import build_model
from minet_core.settings.federation import PRESETS
from tests.oracles import minet_literal as literal

SMALL = {"n_groups": 2, "n_blocks": 2, "n_features": 8, "reduction": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "cosine": {},
    "raw": {"integration": "raw"},
    "without reference": {"use_reference": False},
    "without integration": {"use_integration": False},
    "without attention": {"use_attention": False},
    "without any": {"use_reference": False, "use_integration": False, "use_attention": False},
    "without global skip": {"bicubic_skip": False},
    "one stage": {"n_groups": 1},
    "one stage without reference": {"n_groups": 1, "use_reference": False},
}
# Sums of some 1e4 products in float64, in another order: 1e4 x 2^-53 is 1e-12, with a margin for the depth.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


def make_model(scale: int = 2, **settings: Any) -> MINet:
    torch.manual_seed(3)
    return MINet(scale=scale, **{**SMALL, **settings}).double()


def make_images(
    scale: int = 2, *, n_samples: int = 2, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    """low_res (B, 1, 6, 5), reference and upsampled (B, 1, 6 scale, 5 scale)."""
    generator = torch.Generator().manual_seed(7)
    h, w = 6, 5
    shapes = [(h, w), (scale * h, scale * w), (scale * h, scale * w)]
    return [torch.randn(n_samples, 1, *shape, generator=generator, dtype=dtype) for shape in shapes]


def features(n: int, *, channels: int = 8, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shape = (2, channels, 7, 6)
    return [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n)]


def assert_same_with_gradients(fast: torch.Tensor, slow: torch.Tensor, variables: list[torch.Tensor]) -> None:
    torch.testing.assert_close(fast, slow, **TOLERANCE)
    direction = torch.linspace(-1, 1, fast.numel(), dtype=fast.dtype).reshape(fast.shape)
    gradients_fast = torch.autograd.grad((fast * direction).sum(), variables, allow_unused=True)
    gradients_slow = torch.autograd.grad((slow * direction).sum(), variables, allow_unused=True)
    for left, right in zip(gradients_fast, gradients_slow, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            torch.testing.assert_close(left, right, **TOLERANCE)


def test_residual_group_is_equations_1_and_2() -> None:
    torch.manual_seed(0)
    group = ResidualGroup(8, n_blocks=3, reduction=2).double()
    (x,) = features(1)
    x.requires_grad_()
    weights = {f"group.{name}": parameter for name, parameter in group.named_parameters()}
    slow = literal.residual_group(weights, "group", x)
    assert_same_with_gradients(group(x), slow, [x, *group.parameters()])


def test_channel_spatial_attention_is_equation_4_with_a_conv3d() -> None:
    torch.manual_seed(0)
    attention = ChannelSpatialAttention(8).double()
    (x,) = features(1)
    x.requires_grad_()
    weights = {f"attention.{name}": parameter for name, parameter in attention.named_parameters()}
    slow = literal.channel_spatial_attention(weights, "attention", x)
    assert_same_with_gradients(attention(x), slow, [x, *attention.parameters()])


@pytest.mark.parametrize("similarity", ["cosine", "raw"])
def test_affinity_is_equation_7(similarity: Any) -> None:
    module = MultiStageIntegration(4, n_features=8, similarity=similarity).double()
    # Small enough for the raw dot products, some 336 x 0.05^2, not to saturate the softmax.
    stored = [f.requires_grad_() for f in features(4, scale=0.05)]
    fast = module.affinity(stored)
    slow = literal.affinity(stored, module.temperature)
    assert_same_with_gradients(
        fast, slow, [*stored, *([] if module.temperature is None else [module.temperature])]
    )
    torch.testing.assert_close(fast.sum(dim=2), torch.ones(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("similarity", ["cosine", "raw"])
@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_folded_integration_is_equation_8_with_s_f_materialised(similarity: Any, scale: float) -> None:
    torch.manual_seed(0)
    module = MultiStageIntegration(4, n_features=8, similarity=similarity).double()
    stored = [f.requires_grad_() for f in features(4, scale=scale)]
    h = literal.integrate(stored, literal.affinity(stored, module.temperature))
    weights = {f"projection.{name}": parameter for name, parameter in module.projection.named_parameters()}
    slow = literal.conv(weights, "projection", h)
    assert_same_with_gradients(module(stored), slow, [*stored, *module.parameters()])


def test_raw_similarity_of_equation_7_saturates_and_cosine_does_not() -> None:
    """The reason for the default: at unit features the printed softmax is one-hot, its path without gradient."""
    stored = [f[:1].requires_grad_() for f in features(4)]
    raw = MultiStageIntegration(4, n_features=8, similarity="raw").double().affinity(stored)
    torch.testing.assert_close(raw, torch.eye(4, dtype=torch.float64)[None])
    gradient = torch.stack(torch.autograd.grad(raw[0, 0, 1], stored))
    assert gradient.abs().max() < 1e-30
    cosine = MultiStageIntegration(4, n_features=8, similarity="cosine").double().affinity(stored)
    assert cosine.detach().max() < 1 - 1e-6
    gradient = torch.stack(torch.autograd.grad(cosine[0, 0, 1], stored))
    assert gradient.abs().max() > 1e-9


def test_cosine_affinity_does_not_depend_on_the_size_of_the_frame() -> None:
    module = MultiStageIntegration(4, n_features=8, similarity="cosine").double()
    patch = features(4)
    frame = [f.repeat(1, 1, 3, 2) for f in patch]
    torch.testing.assert_close(module.affinity(frame), module.affinity(patch))


def test_affinity_is_accumulated_in_float32_under_bfloat16_autocast() -> None:
    module = MultiStageIntegration(4, n_features=8, similarity="cosine")
    stored = [f.bfloat16() for f in features(4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(stored).dtype == torch.bfloat16
    assert module.affinity(stored).dtype == torch.float32
    # The same bfloat16 numbers, summed in float32 and in float64.
    expected = module.double().affinity([f.double() for f in stored])
    torch.testing.assert_close(module.float().affinity(stored).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", [2, 4])
def test_model_is_the_literal_model_forward_and_in_every_gradient(variant: str, scale: int) -> None:
    model = make_model(scale, **VARIANTS[variant])
    low_res, reference, upsampled = make_images(scale)
    low_res.requires_grad_()
    fast = model(low_res, reference, upsampled)
    slow = literal.minet(
        dict(model.named_parameters()),
        low_res,
        reference,
        upsampled if model.bicubic_skip else None,
        scale=scale,
    )
    assert (fast[1] is None) == (slow[1] is None)
    variables = [low_res, *model.parameters()]
    joined_fast = torch.cat([image for image in fast if image is not None])
    joined_slow = torch.cat([image for image in slow if image is not None])
    assert_same_with_gradients(joined_fast, joined_slow, variables)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_target_image_alone_is_that_of_the_call(variant: str) -> None:
    model, images = make_model(**VARIANTS[variant]), make_images()
    assert torch.equal(model.target_image(*images), model(*images)[0])


def test_products_of_feature_maps_by_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = [f.requires_grad_() for f in features(3)]
    rows = torch.stack([f.flatten(1) for f in maps], dim=1)
    monkeypatch.setattr(gram, "PIECE", 100)  # of 336 values: the last piece is a short one
    assert_same_with_gradients(gram.products_of(maps), rows @ rows.mT, maps)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_receives_gradient(variant: str) -> None:
    torch.manual_seed(0)
    model = MINet(scale=2, **{**SMALL, "n_features": 16, "reduction": 4, **VARIANTS[variant]})
    low_res, reference, upsampled = make_images(dtype=torch.float32)
    images = model(low_res, reference, upsampled)
    target = upsampled.flip(2)
    reconstruction_loss(images, target, reference, alpha=0.9, beta=0.1).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]
    assert without == []


def test_without_reference_no_parameter_of_its_branch_exists_and_none_is_looked_at() -> None:
    model = make_model(use_reference=False)
    assert [name for name, _ in model.named_parameters() if "reference" in name or "fusion" in name] == []
    low_res, _, upsampled = make_images()
    image, reference_image = model(low_res, None, upsampled)
    assert image.shape == upsampled.shape
    assert reference_image is None


def test_quick_preset_has_some_seventy_thousand_parameters() -> None:
    model = build_model(PRESETS["quick"][0].model_dump(), scale=2)
    assert sum(p.numel() for p in model.parameters()) == 67_819


def test_paper_preset_has_some_six_million_parameters() -> None:
    model = build_model(PRESETS["paper"][0].model_dump(), scale=2)
    assert 6.0e6 < sum(p.numel() for p in model.parameters()) < 6.5e6


def test_bicubic_skip_starts_near_the_bicubic_image_of_the_whole_frame() -> None:
    model = make_model()
    low_res, reference, _ = make_images()
    image, _ = model(low_res, reference)
    # The last convolution starts at a hundredth of its default weights: a few hundredths of the image.
    assert (image - bicubic(low_res, 2)).abs().max() < 0.1
    explicit, _ = model(low_res, reference, bicubic(low_res, 2))
    torch.testing.assert_close(image, explicit, rtol=0, atol=0)


def test_channels_last_and_contiguous_models_agree() -> None:
    model = make_model()
    images = make_images()
    expected = model(*images)
    model.to(memory_format=torch.channels_last)
    for left, right in zip(model(*images), expected, strict=True):
        torch.testing.assert_close(left, right, **TOLERANCE)


def test_the_shapes_of_a_model_are_known_without_torch_s_compiler() -> None:
    """Every start of a site and of a run asks for them, and importing the compiler takes three seconds."""
    asked = (
        "import sys; from minet_core.protocol.exchange_plan import exchange_plan_of; "
        "from minet_core.settings.federation import *; "
        "exchange_plan_of(FederationSettings(name='x', sites=('a',), participation={'quorum': 1})); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    model = make_model()
    low_res, reference, upsampled = make_images(n_samples=3)
    together, _ = model(low_res, reference, upsampled)
    for b in range(3):
        alone, _ = model(low_res[b : b + 1], reference[b : b + 1], upsampled[b : b + 1])
        torch.testing.assert_close(alone, together[b : b + 1], **TOLERANCE)


@pytest.mark.parametrize(
    "settings", [{"scale": 3}, {"integration": "sine"}, {"n_features": 10, "reduction": 4}]
)
def test_sizes_that_no_model_has_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match="FM-C102"):
        MINet(**{"scale": 2, **settings})


def test_reference_of_another_size_is_refused() -> None:
    low_res, reference, upsampled = make_images()
    with pytest.raises(ModelError, match="does not fit"):
        make_model()(low_res, reference[..., :-1], upsampled)
    with pytest.raises(ModelError, match="does not fit"):
        make_model()(low_res, None, upsampled)


@pytest.mark.parametrize("learning", ["everything", "the gate alone", "the features alone"])
def test_gated_residual_has_the_gradient_of_its_layers(learning: str) -> None:
    """Where a part does not learn, as in a training of the head alone, the rest has the same gradient."""
    features_, response = features(2)
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, 8), (2,), (8, 2), (8,)]
    layers = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    images = [features_, response]
    of = {"everything": images + layers, "the gate alone": layers, "the features alone": images}
    variables = [tensor.requires_grad_() for tensor in of[learning]]
    pooled = torch.addmm(layers[1], response.mean(dim=(2, 3)), layers[0].T).relu()
    gate = torch.addmm(layers[3], pooled, layers[2].T).sigmoid()
    slow = features_ + response * gate[:, :, None, None]
    fast = gated_residual(features_, response, (layers[0], layers[1]), (layers[2], layers[3]))
    assert_same_with_gradients(fast, slow, variables)


@pytest.mark.parametrize("shape", [(2, 8, 6, 10), (1, 16, 33, 7)])
def test_gated_residual_in_bfloat16_is_the_products_of_torch_and_keeps_channels_last(
    shape: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(3)
    images = [
        torch.randn(shape, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
        for _ in range(3)
    ]
    sizes = [(4, shape[1]), (4,), (shape[1], 4), (shape[1],)]
    layers = [torch.randn(size, generator=generator) for size in sizes]
    features_, response = (image.requires_grad_() for image in images[:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = gated_residual(features_, response, (layers[0], layers[1]), (layers[2], layers[3]))
        with torch.no_grad():
            untrained = gated_residual(features_, response, (layers[0], layers[1]), (layers[2], layers[3]))
    pooled = response.double().mean(dim=(2, 3)).float()
    gate = (layers[3] + (layers[1] + pooled @ layers[0].T).relu() @ layers[2].T).sigmoid().bfloat16()
    slow = torch.addcmul(features_, response, gate[:, :, None, None])
    # A column's sum has bfloat16's rounding, 2^-9, as the gate has afterwards: a gate may be its neighbour, 2^-8 off.
    torch.testing.assert_close(fast, slow, rtol=2**-7, atol=2**-7)
    assert torch.equal(untrained, fast)
    assert fast.is_contiguous(memory_format=torch.channels_last)

    of_fast, of_slow = (
        torch.autograd.grad(result, [features_, response], images[2]) for result in (fast, slow)
    )
    for fast_part, slow_part in zip(of_fast, of_slow, strict=True):
        assert fast_part.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(fast_part, slow_part, rtol=0.02, atol=0.02)


def test_integration_keeps_channels_last() -> None:
    """A sample that loses it is reordered by every convolution, forward and backward."""
    module = MultiStageIntegration(2, n_features=8, similarity="cosine").double()
    stored = [f.contiguous(memory_format=torch.channels_last) for f in features(2)]
    seen: list[bool] = []
    convolve = torch.nn.functional.conv2d

    def look(sample: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        seen.append(sample.is_contiguous(memory_format=torch.channels_last))
        return convolve(sample, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minet_core.models.minet.multi_stage_integration.functional.conv2d", look)
        assert module(stored).is_contiguous(memory_format=torch.channels_last)
    assert seen == [True, True]
