"""Running a trained model on raw files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from perception3d.apis.config import load_config
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError, require_file
from perception3d.datasets.camera_frames import read_infos, repeat_history
from perception3d.datasets.transforms.lidar_loading import CropToImage
from perception3d.engine.agreement import check_model_and_data, check_trained_classes
from perception3d.engine.amp import warn_of_slow_bfloat16
from perception3d.engine.cpu import prepare_cpu
from perception3d.files import write_json
from perception3d.formats.custom_boxes.dataset import PointBoxDataset
from perception3d.formats.kitti.dataset import KittiFrameDataset
from perception3d.formats.kitti.files import read_calibration
from perception3d.formats.kitti.info import InfoSettings, png_size
from perception3d.geometry.threads import parallel_kernels
from perception3d.models.inference.acceleration import accelerate
from perception3d.outputs import OutputNames, check_outputs
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.sample import resolve, structures_of
from perception3d.visualization.sample import axes_of


class Inferencer:
    """A model of a config with the weights of a checkpoint, ready for files.

    >>> inferencer = Inferencer('configs/fast_bev/fast_bev_tiny_96x352_9e_sim.py', 'epoch_9.pth')
    >>> for sample in inferencer('frame.json'):
    ...     print(sample.pred_instances_3d.bboxes_3d)

    A LiDAR detector of KITTI's frames or of LiDAR-only data takes clouds instead: `inferencer('velodyne/000042.bin')`.
    Several threads may call one inferencer at the same time: each gets the answers of a single call. What models keep
    from frame to frame, they keep for each thread (`perception3d.geometry.threads.PerThread`).

    Args:
        config: a path or a loaded config; its test data set says how a sample is prepared.
        checkpoint: weights of that config, loaded strictly.
        device: 'cuda', 'cpu', ...; by default a GPU if there is one.
        amp: run the network in bf16.
        fast: fold batch norms and use the fastest convolutions, as `tools/test.py --fast`; results change by rounding.

    Raises:
        InputError: the config or the checkpoint cannot be used.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        amp: bool = False,
        fast: bool = False,
    ) -> None:
        self.config = config if isinstance(config, Config) else load_config(config)
        self.device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.amp = amp
        self._names: dict[str, OutputNames] = {}
        if amp:
            warn_of_slow_bfloat16(torch.device(self.device))
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import init_default_scope

        prepare_cpu()
        init_default_scope(self.config.default_scope)
        self.model = revert_sync_batchnorm(MODELS.build(self.config.model))
        self._meta, self._checkpoint = load_weights(self.model, checkpoint), checkpoint
        self.model.to(self.device).eval()
        if fast:
            accelerate(self.model)

    def __call__(self, path: str | Path) -> Iterator[Any]:
        """Yields the data sample of each frame in `path`, with its predictions.

        A camera detector takes a frame (.json), with paths relative to its folder, or infos (.pkl). A LiDAR detector
        takes a cloud (.bin or .npy); see `read_cloud_frame` for what is read next to it.
        """
        dataset = self._dataset(Path(path).resolve().parent)
        if isinstance(dataset, KittiFrameDataset | PointBoxDataset):
            yield self._predict(dataset, self._cloud_sample(dataset, path))
            return
        for info in read_infos(path):
            if getattr(self.model, 'ground_z_m', None) is not None and 'lidar2ego' not in info['lidar_points']:
                raise InputError(
                    f'{path}: the grid of this model follows the ground, so it needs to know where that is: give '
                    'lidar_points.lidar2ego, 4 x 4, to the ego frame on the road'
                )
            num_frames = dataset.num_frames or 1 + len(dataset.offsets_s or info['history'])
            yield self._predict(dataset, dataset.parse_data_info(repeat_history(info, num_frames)))

    def write(
        self, path: str | Path, out: str | Path, score_thr: float = 0.25, keep: Iterable[str | Path] = ()
    ) -> list[Path]:
        """Writes a PNG and a JSON for each frame of `path` into the folder `out`; returns their paths.

        They are named by the frame's token, made safe: each frame that this object writes into `out` gets names of its
        own, equal tokens with numbers (`frame`, `frame_2`). The same frame gets the same names again. No file that was
        read for it is overwritten, nor any of `keep`; other files of these names are replaced. Boxes below `score_thr`
        are in the JSON but not in the picture.
        """
        check_outputs(folders=[out])
        names = self._names.setdefault(os.path.realpath(out), OutputNames(out))
        visualizer = _visualizer(self._dataset(Path(path).resolve().parent).metainfo)
        written = []
        for number, sample in enumerate(self(path)):
            source = (os.path.realpath(path), number)
            read = [path, *keep, *_files_of(sample.metainfo)]
            token = sample.metainfo.get('token') or ''
            picture, boxes = names.paths(token, ('.png', '.json'), source, read, default='frame')
            visualizer.write(picture, None, sample, draw_gt=False, pred_score_thr=score_thr)
            write_json(boxes, describe(sample, visualizer.dataset_meta['classes']), indent=1)
            written += [picture, boxes]
        return written

    def _dataset(self, root: Path) -> Any:
        settings = {**self.config.test_dataloader['dataset'], 'data_root': str(root), 'lazy_init': True}
        trained = (self._meta.get('dataset_meta') or {}).get('classes')
        if trained and 'classes' not in (settings.get('metainfo') or {}):
            settings['metainfo'] = {**(settings.get('metainfo') or {}), 'classes': tuple(trained)}
        dataset = DATASETS.build(settings)
        check_model_and_data(self.model, dataset, 'test_dataloader')
        check_trained_classes(self._meta, dataset.metainfo, self._checkpoint)
        if not hasattr(dataset, 'num_frames') and not isinstance(dataset, KittiFrameDataset | PointBoxDataset):
            raise InputError(f'{type(dataset).__name__} cannot be fed from raw files yet: use tools/test.py')
        return dataset

    def _cloud_sample(self, dataset: Any, path: str | Path) -> dict[str, Any]:
        steps = dataset.pipeline.transforms
        num_features = next((step.load_dim for step in steps if hasattr(step, 'load_dim')), None)
        if num_features is None:
            raise InputError(f'{self.config.filename}: no step of its test pipeline loads points')
        for step in steps:
            if hasattr(step, 'allow_empty'):
                step.allow_empty = True
        sample = read_cloud_frame(path, num_features, with_camera=isinstance(dataset, KittiFrameDataset))
        if 'lidar2img' not in sample:
            # Without a calibration, all points go to the network, which keeps those in its range.
            dataset.pipeline.transforms = [step for step in steps if not isinstance(step, CropToImage)]
        return sample

    @torch.inference_mode()
    def _predict(self, dataset: Any, sample: dict[str, Any]) -> Any:
        sample.update(box_type_3d=dataset.box_type_3d, box_mode_3d=dataset.box_mode_3d)
        sample.setdefault('lidar_axes', dataset.metainfo.get('lidar_axes'))
        with parallel_kernels():
            batch = pseudo_collate([dataset.pipeline(sample)])
            with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.amp):
                return self.model.test_step(batch)[0]


def read_cloud_frame(path: str | Path, num_features: int, with_camera: bool) -> dict[str, Any]:
    """Returns the sample of a cloud on disk, ready for a test pipeline: its file, and what lies next to it.

    Args:
        path: `.bin` (raw float32) or `.npy`, (N, num_features).
        num_features: floats a point.
        with_camera: looks for `../calib/ID.txt` and `../image_2/ID.png`, KITTI's layout, where ID is the name of the
            cloud. Both may be missing: without a calibration there is no camera, without an image the camera has
            KITTI's usual size.

    Raises:
        InputError: the cloud is missing or another kind of file; the calibration or the image cannot be read.
    """
    path = Path(path)
    if path.suffix not in ('.bin', '.npy'):
        raise InputError(f'{path}: expected a cloud (.bin or .npy), not {path.suffix or "a folder"}')
    path = require_file(path).resolve()
    sample: dict[str, Any] = {
        'sample_idx': 0,
        'frame_id': path.stem,
        'token': path.stem,
        'lidar_points': {'lidar_path': str(path), 'num_pts_feats': num_features},
        'lidar_path': str(path),
        'num_pts_feats': num_features,
    }
    calibration_path = path.parents[1] / 'calib' / f'{path.stem}.txt'
    if not with_camera or not calibration_path.is_file():
        return sample
    calibration = read_calibration(calibration_path)
    lidar2cam, cam2img = calibration.cam_from_lidar(), calibration.img_from_cam()
    sample.update(lidar2cam=lidar2cam, cam2img=cam2img, lidar2img=cam2img @ lidar2cam)
    image = path.parents[1] / 'image_2' / f'{path.stem}.png'
    if image.is_file():
        sample.update(img_path=str(image), image_hw=png_size(image))
    else:
        sample.update(image_hw=InfoSettings().image_hw)
    return sample


def describe(sample: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Returns the predictions of a data sample as plain numbers, in the LiDAR frame: metres, radians, m/s.

    Each structure that the sample carries has its entry: `boxes` is a list of objects, other structures are as their
    `to_json` gives them.
    """
    described = {
        'token': sample.metainfo.get('token', ''),
        'frame': f'lidar: {axes_of(sample.metainfo).text}, z up',
    }
    for structure in resolve(structures_of(sample).predictions, classes) or ():
        described.update(structure.describe())
    return described


def _files_of(metas: dict[str, Any]) -> list[str]:
    """Returns the images and the cloud that a sample was made from."""
    return [str(path) for path in (*metas.get('img_paths', ()), metas.get('img_path'), metas.get('lidar_path')) if path]


def _visualizer(metainfo: dict[str, Any]) -> Any:
    from perception3d.visualization.visualizer import MultiViewVisualizer

    visualizer = MultiViewVisualizer('inferencer')
    visualizer.dataset_meta = metainfo
    return visualizer
