"""What became of the tensors of a checkpoint from elsewhere that was fitted to a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Conversion:
    """What became of each tensor of a source.

    Attributes:
        state: our names to tensors, only what fits.
        unused: source names that have no place in our model.
        missing: our names (of the expected part) that the source does not fill.
        mismatched: our name, shape in the source, shape expected.
        kind: what the source holds, such as a backbone trained on ImageNet.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    kind: str = ''
