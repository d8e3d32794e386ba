"""The registries of this package are mmdet3d's own, so that its tools, hooks and inferencers work on our configs."""

from __future__ import annotations

from mmdet3d.registry import DATASETS, HOOKS, METRICS, MODELS, TASK_UTILS, TRANSFORMS, VISUALIZERS

__all__ = ['DATASETS', 'HOOKS', 'METRICS', 'MODELS', 'TASK_UTILS', 'TRANSFORMS', 'VISUALIZERS']
