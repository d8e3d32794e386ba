"""Tracks in test and inference: a tracker follows the predictions of a detector from sample to sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmdet3d.structures import Det3DDataSample

from perception3d.checks import InputError
from perception3d.geometry.camera import chain, invert_rigid
from perception3d.registry import TASK_UTILS
from perception3d.structures.sample import boxes_of
from perception3d.structures.tracks import FrameTracks


class SequenceTracking:
    """Adds `pred_tracks` to samples with boxes, one after the other, scene by scene.

    The tracker begins anew where `scene_token` changes. Between two frames whose poses `global_from_ego` and
    `ego_from_lidar` are both known, the tracks follow the motion of the LiDAR; otherwise it stands still. A sample
    without `timestamp` comes after the fixed step of the tracker.

    Args:
        settings: of the tracker, with its `type` in TASK_UTILS. It has `begin(classes)` and `update(boxes, scores,
            time_s, now_from_before, labels)`, which returns a `structures.tracks.Tracks`; see
            `models.crowd.tracker.CenterTracker`.
        classes: names of the labels.
        scene: name of the one sequence to which samples without `scene_token` belong; None: there is none, they are an
            error.

    Raises:
        InputError: the tracker cannot be built.
    """

    def __init__(self, settings: Mapping[str, Any], classes: Sequence[str], scene: str | None = None) -> None:
        try:
            self._tracker = TASK_UTILS.build(dict(settings))
        except (KeyError, TypeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, InputError) else error
            raise InputError(f'tracker of the config cannot be built: {cause}') from error
        self._classes, self._default_scene = tuple(classes), scene
        self._scene: str | None = None
        self._done: set[str] = set()
        self._global_from_lidar: np.ndarray | None = None

    def add_tracks(self, sample: Det3DDataSample) -> FrameTracks:
        """Sets `pred_tracks` of the next sample, and returns them for files.

        Raises:
            InputError: the sample has no boxes, or no scene; its scene was left before, or it is not later than the
                sample before.
        """
        metas, boxes = sample.metainfo, boxes_of(sample.get('pred_instances_3d'))
        name = metas.get('token') or metas.get('sample_idx')
        if boxes is None or boxes.scores is None:
            raise InputError(
                f'sample {name}: the model predicts no 3D boxes with scores to track: leave `tracker` out of the config'
            )
        scene = self._enter(name, metas)
        now, before = _pose(metas), self._global_from_lidar
        self._global_from_lidar = now
        motion = None if now is None or before is None else chain(invert_rigid(now), before)
        # A bare cloud has the time 0, which says nothing.
        time_s = metas.get('timestamp') or None
        try:
            tracks = self._tracker.update(boxes.boxes, boxes.scores, time_s, motion, boxes.labels)
        except InputError as error:
            raise InputError(f'sample {name}: {error}') from error
        sample.pred_tracks = tracks
        return FrameTracks(str(name), scene, time_s, tracks, now)

    def _enter(self, name: Any, metas: Mapping[str, Any]) -> str:
        """Returns the scene of a sample; begins a sequence where it is another one."""
        scene = metas.get('scene_token') or self._default_scene
        if scene is None:
            raise InputError(
                f'sample {name} has no scene_token, so that its frames are no sequence: leave `tracker` out of the '
                'config, or add scene_token and timestamp to the samples and to the meta keys of the last pipeline step'
            )
        scene = str(scene)
        if scene == self._scene:
            return scene
        if scene in self._done:
            raise InputError(
                f'sample {name} belongs to the scene {scene} that was left before: a tracker needs the samples scene '
                'by scene and in the order of time, without a shuffling sampler'
            )
        self._scene, self._global_from_lidar = scene, None
        self._done.add(scene)
        self._tracker.begin(self._classes)
        return scene


class TrackingStep:
    """A test step that tracks what another one predicts; takes and returns what `model.test_step` does.

    Args:
        step: the other one.
        tracking: of all samples.
        keeps: keeps the tracks of all frames, without their histories, for files.

    Attributes:
        frames: what is kept.
    """

    def __init__(
        self, step: Callable[[Any], list[Det3DDataSample]], tracking: SequenceTracking, keeps: bool = False
    ) -> None:
        self._step, self._tracking, self._keeps = step, tracking, keeps
        self.frames: list[FrameTracks] = []

    def __call__(self, data: Any) -> list[Det3DDataSample]:
        """Returns the samples of a batch with their predictions and tracks; errors as of `SequenceTracking`."""
        samples = self._step(data)
        for sample in samples:
            tracked = self._tracking.add_tracks(sample)
            if self._keeps:
                self.frames.append(tracked.without_history())
        return samples


def _pose(metas: Mapping[str, Any]) -> np.ndarray | None:
    """The pose (4, 4) global_from_lidar of a sample, where both its parts are known."""
    ego, lidar = metas.get('global_from_ego'), metas.get('ego_from_lidar')
    if ego is None or lidar is None:
        return None
    return chain(np.asarray(ego, np.float64), np.asarray(lidar, np.float64))
