"""Two views of one sample, for a student and a teacher whose inputs differ."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from perception3d.checks import InputError
from perception3d.registry import TRANSFORMS
from perception3d.structures.sample_schema import PER_IMAGE


@TRANSFORMS.register_module()
class PairedViews(BaseTransform):
    """Runs two pipelines on the same sample with the same random numbers; the last step of a pipeline.

    Steps that draw in the same order draw the same: images of two sizes are cut, mirrored and rotated alike. The draw
    that `ImageAugment` adds to the scale is not relative: give the larger view a `resize` that is larger by as much.
    Both views must have one lidar frame, which is checked. The result is the student's packed sample with the teacher's
    under 'teacher', as `Distiller` takes it.

    Args:
        student, teacher: pipelines, each ending in a packing step.
        same_frame: check that both views have one lidar frame (`aug_from_lidar`); False for pairs that need none.
    """

    def __init__(self, student: Sequence[Any], teacher: Sequence[Any], same_frame: bool = True) -> None:
        self.student, self.teacher = Compose(student), Compose(teacher)
        self.same_frame = same_frame

    def transform(self, results: dict) -> dict | None:
        """Returns both views, or None where a pipeline drops the sample."""
        state = random.getstate(), np.random.get_state(), torch.get_rng_state()
        teacher_view = self.teacher(copy.deepcopy(results))
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
        student_view = self.student(results)
        if student_view is None or teacher_view is None:
            return None
        if self.same_frame:
            _check_frames(student_view, teacher_view)
        return {**student_view, 'teacher': teacher_view}


def _check_frames(student_view: dict, teacher_view: dict) -> None:
    frames = [view['data_samples'].metainfo.get('aug_from_lidar', np.eye(4)) for view in (student_view, teacher_view)]
    if not np.allclose(frames[0], frames[1], atol=1e-6):
        raise InputError(
            'the views of student and teacher have different lidar frames: their pipelines must draw the same '
            'random numbers in the same order (or set same_frame=False)'
        )


@TRANSFORMS.register_module()
class KeepFrames(BaseTransform):
    """Leaves the newest `num_frames` of a multi-frame sample, for a student that sees fewer than its teacher."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    def transform(self, results: dict) -> dict:
        """Cuts every list and array over images (index = frame * cameras + camera)."""
        have = results['num_frames']
        if not 1 <= self.num_frames <= have:
            raise InputError(f'a sample has {have} frames: KeepFrames({self.num_frames}) keeps 1 to {have} of them')
        for key in ('img', *PER_IMAGE):
            if key in results:
                results[key] = results[key][: len(results[key]) // have * self.num_frames]
        results['num_frames'] = self.num_frames
        return results
