"""A report of a test in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.runner import Runner

from perception3d.engine.visualization_hook import DrawPredictionsHook
from perception3d.outputs import check_outputs
from perception3d.registry import HOOKS
from perception3d.structures.sample import structures_of
from perception3d.visualization.html_report import ReportFrame, encode_picture, require_html_name, write_report


@HOOKS.register_module()
class HtmlReportHook(DrawPredictionsHook):
    """Draws samples while the test loop runs and writes them, with the metrics, into one HTML file.

    All pictures are kept in memory until then, about 100 kB each without camera images.

    Args:
        path: the file; ends in .html.
        title: on top of the page.
        interval: draws every so many samples.
        score_thr: predictions below it are left out.
        draw_gt: draws the annotations as well, where there are any.

    Raises:
        InputError: the file has another suffix.
    """

    def __init__(
        self, path: str | Path, title: str = '', interval: int = 1, score_thr: float = 0.3, draw_gt: bool = True
    ) -> None:
        super().__init__(None, interval, None, score_thr, draw_gt)
        self.path, self.title = require_html_name(path), title
        self._frames: list[tuple[int, ReportFrame]] = []

    def before_run(self, runner: Runner) -> None:
        """Makes sure that the file can be written."""
        check_outputs(files=[self.path])

    def before_test_epoch(self, runner: Runner) -> None:
        """Starts again."""
        self._frames = []
        super().before_test_epoch(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the report."""
        parts = all_gather_object(self._frames)
        if not is_main_process():
            return
        frames = [frame for _, frame in sorted((entry for part in parts for entry in part), key=lambda entry: entry[0])]
        numbers = {key: float(value) for key, value in (metrics or {}).items() if isinstance(value, (int, float))}
        write_report(self.path, self.title or 'perception3d', frames, numbers)
        runner.logger.info(f'report of {len(frames)} frames written to {self.path}')

    def _draw_one(self, runner: Runner, index: int, entered: dict[str, Any] | None, data_sample: Any) -> None:
        assert self._visualizer is not None, 'set at the start of an epoch'
        metas, time_s = data_sample.metainfo, data_sample.metainfo.get('timestamp')
        picture = self._visualizer.draw(entered, data_sample, self.draw_gt, pred_score_thr=self.score_thr)
        token = str(metas.get('token') or metas.get('sample_idx') or index)
        scene = str(metas.get('scene_name') or metas.get('scene_token') or '')
        shown = None if time_s is None else float(time_s)
        frame = ReportFrame(token, scene, encode_picture(picture), shown, self._counts(data_sample))
        self._frames.append((index, frame))

    def _counts(self, data_sample: Any) -> dict[str, int]:
        """How many objects the sample has, by words for the report."""
        carried = structures_of(data_sample)
        counts: dict[str, int] = {}
        for word, structures in (('ground truth', carried.ground_truth), ('predicted', carried.predictions)):
            for structure in structures or ():
                name = f'{word} {structure.name}'
                counts[name] = counts.get(name, 0) + int(structure.above(self.score_thr).counts().sum())
        return counts
