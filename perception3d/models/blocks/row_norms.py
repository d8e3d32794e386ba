"""Batch norm over rows of features, of which a cloud may have a single one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FewRowsBatchNorm1d(nn.BatchNorm1d):
    """Batch norm over rows (N, C) that uses its running averages, without an update, where N < 2 rows have no variance.

    A cloud may have a single voxel in range, at which torch's class raises an error in training.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises the rows."""
        if not self.training or len(input) > 1 or self.running_mean is None:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
