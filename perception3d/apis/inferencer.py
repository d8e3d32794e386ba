"""Running a trained model on raw files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from perception3d.apis.config import load_config
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.datasets.camera_frames import read_infos, repeat_history
from perception3d.engine.memory import keep_freed_memory
from perception3d.files import write_json
from perception3d.registry import DATASETS, MODELS


class Inferencer:
    """A model of a config with the weights of a checkpoint, ready for files.

    >>> inferencer = Inferencer('configs/fast_bev/fast_bev_tiny_96x352_9e_sim.py', 'epoch_9.pth')
    >>> for sample in inferencer('frame.json'):
    ...     print(sample.pred_instances_3d.bboxes_3d)

    Args:
        config: a path or a loaded config; its test data set says how a sample is prepared.
        checkpoint: weights of that config, loaded strictly.
        device: 'cuda', 'cpu', ...; by default a GPU if there is one.
        amp: run the network in bf16.

    Raises:
        InputError: the config or the checkpoint cannot be used.
    """

    def __init__(
        self, config: str | Path | Config, checkpoint: str | Path, device: str | None = None, amp: bool = False
    ) -> None:
        self.config = config if isinstance(config, Config) else load_config(config)
        self.device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.amp = amp
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import init_default_scope

        keep_freed_memory()
        init_default_scope(self.config.default_scope)
        self.model = revert_sync_batchnorm(MODELS.build(self.config.model))
        load_weights(self.model, checkpoint)
        self.model.to(self.device).eval()

    def __call__(self, path: str | Path) -> Iterator[Any]:
        """Yields the data sample of each frame in `path` (.json frame or .pkl infos), with its predictions.

        Paths inside the file are relative to its folder.
        """
        dataset = self._dataset(Path(path).resolve().parent)
        for info in read_infos(path):
            if getattr(self.model, 'ground_z_m', None) is not None and 'lidar2ego' not in info['lidar_points']:
                raise InputError(
                    f'{path}: the grid of this model follows the ground, so it needs to know where that is: give '
                    'lidar_points.lidar2ego, 4 x 4, to the ego frame on the road'
                )
            num_frames = dataset.num_frames or 1 + len(dataset.offsets_s or info['history'])
            yield self._predict(dataset, repeat_history(info, num_frames))

    def write(self, path: str | Path, out: str | Path, score_thr: float = 0.25) -> list[Path]:
        """Writes a PNG and a JSON for each frame of `path` into the folder `out`; returns their paths.

        Boxes below `score_thr` are in the JSON but not in the picture.
        """
        visualizer = _visualizer(self._dataset(Path(path).resolve().parent).metainfo)
        written = []
        for sample in self(path):
            stem = Path(out) / (sample.metainfo.get('token') or 'frame')
            picture, boxes = stem.with_suffix('.png'), stem.with_suffix('.json')
            visualizer.write(picture, None, sample, draw_gt=False, pred_score_thr=score_thr)
            write_json(boxes, describe(sample, visualizer.dataset_meta['classes']), indent=1)
            written += [picture, boxes]
        return written

    def _dataset(self, root: Path) -> Any:
        settings = {**self.config.test_dataloader['dataset'], 'data_root': str(root), 'lazy_init': True}
        dataset = DATASETS.build(settings)
        if not hasattr(dataset, 'num_frames'):
            raise InputError(f'{type(dataset).__name__} cannot be fed from raw files yet: use tools/test.py')
        return dataset

    @torch.inference_mode()
    def _predict(self, dataset: Any, info: dict[str, Any]) -> Any:
        sample = dataset.parse_data_info(info)
        sample.update(box_type_3d=dataset.box_type_3d, box_mode_3d=dataset.box_mode_3d)
        batch = pseudo_collate([dataset.pipeline(sample)])
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.amp):
            return self.model.test_step(batch)[0]


def describe(sample: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    """Returns the predictions of a data sample as plain numbers: metres, radians, m/s, in the frame of the LiDAR."""
    predictions = sample.pred_instances_3d
    boxes = predictions.bboxes_3d
    rows = zip(
        boxes.gravity_center.tolist(),
        boxes.dims.tolist(),
        boxes.yaw.tolist(),
        boxes.tensor[:, 7:9].tolist(),
        predictions.scores_3d.tolist(),
        predictions.labels_3d.tolist(),
    )
    return {
        'token': sample.metainfo.get('token', ''),
        'frame': 'lidar: x right, y forward, z up',
        'boxes': [
            {
                'class': classes[label],
                'score': round(score, 4),
                'center_m': center,
                'size_lwh_m': size,
                'yaw_rad': yaw,
                'velocity_mps': velocity,
            }
            for center, size, yaw, velocity, score, label in rows
        ],
    }


def _visualizer(metainfo: dict[str, Any]) -> Any:
    from perception3d.visualization.visualizer import MultiViewVisualizer

    visualizer = MultiViewVisualizer('inferencer')
    visualizer.dataset_meta = metainfo
    return visualizer
