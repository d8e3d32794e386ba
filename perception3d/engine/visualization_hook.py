"""Pictures of predictions while a model is tested or validated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from perception3d.checks import InputError
from perception3d.files import read_image
from perception3d.outputs import OutputNames, check_outputs, safe_name
from perception3d.registry import HOOKS
from perception3d.visualization.video import SUFFIXES, write_video
from perception3d.visualization.visualizer import MultiViewVisualizer


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Writes one picture a sample while the test loop runs, and a video of each scene when it ends.

    mmdet3d's own Det3DVisualizationHook needs a window for multi-view data and names its files by the first camera
    image; this one needs no display. The pictures come from the runner's visualizer where that draws data samples, as
    MultiViewVisualizer does, and from one of its own otherwise.

    Args:
        out_dir: folder of the pictures, `<index>_<token>.png` in the order of the data set. None sends them to the
            backends of the runner's visualizer (TensorBoard, for example) instead.
        interval: draws every so many samples.
        max_samples: draws no more than so many; None draws all.
        score_thr: predictions below it are left out.
        draw_gt: draws the annotations as well, where there are any.
        video: 'mp4' or 'gif' joins the pictures of each scene into `<scene>.<video>` in `out_dir`; scenes of equal
            names get numbers.
        fps: pictures a second of the video.
        in_validation: draws in the validations of a training as well.
    """

    priority = 'LOW'

    def __init__(
        self,
        out_dir: str | Path | None = None,
        interval: int = 1,
        max_samples: int | None = None,
        score_thr: float = 0.3,
        draw_gt: bool = True,
        video: str | None = None,
        fps: float = 4.0,
        in_validation: bool = False,
    ) -> None:
        if interval < 1:
            raise InputError(f'DrawPredictionsHook: interval {interval} is below 1')
        if video is not None and (f'.{video}' not in SUFFIXES or out_dir is None):
            raise InputError(f"DrawPredictionsHook: video {video!r} needs an out_dir and is one of 'mp4', 'gif'")
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.interval, self.max_samples, self.score_thr = interval, max_samples, score_thr
        self.draw_gt, self.video, self.fps, self.in_validation = draw_gt, video, fps, in_validation
        self._seen = 0
        self._written: list[tuple[int, tuple[str, str], str]] = []
        self._visualizer: MultiViewVisualizer | None = None

    def before_run(self, runner: Runner) -> None:
        """Makes sure that the pictures can be written."""
        check_outputs(folders=[self.out_dir])

    def before_test_epoch(self, runner: Runner) -> None:
        """Starts counting again."""
        self._start(runner, runner.test_dataloader)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Draws the samples of one batch."""
        self._draw_batch(runner, data_batch, outputs, len(runner.test_dataloader.dataset))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Logs where the pictures are, and writes the videos."""
        self._finish(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Starts counting again."""
        if self.in_validation:
            self._start(runner, runner.val_dataloader)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Draws the samples of one batch, where validation is to be drawn."""
        if self.in_validation:
            self._draw_batch(runner, data_batch, outputs, len(runner.val_dataloader.dataset))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Logs where the pictures are, and writes the videos, where validation is to be drawn."""
        if self.in_validation:
            self._finish(runner)

    def _start(self, runner: Runner, dataloader: Any) -> None:
        self._seen, self._written = 0, []
        visualizer = runner.visualizer
        if not getattr(visualizer, 'draws_data_samples', False):
            visualizer = MultiViewVisualizer('draw_predictions')
        if not visualizer.dataset_meta:
            visualizer.dataset_meta = dataloader.dataset.metainfo
        self._visualizer = visualizer

    def _draw_batch(self, runner: Runner, data_batch: dict | None, outputs: Sequence | None, num_samples: int) -> None:
        inputs = (data_batch or {}).get('inputs')
        # Test-time augmentation lists its views there; pictures then show the images and points on disk.
        views = inputs if isinstance(inputs, Mapping) else {}
        given = {key: views[key] for key in ('img', 'points') if views.get(key) is not None}
        for position, data_sample in enumerate(outputs or ()):
            # mmengine's sampler gives samples to the processes in turn and repeats some, so that all have equally many.
            index = self._seen * get_world_size() + get_rank()
            self._seen += 1
            number, off_beat = divmod(index, self.interval)
            if off_beat or index >= num_samples or (self.max_samples is not None and number >= self.max_samples):
                continue
            entered = {key: values[position] for key, values in given.items()}
            self._draw_one(runner, index, entered or None, data_sample)

    def _draw_one(self, runner: Runner, index: int, entered: dict[str, Any] | None, data_sample: Any) -> None:
        assert self._visualizer is not None, 'set at the start of an epoch'
        metas = data_sample.metainfo
        settings = dict(draw_gt=self.draw_gt, pred_score_thr=self.score_thr)
        if self.out_dir is None:
            name = f'sample_{index:06d}'
            self._visualizer.add_datasample(name, entered, data_sample, step=runner.iter, **settings)
            return
        token = metas.get('token') or metas.get('sample_idx') or ''
        path = self.out_dir / (f'{index:06d}_{safe_name(token)}.png' if token else f'{index:06d}.png')
        self._visualizer.write(path, entered, data_sample, **settings)
        scene = (str(metas.get('scene_name') or ''), str(metas.get('scene_token') or ''))
        self._written.append((index, scene, str(path)))

    def _finish(self, runner: Runner) -> None:
        if self.out_dir is None:
            return
        written = sorted(entry for part in all_gather_object(self._written) for entry in part)
        if not is_main_process():
            return
        runner.logger.info(f'{len(written)} pictures are in {self.out_dir}')
        if self.video is None:
            return
        scenes = defaultdict(list)
        for _, scene, path in written:
            scenes[scene].append(path)
        names = OutputNames(self.out_dir)
        for (name, token), paths in scenes.items():
            scene = name or token or 'scene'
            (video,) = names.paths(scene, [f'.{self.video}'])
            write_video(video, (read_image(path) for path in paths), self.fps)
            runner.logger.info(f'{len(paths)} pictures of {scene} are joined in {video}')
