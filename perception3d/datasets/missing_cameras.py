"""Cameras that some samples of a data set lack: they get a black image.

The black image has no path, and its camera is placed so far away that no point of the scene is in front of it. So the
network runs on the same cameras in every sample, and its detections do not depend on the other samples of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FAR_BEHIND_M = 1e6


class CameraRig:
    """The cameras of all samples of an info file, in the order of its most complete sample.

    Args:
        infos: entries of the file's `data_list`.
        past: for each entry the images of the history frames in use; by default none.
    """

    def __init__(
        self, infos: Sequence[Mapping[str, Any]], past: Sequence[Sequence[Mapping[str, Any]]] | None = None
    ) -> None:
        self._views: dict[str, Mapping[str, Any]] = {}
        self._counts: Counter[str] = Counter()
        self._first_lacking: dict[str, str] = {}
        self._num_samples = len(infos)
        most_complete: Mapping[str, Any] = max(infos, key=lambda info: len(info['images']), default={'images': {}})
        for info in (most_complete, *infos):
            for name, view in info['images'].items():
                self._views.setdefault(name, view)
        for info, frames in zip(infos, past if past is not None else [()] * len(infos), strict=True):
            present = set(self._views)
            for images in (info['images'], *frames):
                present = present & images.keys()
            self._counts.update(present)
            for name in self._views.keys() - present:
                self._first_lacking.setdefault(name, info['token'])

    @property
    def names(self) -> list[str]:
        """Names of all cameras."""
        return list(self._views)

    def notes(self, names: Sequence[str]) -> list[str]:
        """Returns a line for each of the cameras `names` that some samples lack, in the current frame or a past one."""
        return [
            f'{self._num_samples - self._counts[name]} of {self._num_samples} samples lack an image of {name} (first: '
            f'sample {self._first_lacking[name]}): a black image is used there'
            for name in names
            if name in self._first_lacking
        ]

    def black_view(self, name: str) -> dict[str, Any]:
        """Returns a black image of the camera `name`, as an entry of an info file; its time is infinite."""
        view = self._views[name]
        lidar2cam = np.array(view['lidar2cam'], np.float64)
        lidar2cam[2, 3] -= _FAR_BEHIND_M
        size = {key: view[key] for key in ('width', 'height')}
        return {'img_path': '', 'timestamp': np.inf, 'cam2img': view['cam2img'], 'lidar2cam': lidar2cam, **size}
