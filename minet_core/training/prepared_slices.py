"""A source's slices as samples, kept in memory.

H, W high-resolution row and column.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from minet_core.training.samples import Sample, make_sample

DEFAULT_CACHE_BYTES = 2**30


class SliceSource(Protocol):
    """Pairs of slices by number: target (H, W), magnitude or complex, and reference (H, W) on its grid.

    shapes: (H, W) of every pair, known without reading one.
    """

    @property
    def shapes(self) -> Sequence[tuple[int, int]]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[Any]]: ...


class SampleSlices(Protocol):
    """Whole slices as samples, by number. scale: of their degradation."""

    @property
    def scale(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class PreparedSlices:
    """Samples of a source by number, kept in memory; the least recently used leaves.

    Parameters
    ----------
    source
        Pairs of slices.
    scale
        Of the degradation.
    cache_bytes
        Bytes of samples that are kept at most.
    """

    def __init__(self, source: SliceSource, *, scale: int, cache_bytes: int) -> None:
        self.source = source
        self.scale = scale
        self.cache_bytes = cache_bytes
        self.bytes_held = 0
        self._samples: OrderedDict[Hashable, Sample] = OrderedDict()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return self.kept(index, lambda: make_sample(*self.source[index], self.scale))

    def kept(self, key: Hashable, make: Callable[[], Sample]) -> Sample:
        """A sample that is kept under a key, made where there is none.

        Parameters
        ----------
        key
            A slice's number for the slice as it is, else of another kind.
        make
            Gives the sample; the same for the same key.

        Returns
        -------
        Sample
            Not to be changed.
        """
        if key in self._samples:
            self._samples.move_to_end(key)
            return self._samples[key]
        sample = make()
        self._samples[key] = sample
        self.bytes_held += _n_bytes(sample)
        while self.bytes_held > self.cache_bytes:
            _, leaving = self._samples.popitem(last=False)
            self.bytes_held -= _n_bytes(leaving)
        return sample


def _n_bytes(sample: Sample) -> int:
    return sum(t.nbytes for t in (sample.low_res, sample.upsampled, sample.reference, sample.target))
