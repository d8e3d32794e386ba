"""Running a trained model on raw files."""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from perception3d.apis.config import load_config, use_tta
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.datasets.frame_dataset import require_members
from perception3d.engine.agreement import check_model_and_data, check_trained_classes
from perception3d.engine.amp import warn_of_slow_bfloat16
from perception3d.engine.cpu import prepare_cpu
from perception3d.engine.tracking_step import SequenceTracking
from perception3d.engine.wrappers import unwrapped
from perception3d.evaluation.track_files import write_tracks
from perception3d.files import read_image, write_json
from perception3d.geometry.threads import parallel_kernels
from perception3d.models.inference.acceleration import accelerate
from perception3d.outputs import OutputNames, check_outputs, safe_name
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.sample import resolve, structures_of
from perception3d.structures.sample_schema import has_images_alone
from perception3d.structures.tracks import FrameTracks
from perception3d.visualization.sample import axes_of, frame_of_image
from perception3d.visualization.video import write_video

PIXELS = 'image: pixels of the image on disk, x right, y down'
"""The frame of predictions on images without a LiDAR, in the words of a JSON file."""

_VIDEO_FPS = 25.0
"""Of a video of one frame, and of one whose file does not say."""

_PICTURES_FPS = 4.0
"""Of joined pictures whose times are not known."""


@dataclass(frozen=True)
class _Predicted:
    """A sample with its predictions, what entered the network, of a video its frame (H, W, 3) BGR, and its tracks."""

    sample: Any
    inputs: dict[str, Any]
    image: Any
    tracks: FrameTracks | None = None

    @property
    def token(self) -> str:
        return str(self.sample.metainfo.get('token') or '')

    @property
    def points(self) -> dict[str, Any]:
        # The points alone: a picture shows the images as they are on disk.
        return {key: values[0] for key, values in self.inputs.items() if key == 'points'}


# What a checkpoint keeps of its data set that results need: the names of the labels, and their ids in result files.
_OF_TRAINING = ('classes', 'label_ids')


class Inferencer:
    """A model of a config with the weights of a checkpoint, ready for files.

    >>> inferencer = Inferencer('fast_bev_tiny_96x352_9e_sim', 'demo')

    `for sample in inferencer('frame.json')` then gives samples with `sample.pred_instances_3d.bboxes_3d`. A LiDAR
    detector takes clouds instead: `inferencer('velodyne/000042.bin')`; a lane detector images, folders of images, and
    videos.
    Several threads may call one inferencer at the same time: each gets the results of a single call. What models keep
    from frame to frame, they keep for each thread (`perception3d.geometry.threads.PerThread`).

    Args:
        config: a path or a loaded config; its test data set says how a sample is prepared.
        checkpoint: weights of that config, loaded strictly.
        device: 'cuda', 'cpu', ...; by default a GPU if there is one.
        amp: run the network in bf16.
        fast: fold batch norms and use the fastest convolutions, as `tools/test.py --fast`; results change by rounding.
        tta: use the test-time augmentation that the config defines.

    Attributes:
        model_s: seconds that the model took for each frame so far, with its preprocessing and decoding.

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
        tta: bool = False,
    ) -> None:
        self.config = config if isinstance(config, Config) else load_config(config)
        if tta:
            self.config = copy.deepcopy(self.config)
            use_tta(self.config)
        self.device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.amp = amp
        self._names: dict[str, OutputNames] = {}
        self.model_s: list[float] = []
        if amp:
            warn_of_slow_bfloat16(torch.device(self.device))
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import init_default_scope

        prepare_cpu()
        init_default_scope(self.config.default_scope)
        self.model = revert_sync_batchnorm(MODELS.build(self.config.model))
        self._meta, self._checkpoint = load_weights(unwrapped(self.model), checkpoint), checkpoint
        self.model.to(self.device).eval()
        if fast:
            accelerate(unwrapped(self.model))

    def __call__(self, path: str | Path) -> Iterator[Any]:
        """Yields the data sample of each frame in `path`, with its predictions.

        What a path may be is what the test data set takes (`sample_from_file`): a camera detector of nuScenes a frame
        (.json), with paths relative to its folder, or infos (.pkl); a LiDAR detector a cloud (.bin or .npy), of KITTI
        with the calibration and the image next to it, or a folder of clouds; a lane detector an image, a folder of
        images, or a video. With `tracker` in the config, `path` is one sequence, whose samples have `pred_tracks`.
        """
        yield from (found.sample for found in self._samples(self._dataset(path), path))

    def write(
        self,
        path: str | Path,
        out: str | Path,
        score_thr: float = 0.25,
        keep: Iterable[str | Path] = (),
        video: str | None = None,
    ) -> list[Path]:
        """Writes a PNG and a JSON for each frame of `path` into the folder `out`; returns their paths.

        A data set whose format has result files of single frames gives one more, as KITTI's `.txt`. Files are named by
        the frame's token, made safe: each frame that this object writes into `out` gets names of its own, equal tokens
        with numbers (`frame`, `frame_2`). The same frame gets the same names again. No file that was read for it is
        overwritten, nor any of `keep`; other files of these names are replaced, but for a `.txt` that is not a result
        file, such as a label. Boxes below `score_thr` are in the JSON and the result file but not in the picture.

        Of a video become one MP4 and one JSON, a list of its frames; the result files of its frames are in a folder of
        its name. With `tracker` in the config, an input of several frames gives files of its tracks as well
        (`evaluation.track_files`); with `video`, 'mp4' or 'gif', the pictures of one are joined as well.

        Raises:
            InputError: an input cannot be used, a file that is not a result file would be overwritten, or `out` is the
                folder that is read.
        """
        check_outputs(folders=[out])
        if Path(path).is_dir() and os.path.realpath(path) == os.path.realpath(out):
            raise InputError(f'{out} is the folder of the inputs, and pictures could overwrite images: give another')
        names = self._names.setdefault(os.path.realpath(out), OutputNames(out))
        dataset = self._dataset(path)
        visualizer = _visualizer(dataset.metainfo)
        frames = self._samples(dataset, path)
        begin = list(itertools.islice(frames, 2))
        if begin and begin[0].image is not None:
            paths = names.paths(Path(path).stem, ['.mp4', '.json'], os.path.realpath(path), [path, *keep], 'video')

            def drawn(found: _Predicted) -> np.ndarray:
                return visualizer.draw_frame(frame_of_image(found.image), found.sample, **_shown(score_thr))

            return _write_video(paths, dataset, itertools.chain(begin, frames), drawn, _rate_of(begin))
        suffixes = ['.png', '.json', *filter(None, [dataset.result_suffix])]
        written, pictures, tracked = [], [], []
        for number, found in enumerate(itertools.chain(begin, frames)):
            source = (os.path.realpath(path), number)
            read = [path, *keep, *_files_of(found.sample.metainfo)]
            picture, boxes, *result = names.paths(found.token, suffixes, source, read, default='frame')
            # First, since it refuses to replace what is not a result file.
            result = [file for file in result if dataset.write_result(found.sample, file)]
            visualizer.write(picture, found.points, found.sample, **_shown(score_thr))
            write_json(boxes, describe(found.sample, dataset.metainfo['classes']), indent=1)
            written += [picture, boxes, *result]
            pictures.append(picture)
            tracked += [found.tracks.without_history()] if found.tracks else []
        if len(tracked) > 1:
            written += write_tracks(tracked, names, f'tracks_{Path(path).stem}_nusc', [path, *keep])
        if video and len(pictures) > 1:
            (joined,) = names.paths(Path(path).stem, [f'.{video}'], (os.path.realpath(path), video), [path, *keep])
            written.append(_join(pictures, joined, _rate_of(begin, _PICTURES_FPS)))
        return written

    def _dataset(self, path: str | Path) -> Any:
        """Returns the test data set, not loaded, for files next to `path`."""
        root = Path(path).resolve().parent
        settings = {**self.config.test_dataloader['dataset'], 'data_root': str(root), 'lazy_init': True}
        trained = self._meta.get('dataset_meta') or {}
        stated = {key: tuple(trained[key]) for key in _OF_TRAINING if trained.get(key)}
        if stated:
            settings['metainfo'] = {**stated, **(settings.get('metainfo') or {})}
        dataset = DATASETS.build(settings)
        check_model_and_data(self.model, dataset, 'test_dataloader')
        check_trained_classes(self._meta, dataset.metainfo, self._checkpoint)
        members = ('sample_from_file', 'write_result', 'result_suffix')
        require_members(dataset, members, f'{self.config.filename}: its test data set')
        return dataset

    def _samples(self, dataset: Any, path: str | Path) -> Iterator[_Predicted]:
        """Yields each frame, predicted; with the tracks of `path` as one sequence where the config has a tracker."""
        settings = self.config.get('tracker')
        # One for each call: a tracker keeps what it saw.
        tracking = SequenceTracking(settings, dataset.metainfo['classes'], str(path)) if settings else None
        for sample in dataset.sample_from_file(path):
            found = self._predict(dataset, sample)
            yield found if tracking is None else replace(found, tracks=tracking.add_tracks(found.sample))

    @torch.inference_mode()
    def _predict(self, dataset: Any, sample: dict[str, Any]) -> _Predicted:
        sample.update(box_type_3d=dataset.box_type_3d, box_mode_3d=dataset.box_mode_3d)
        sample.setdefault('lidar_axes', dataset.metainfo.get('lidar_axes'))
        # A step takes it out of the sample.
        image = sample.get('stored_image')
        with parallel_kernels():
            batch = pseudo_collate([dataset.pipeline(sample)])
            start = time.perf_counter()
            with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.amp):
                predicted = self.model.test_step(batch)[0]
            if torch.device(self.device).type == 'cuda':
                torch.cuda.synchronize(self.device)
            self.model_s.append(time.perf_counter() - start)
        # Test-time augmentation lists its views instead.
        return _Predicted(predicted, batch['inputs'] if isinstance(batch['inputs'], dict) else {}, image)


def _shown(score_thr: float) -> dict[str, Any]:
    return dict(draw_gt=False, pred_score_thr=score_thr)


def _rate_of(frames: Sequence[_Predicted], default: float = _VIDEO_FPS) -> float:
    """The frames a second of a video, by the times of its first two frames."""
    times_s = [float(found.sample.metainfo.get('timestamp') or 0.0) for found in frames]
    step_s = times_s[1] - times_s[0] if len(times_s) > 1 else 0.0
    return 1 / step_s if step_s > 0 else default


def _join(pictures: Sequence[Path], path: Path, rate: float) -> Path:
    write_video(path, map(read_image, pictures), rate)
    return path


def _write_video(
    paths: Sequence[Path],
    dataset: Any,
    frames: Iterable[_Predicted],
    drawn: Callable[[_Predicted], np.ndarray],
    rate: float,
) -> list[Path]:
    """Writes the MP4 and the JSON `paths` and the result files of the frames; returns all."""
    (video, listing), described, results = paths, [], []

    def pictures() -> Iterator[np.ndarray]:
        for found in frames:
            if dataset.result_suffix:
                file = video.with_suffix('') / f'{safe_name(found.token)}{dataset.result_suffix}'
                results.extend([file] if dataset.write_result(found.sample, file) else [])
            described.append(describe(found.sample, dataset.metainfo['classes']))
            yield drawn(found)

    write_video(video, pictures(), rate)
    write_json(listing, described, indent=1)
    return [video, listing, *results]


def describe(sample: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Returns the predictions of a data sample as plain numbers, in the LiDAR frame: metres, radians, m/s.

    Those of images without a LiDAR are in pixels of the image on disk.
    Each structure that the sample carries has its entry: `boxes` is a list of objects, other structures are as their
    `to_json` gives them.
    """
    in_pixels = has_images_alone(sample.metainfo)
    described = {
        'token': sample.metainfo.get('token', ''),
        'frame': PIXELS if in_pixels else f'lidar: {axes_of(sample.metainfo).text}, z up',
    }
    for structure in resolve(structures_of(sample).predictions, classes) or ():
        # Of several scans as one sample, the points of the current one, as in result files.
        described.update(structure.of_points(sample.metainfo.get('num_scored_points')).describe())
    return described


def _files_of(metas: dict[str, Any]) -> list[str]:
    """Returns the images and the cloud that a sample was made from."""
    return [str(path) for path in (*metas.get('img_paths', ()), metas.get('lidar_path')) if path]


def _visualizer(metainfo: dict[str, Any]) -> Any:
    from perception3d.visualization.visualizer import MultiViewVisualizer

    visualizer = MultiViewVisualizer('inferencer')
    visualizer.dataset_meta = metainfo
    return visualizer
