"""What tools/browse_dataset.py does: pictures of what a config feeds its network, with the boxes it learns from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar

from perception3d.apis.config import load_config, parse_options
from perception3d.checks import InputError, unknown_name
from perception3d.datasets.transforms.lidar_augment import MoveObjects, PasteObjects
from perception3d.files import write_image
from perception3d.outputs import check_outputs, safe_name
from perception3d.registry import DATASETS
from perception3d.visualization.draw import BoxSet, Style, draw_sample
from perception3d.visualization.sample import (
    CameraViews,
    box_set,
    ground_of,
    ground_truth_of,
    info_views,
    network_views,
    points_of,
    stored_views,
    title_of,
)
from perception3d.visualization.video import write_video


@dataclass(frozen=True)
class BrowseOptions:
    """What to draw.

    Attributes:
        split: 'train', 'val' or 'test': which data loader of the config.
        augmented: True draws the images as the pipeline hands them to the network, False those on disk.
        indices: samples by their number in the data set; None takes the first `count`.
        count: how many samples; None with a scene takes all of it, and 10 otherwise.
        scene: name or token of a scene whose samples are drawn in order of time.
        video: 'mp4' or 'gif' joins the pictures in one file.
        fps: pictures a second of the video.
        frame: 0 the current frame, 1 the one before, and so on; only of augmented samples.
        seed: of the augmentation; a sample looks the same in every run.
        width_px: width of a picture.
    """

    split: str = 'train'
    augmented: bool = True
    indices: Sequence[int] | None = None
    count: int | None = None
    scene: str | None = None
    video: str | None = None
    fps: float = 4.0
    frame: int = 0
    seed: int = 0
    width_px: int = 1920


def browse(
    config: str | Path | Config,
    out_dir: str | Path,
    options: BrowseOptions | None = None,
    overrides: Sequence[str] = (),
) -> list[Path]:
    """Draws samples of the data set of a config and returns the files written.

    Args:
        config: path of a config, or a loaded one.
        out_dir: folder of the pictures `<index>_<token>.png`, or of the video.
        options: what to draw.
        overrides: key=value strings that change the config.

    Raises:
        InputError: an unknown split or scene, an index outside the data set, or data that cannot be read.
    """
    check_outputs(folders=[out_dir])
    options = options or BrowseOptions()
    config = config if isinstance(config, Config) else load_config(config, parse_options(overrides))
    dataset = build_dataset(config, options.split)
    indices = choose_samples(dataset, options)
    out_dir = Path(out_dir)
    if options.video:
        name = options.scene or options.split
        path = out_dir / f'{safe_name(name)}.{options.video}'
        write_video(path, (picture for _, _, picture in _pictures(dataset, indices, options)), options.fps)
        return [path]
    written = []
    for index, token, picture in _pictures(dataset, indices, options):
        written.append(out_dir / f'{index:06d}_{safe_name(token, "sample")}.png')
        write_image(written[-1], picture)
    return written


def build_dataset(config: Config, split: str) -> Any:
    """Builds the data set behind a data loader of the config; wrappers that repeat samples are left out.

    Raises:
        InputError: the config has no such data loader, or the data set cannot be built.
    """
    loaders = [name for name in ('train', 'val', 'test') if config.get(f'{name}_dataloader')]
    if split not in loaders:
        raise unknown_name('split', split, loaders)
    settings = config[f'{split}_dataloader']['dataset']
    while isinstance(settings.get('dataset'), Mapping):
        settings = settings['dataset']
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    try:
        return DATASETS.build(settings)
    except (ImportError, KeyError, TypeError) as error:
        raise InputError(f'{config.filename}: its {split} data set cannot be built: {error}') from error


def choose_samples(dataset: Any, options: BrowseOptions) -> list[int]:
    """Returns the numbers of the samples to draw, in the order in which they are drawn."""
    if options.scene is not None:
        chosen = _samples_of_scene(dataset, options.scene)
    elif options.indices is not None:
        chosen = list(options.indices)
        outside = [index for index in chosen if not 0 <= index < len(dataset)]
        if outside:
            raise InputError(f'there is no sample {outside[0]}: the data set has 0 to {len(dataset) - 1}')
    else:
        chosen = list(range(min(len(dataset), 10 if options.count is None else options.count)))
    return chosen if options.count is None else chosen[: options.count]


def draw_training_sample(dataset: Any, index: int, frame: int = 0, seed: int = 0, width_px: int = 1920) -> np.ndarray:
    """Runs the pipeline on one sample and returns a picture (H, W, 3) BGR of what comes out of it.

    The images are those that enter the network and the matrices those that it gets: where a box misses its object, the
    pipeline is wrong. Points and boxes are augmented as well.
    """
    for module_seed in (random.seed, np.random.seed, torch.manual_seed):
        module_seed(seed + index)
    packed = dataset.prepare_data(index)
    if packed is None:
        raise InputError(f'the pipeline leaves sample {index} out, for example since it has no boxes')
    inputs, data_sample = packed['inputs'], packed['data_samples']
    metas = data_sample.metainfo
    extra = f'as it enters the network{f", history frame {frame}" if frame else ""}'
    if 'img' in inputs:
        views, view_notes = network_views(inputs['img'], metas, frame), []
    else:
        views, view_notes = _lidar_views(metas)
        extra += _about_the_image(dataset) if views.images else ''
    points, notes = (inputs['points'].numpy(), []) if 'points' in inputs else points_of(metas)
    notes = [*notes, *view_notes]
    return _draw(dataset, views, ground_truth_of(data_sample), points, notes, metas, extra, width_px)


def draw_stored_sample(dataset: Any, index: int, width_px: int = 1920) -> np.ndarray:
    """Returns a picture (H, W, 3) BGR of one sample as it is on disk, without the pipeline."""
    info = dataset.get_data_info(index)
    annotations = info.get('ann_info') or info.get('eval_ann_info')
    ground_truth: BoxSet | None = None
    if annotations:
        ground_truth = box_set(annotations['gt_bboxes_3d'], annotations['gt_labels_3d'])
    points, notes = points_of(info)
    views, view_notes = stored_views(info)
    if not views.images and not view_notes:
        views = info_views(info)
    return _draw(dataset, views, ground_truth, points, [*notes, *view_notes], info, 'as stored', width_px)


def _draw(
    dataset: Any,
    views: CameraViews,
    ground_truth: BoxSet | None,
    points: np.ndarray | None,
    notes: Sequence[str],
    metas: Mapping[str, Any],
    extra: str,
    width_px: int,
) -> np.ndarray:
    return draw_sample(
        views.images,
        views.img_from_lidar,
        list(dataset.metainfo['classes']),
        ground_truth=ground_truth,
        points=points,
        title=title_of(metas, extra),
        notes=notes,
        style=Style(width_px=width_px),
        ground=ground_of(metas),
    )


def _lidar_views(metas: Mapping[str, Any]) -> tuple[CameraViews, list[str]]:
    """The image beside a cloud, which no pipeline of a LiDAR detector reads; those of camera data are left out."""
    return (CameraViews(), []) if 'img_paths' in metas else stored_views(metas)


def _about_the_image(dataset: Any) -> str:
    """What a picture should say where boxes are not what the image shows."""
    changed = [
        word
        for kind, word in ((PasteObjects, 'pasted'), (MoveObjects, 'moved'))
        if any(isinstance(step, kind) for step in dataset.pipeline.transforms)
    ]
    return f', but the image is as stored: {" and ".join(changed)} boxes do not fit it' if changed else ''


def _pictures(dataset: Any, indices: list[int], options: BrowseOptions) -> Iterator[tuple[int, str, np.ndarray]]:
    """Gives index, token and picture of each sample, with a progress bar."""
    progress = ProgressBar(len(indices))
    for index in indices:
        info = dataset.get_data_info(index)
        token = str(info.get('token') or info.get('sample_idx') or '')
        if options.augmented:
            picture = draw_training_sample(dataset, index, options.frame, options.seed, options.width_px)
        else:
            picture = draw_stored_sample(dataset, index, options.width_px)
        yield index, token, picture
        progress.update()
    print()


def _samples_of_scene(dataset: Any, scene: str) -> list[int]:
    names, found = set(), []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        here = {str(info[key]) for key in ('scene_name', 'scene_token') if info.get(key)}
        names.add(str(info.get('scene_name') or info.get('scene_token')))
        if scene in here:
            found.append((info.get('timestamp', index), index))
    if not found:
        raise unknown_name('scene', scene, names)
    return [index for _, index in sorted(found)]
