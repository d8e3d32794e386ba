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
from tqdm import tqdm

from perception3d.apis.config import load_config
from perception3d.apis.option_texts import parse_options
from perception3d.checks import InputError, unknown_name
from perception3d.datasets.frame_dataset import require_members
from perception3d.files import write_image
from perception3d.outputs import check_outputs, safe_name
from perception3d.registry import DATASETS
from perception3d.structures.frame import SensorFrame
from perception3d.structures.sample import SampleStructures, structures_of
from perception3d.visualization import view3d
from perception3d.visualization.draw import PictureStyle, draw_sample
from perception3d.visualization.sample import read_frame, title_of
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
        view: 'all' draws cameras and BEV views, '3d' the scene in space.
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
    view: str = 'all'


@dataclass(frozen=True)
class BrowsedSample:
    """One sample, ready to be drawn: sensor frame, class names, structures, title and notes."""

    frame: SensorFrame
    class_names: tuple[str, ...]
    structures: SampleStructures
    title: str
    notes: tuple[str, ...] = ()

    def picture(self, width_px: int = 1920, view: str = 'all') -> np.ndarray:
        """Returns its picture (H, W, 3) BGR; `view` as of BrowseOptions."""
        draw = view3d.draw_scene if view == '3d' else draw_sample
        style = PictureStyle(width_px=width_px)
        return draw(self.frame, self.class_names, self.structures, self.title, self.notes, style)

    def show(self) -> None:
        """Shows it in a 3D window, until that is closed."""
        view3d.show_scene(self.frame, self.class_names, self.structures, self.title)


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
    dataset, indices = _open(config, options, overrides)
    out_dir = Path(out_dir)
    if options.video:
        name = options.scene or options.split
        path = out_dir / f'{safe_name(name)}.{options.video}'
        pictures = (
            sample.picture(options.width_px, options.view) for _, _, sample in _samples(dataset, indices, options)
        )
        write_video(path, pictures, options.fps)
        return [path]
    written = []
    for index, token, sample in _samples(dataset, indices, options):
        written.append(out_dir / f'{index:06d}_{safe_name(token, "sample")}.png')
        write_image(written[-1], sample.picture(options.width_px, options.view))
    return written


def show(config: str | Path | Config, options: BrowseOptions | None = None, overrides: Sequence[str] = ()) -> int:
    """Shows samples in a 3D window, one after the other, each until it is closed; returns how many there were.

    Raises:
        InputError: as of `browse`; Open3D or a display is missing.
    """
    view3d.require_display()
    view3d.open3d_module()
    options = options or BrowseOptions()
    dataset, indices = _open(config, options, overrides)
    for _, _, sample in _samples(dataset, indices, options):
        sample.show()
    return len(indices)


def _open(config: str | Path | Config, options: BrowseOptions, overrides: Sequence[str]) -> tuple[Any, list[int]]:
    """Returns the data set, and the numbers of the samples to draw."""
    config = config if isinstance(config, Config) else load_config(config, parse_options(overrides))
    dataset = build_dataset(config, options.split)
    return dataset, choose_samples(dataset, options)


def build_dataset(config: Config, split: str) -> Any:
    """Builds the data set behind a data loader of the config; wrappers that repeat samples are left out.

    Raises:
        InputError: the config has no such data loader, or the data set cannot be built or lacks a method.
    """
    loaders = [name for name in ('train', 'val', 'test') if config.get(f'{name}_dataloader')]
    if split not in loaders:
        raise unknown_name('split', split, loaders)
    settings = config[f'{split}_dataloader']['dataset']
    while isinstance(settings.get('dataset'), Mapping):
        settings = settings['dataset']
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    try:
        dataset = DATASETS.build(settings)
    except (ImportError, KeyError, TypeError) as error:
        raise InputError(f'{config.filename}: its {split} data set cannot be built: {error}') from error
    require_members(dataset, ('get_data_info', 'prepare_data', 'metainfo'), f'{config.filename}: its {split} data set')
    return dataset


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


def training_sample(dataset: Any, index: int, history: int = 0, seed: int = 0) -> BrowsedSample:
    """Runs the pipeline on one sample and returns what comes out of it.

    The images are those that enter the network and the matrices those that it gets: where a box misses its object, the
    pipeline is wrong. Points and boxes are augmented as well.
    """
    for module_seed in (random.seed, np.random.seed, torch.manual_seed):
        module_seed(seed + index)
    packed = dataset.prepare_data(index)
    if packed is None:
        raise InputError(f'the pipeline leaves sample {index} out, for example since it has no boxes')
    inputs, data_sample = packed['inputs'], packed['data_samples']
    metas = _with_axes(dataset, data_sample.metainfo)
    title = f'as it enters the network{f", history frame {history}" if history else ""}'
    images = inputs.get('img')
    # No pipeline of a LiDAR detector reads the image next to a cloud; the images of camera data are left out there.
    with_cameras = images is not None or bool(metas.get('only_ahead')) or 'img_paths' not in metas
    frame, notes = read_frame(metas, images, history, with_cameras, points=inputs.get('points'))
    if images is None and frame.images:
        title += _about_the_image(dataset)
    return _browsed(dataset, frame, data_sample, title_of(metas, title), notes)


def stored_sample(dataset: Any, index: int) -> BrowsedSample:
    """Returns one sample as it is on disk, without the pipeline."""
    info = _with_axes(dataset, dataset.get_data_info(index))
    # A format whose clouds are neither .bin nor .npy reads them itself.
    read_points = getattr(dataset, 'read_points', None)
    frame, notes = read_frame(info, points=None if read_points is None else read_points(info))
    # And one whose annotations are in files of their own.
    info |= getattr(dataset, 'read_annotations', lambda _: {})(info)
    return _browsed(dataset, frame, info, title_of(info, 'as stored'), notes)


def _browsed(dataset: Any, frame: SensorFrame, sample: Any, title: str, notes: Sequence[str]) -> BrowsedSample:
    truth = SampleStructures(structures_of(sample).ground_truth)
    return BrowsedSample(frame, tuple(dataset.metainfo['classes']), truth, title, tuple(notes))


def _with_axes(dataset: Any, metas: Mapping[str, Any]) -> dict[str, Any]:
    """The metas of a sample, with the axes that its data set states where the sample carries none."""
    return {'lidar_axes': dataset.metainfo.get('lidar_axes'), **metas}


def _about_the_image(dataset: Any) -> str:
    """The words of a title where boxes do not fit the image."""
    mismatches = [getattr(step, 'image_mismatch', None) for step in dataset.pipeline.transforms]
    changed = list(dict.fromkeys(word for word in mismatches if word))
    return f', but the image is as stored: {" and ".join(changed)} boxes do not fit it' if changed else ''


def _samples(dataset: Any, indices: list[int], options: BrowseOptions) -> Iterator[tuple[int, str, BrowsedSample]]:
    """Yields index, token and content of each sample, with a progress bar."""
    for index in tqdm(indices, desc='samples', unit='sample'):
        info = dataset.get_data_info(index)
        token = str(info.get('token') or info.get('sample_idx') or '')
        if options.augmented:
            sample = training_sample(dataset, index, options.frame, options.seed)
        else:
            sample = stored_sample(dataset, index)
        yield index, token, sample


def _samples_of_scene(dataset: Any, scene: str) -> list[int]:
    names, chosen = set(), []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        here = {str(info[key]) for key in ('scene_name', 'scene_token') if info.get(key)}
        names.add(str(info.get('scene_name') or info.get('scene_token')))
        if scene in here:
            chosen.append((info.get('timestamp', index), index))
    if not chosen:
        raise unknown_name('scene', scene, names)
    return [index for _, index in sorted(chosen)]
