"""Eq. 6: closed forms, and the literal sum over samples."""

from __future__ import annotations

import pytest
import torch

from minet_core.errors import ModelError
from minet_core.models.loss import reconstruction_loss
from tests.oracles import minet_literal as literal


def images(n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, 1, 6, 5, generator=generator, dtype=torch.float64) for _ in range(n)]


def test_loss_is_equation_6() -> None:
    target_image, reference_image, target, reference = images(4)
    fast = reconstruction_loss((target_image, reference_image), target, reference, alpha=0.3, beta=0.7)
    outputs = list(zip(target_image, reference_image, strict=True))
    truths = list(zip(target, reference, strict=True))
    torch.testing.assert_close(fast, literal.loss(outputs, truths, alpha=0.3, beta=0.7))


def test_constant_errors_give_alpha_times_one_plus_beta_times_the_other() -> None:
    target, reference = images(2)
    loss = reconstruction_loss((target + 2, reference - 3), target, reference, alpha=0.3, beta=0.7)
    assert float(loss) == pytest.approx(0.3 * 2 + 0.7 * 3, rel=1e-12)


def test_without_a_reference_image_the_first_term_is_left() -> None:
    target, reference = images(2)
    loss = reconstruction_loss((target + 2, None), target, reference, alpha=0.3, beta=0.7)
    assert float(loss) == pytest.approx(0.3 * 2, rel=1e-12)


def test_loss_of_bfloat16_images_is_taken_in_the_dtype_of_the_truth() -> None:
    target, reference = (image.float() for image in images(2))
    low_precision = (target + 2).bfloat16()
    loss = reconstruction_loss((low_precision, None), target, reference, alpha=1.0, beta=0.0)
    assert loss.dtype == torch.float32
    # The images are up to 6, so their bfloat16 rounding is at most 6 x 2^-9.
    assert float(loss) == pytest.approx(2, abs=6 * 2**-9)


def test_an_image_of_another_shape_is_refused_and_not_broadcast() -> None:
    target, reference = images(2)
    with pytest.raises(ModelError, match="differ in shape"):
        reconstruction_loss((target[:, :, :1], reference), target, reference, alpha=1.0, beta=1.0)
