"""The inner products of some feature maps with each other, in float32 at least, with their gradient in one pass.

On a processor maps are gone through sample by sample and, where they are large, piece by piece: what is converted to
float32 stays in a core's cache, and no copy of all maps is made. None is kept for the backward pass. Torch's own
gradient of rows @ rows^T is two batched products of matrices this flat and their sum; the products' gradient plus its
transpose does the same in one, and sample by sample it takes a third of the time of the batched product.

Shapes: B batch, N feature maps, C channel, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 2**17
"""Values of a sample's map at a time: less takes longer, 2.7 ms for four maps of 16 x 320 x 320, and 3.6 by half as
many. Maps of fewer values are taken whole: by pieces, patches of 48 px take half as long again."""


def products_of(maps: Sequence[Tensor]) -> Tensor:
    """The inner products of every two maps.

    Parameters
    ----------
    maps : N tensors (B, C, H, W)
        Of one shape, dtype and device.

    Returns
    -------
    Tensor (B, N, N)
        Symmetric; float32, or float64 where the maps are.
    """
    if torch.compiler.is_compiling():  # a compiler has one loop for the whole, and its gradient
        together = _whole(maps)
        return together @ together.mT
    products: Tensor = Gram.apply(*maps)  # type: ignore[no-untyped-call]
    return products


class Gram(torch.autograd.Function):
    """N maps (B, C, H, W) -> their products (B, N, N)."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        """The products.

        Parameters
        ----------
        ctx
            Keeps the maps for the backward pass.
        maps : N tensors (B, C, H, W)
            Of one shape, dtype and device.

        Returns
        -------
        Tensor (B, N, N)
            Symmetric; float32, or float64 where the maps are.
        """
        ctx.save_for_backward(*maps)
        rows = [_rows_of(one) for one in maps]
        if not _goes_by_pieces(rows[0]):
            together = _whole(maps)
            return together @ together.mT
        dtype = torch.promote_types(maps[0].dtype, torch.float32)
        products = rows[0].new_zeros(len(rows[0]), len(rows), len(rows), dtype=dtype)
        own = rows[0].new_empty(len(rows), min(PIECE, rows[0].shape[1]), dtype=dtype)
        for sample, of_sample in enumerate(products):
            for start in range(0, rows[0].shape[1], PIECE):
                piece = _piece(rows, sample, start, own)
                of_sample.addmm_(piece, piece.mT)
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """(D + D^T) rows.

        Parameters
        ----------
        ctx
            With the maps.
        gradient : Tensor (B, N, N)
            D, of the products.

        Returns
        -------
        N tensors (B, C, H, W)
            Of each map, in its dtype.
        """
        maps = ctx.saved_tensors
        rows = [_rows_of(one) for one in maps]
        mixing = gradient + gradient.mT
        if not _goes_by_pieces(rows[0]):
            together = _whole(maps)
            mixed = torch.empty_like(together)
            for of_sample, sample, place in zip(mixing, together, mixed, strict=True):
                torch.mm(of_sample, sample, out=place)
            return tuple(_as_map(row, maps[0]) for row in mixed.to(maps[0].dtype).unbind(dim=1))
        own = rows[0].new_empty(len(rows), min(PIECE, rows[0].shape[1]), dtype=mixing.dtype)
        mixed = rows[0].new_empty(len(rows[0]), len(rows), rows[0].shape[1])
        for number, of_sample in enumerate(mixing):
            for start in range(0, rows[0].shape[1], PIECE):
                piece = _piece(rows, number, start, own)
                mixed[number, :, start : start + PIECE].copy_(of_sample @ piece)
        return tuple(_as_map(row, maps[0]) for row in mixed.unbind(dim=1))


def _goes_by_pieces(row: Tensor) -> bool:
    """On a GPU each piece would be some kernels more, and the whole has room."""
    converted = row.dtype in (torch.bfloat16, torch.float16)
    return row.device.type == "cpu" and (converted or row.shape[1] > PIECE)


def _whole(maps: Sequence[Tensor]) -> Tensor:
    """(B, N, H W C) in float32 at least."""
    together = torch.stack([_rows_of(one) for one in maps], dim=1)
    return together.to(torch.promote_types(together.dtype, torch.float32))


def _rows_of(one: Tensor) -> Tensor:
    """(B, H W C): the order does not matter to a dot product, and of channels_last this one is a view."""
    return one.permute(0, 2, 3, 1).flatten(1)


def _as_map(row: Tensor, like: Tensor) -> Tensor:
    batch, n_features, n_rows, n_columns = like.shape
    return row.reshape(batch, n_rows, n_columns, n_features).permute(0, 3, 1, 2)


def _piece(rows: list[Tensor], sample: int, start: int, own: Tensor) -> Tensor:
    """(N, up to PIECE) of a sample, converted into `own`."""
    piece = own[:, : min(PIECE, rows[0].shape[1] - start)]
    for place, row in zip(piece, rows, strict=True):
        place.copy_(row[sample, start : start + PIECE])
    return piece
