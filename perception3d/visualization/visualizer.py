"""The visualizer that mmengine's runner and loops use: one picture a sample, written to a file or to the backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import Visualizer

from perception3d.checks import InputError
from perception3d.files import write_image
from perception3d.registry import VISUALIZERS
from perception3d.structures.base import Structure
from perception3d.structures.frame import SensorFrame
from perception3d.structures.sample import SampleStructures, resolve, structures_of
from perception3d.visualization.draw import PictureStyle, draw_sample
from perception3d.visualization.sample import can_read_cloud, names_images, read_frame, title_of


@VISUALIZERS.register_module()
class MultiViewVisualizer(Visualizer):
    """Draws all cameras, BEV views, ground truth and predictions of a sample; needs no display.

    Args:
        name: of this instance.
        style: fields of `perception3d.visualization.draw.PictureStyle`, such as `dict(width_px=1280, range_m=60.0)`.
        raw_images: reads the images on disk where the sample names them with their matrices (`img_paths`,
            `stored_from_cam`, `cam_from_lidar`); otherwise, and with False, the images as they entered the network.
        draw_points: shows the points of the sample in the BEV views: those of its LiDAR file, or of the network where
            point labels need exactly these or the file cannot be read by its suffix. With False, only the points that
            labels need.
        kwargs: further arguments of mmengine's Visualizer, such as `vis_backends` and `save_dir`.
    """

    draws_data_samples = True
    """Whether it draws data samples into files by `write`, as `DrawPredictionsHook` needs it."""

    def __init__(
        self,
        name: str = 'visualizer',
        style: Mapping[str, Any] | None = None,
        raw_images: bool = True,
        draw_points: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.style = PictureStyle(**(style or {}))
        self.raw_images = raw_images
        self.draw_points = draw_points

    def draw(
        self,
        image: Any,
        data_sample: Any,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: float = 0.3,
    ) -> np.ndarray:
        """Returns the picture (H, W, 3) uint8 BGR of a sample.

        Args:
            image: None, or what entered the network: (F*N, 3, H, W) uint8, a list of (H, W, 3) BGR images, or a mapping
                with such an `img` and, of LiDAR data, `points` (N, 3 or more).
            data_sample: mmdet3d's Det3DDataSample with its metas and all that it carries, see
                `perception3d.structures.sample`.
            draw_gt: draws the ground truth, where there is any.
            draw_pred: draws the predictions.
            pred_score_thr: predictions below it are left out.

        Raises:
            InputError: neither images nor points nor files of them are known, or they do not fit their matrices.
        """
        carried = structures_of(data_sample)
        structures = [
            *(carried.ground_truth or () if draw_gt else ()),
            *(carried.predictions or () if draw_pred else ()),
        ]
        frame, notes = self._frame(image, data_sample.metainfo, structures)
        return self.draw_frame(frame, data_sample, draw_gt, draw_pred, pred_score_thr, notes)

    def draw_frame(
        self,
        frame: SensorFrame,
        data_sample: Any,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: float = 0.3,
        notes: Sequence[str] = (),
    ) -> np.ndarray:
        """Returns the picture of a sample in a given sensor frame; other arguments as of `draw`."""
        carried, classes = structures_of(data_sample), self._class_names()
        predictions = resolve(carried.predictions, classes, pred_score_thr) if draw_pred else None
        if any(structure.has_scores for structure in predictions or ()):
            notes = [f'scores from {pred_score_thr:g}', *notes]
        structures = SampleStructures(carried.ground_truth if draw_gt else None, predictions)
        return draw_sample(frame, classes, structures, title_of(data_sample.metainfo), notes, self.style)

    def write(self, path: str | Path, image: Any, data_sample: Any, **settings: Any) -> None:
        """Writes the picture of a sample (see `draw`) to `path`, whole; on every process, unlike `add_datasample`."""
        write_image(path, self.draw(image, data_sample, **settings))

    @master_only
    def add_datasample(
        self,
        name: str,
        image: Any = None,
        data_sample: Any = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0.0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draws a sample (see `draw`) and puts the picture into `out_file`, or else into the backends as `name`.

        `show` opens a window for `wait_time` seconds instead (0: until a key is pressed); it needs a display.
        """
        if data_sample is None:
            raise InputError(f'{name}: there is no data sample to draw')
        picture = self.draw(image, data_sample, draw_gt, draw_pred, pred_score_thr)
        if show:
            self.show(picture[..., ::-1], win_name=name, wait_time=wait_time)
        elif out_file is not None:
            write_image(out_file, picture)
        else:
            self.add_image(name, np.ascontiguousarray(picture[..., ::-1]), step)

    def _class_names(self) -> list[str]:
        # mmengine's own property is None on other processes than the first.
        classes = (self._dataset_meta or {}).get('classes')
        if not classes:
            raise InputError("the visualizer knows no class names: set its dataset_meta to the data set's metainfo")
        return list(classes)

    def _frame(
        self, image: Any, metas: Mapping[str, Any], structures: Sequence[Structure]
    ) -> tuple[SensorFrame, list[str]]:
        # A sample that was packed without the axes has those of its data set.
        metas = {'lidar_axes': (self._dataset_meta or {}).get('lidar_axes'), **metas}
        inputs = image if isinstance(image, Mapping) else {'img': image}
        image, points = inputs.get('img'), inputs.get('points')
        needed = any(structure.needs_points for structure in structures)
        # Labels belong to the points of the network, of which a pipeline may have dropped some.
        if not needed and (not self.draw_points or can_read_cloud(metas)):
            points = None
        settings: dict[str, Any] = dict(with_points=self.draw_points, points=points)
        if self.raw_images and names_images(metas):
            return read_frame(metas, **settings)
        if image is not None and len(image):
            return read_frame(metas, image, **settings)
        without_images = metas.get('only_ahead') or not any(metas.get('img_paths', ()))
        has_points = points is not None or any(structure.has_points for structure in structures)
        if has_points or (metas.get('lidar_path') and without_images):
            return read_frame(metas, with_cameras=False, **settings)
        raise InputError(
            'the sample names no images and no points to draw: hand in what entered the network, or add img_paths, '
            'stored_from_cam and cam_from_lidar, or lidar_path, to the meta keys of the last pipeline step'
        )
