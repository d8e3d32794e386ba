"""What tools/test.py does: evaluate a checkpoint, draw its predictions, write submission files."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from perception3d.apis.config import load_config, use_tta
from perception3d.apis.option_texts import parse_options
from perception3d.apis.runner import build_runner
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.engine.agreement import check_trained_classes
from perception3d.engine.amp import warn_of_slow_bfloat16
from perception3d.engine.data_kept import check_data_is_kept
from perception3d.engine.stream_step import StreamStep
from perception3d.engine.tracking_step import SequenceTracking, TrackingStep
from perception3d.engine.wrappers import base_datasets, unwrapped
from perception3d.evaluation.track_files import write_tracks
from perception3d.files import write_json
from perception3d.models.inference.acceleration import accelerate
from perception3d.outputs import OutputNames, check_outputs
from perception3d.registry import METRICS


@dataclass(frozen=True)
class EvaluationOptions:
    """How a checkpoint is evaluated, and what is written.

    Attributes:
        work_dir: where the log goes.
        out: a JSON file for the metrics.
        show_dir: a folder for one picture per sample, of every `show_interval`-th sample.
        score_thr: the lowest score that is drawn.
        video: 'mp4' or 'gif': join the pictures of each scene into a video in `show_dir`.
        html: an HTML file for a report: the pictures of every `show_interval`-th sample, and the metrics.
        format_only: a folder for submission files, and for files of tracks where the config has a tracker; no metrics
            then.
        launcher: 'none', 'pytorch' or 'slurm'.
        amp: run the network in bf16.
        tta: use the test-time augmentation that the config defines.
        fast: fold batch norms and use the fastest convolutions for inference; results change by rounding.
        stream: run a model with a method `stream` as in a vehicle, frame by frame with the history that it keeps, in
            bf16 with `amp`.
    """

    work_dir: str | None = None
    out: str | Path | None = None
    show_dir: str | None = None
    show_interval: int = 1
    score_thr: float = 0.25
    video: str | None = None
    html: str | None = None
    format_only: str | None = None
    launcher: str = 'none'
    amp: bool = False
    tta: bool = False
    fast: bool = False
    stream: bool = False


def test(
    config: str | Config, checkpoint: str | Path, options: Sequence[str] = (), **settings: Any
) -> dict[str, float]:
    """Evaluates `checkpoint` on the test data of `config` and returns its metrics.

    Args:
        config: a path, or a loaded config.
        checkpoint: weights of that config, loaded strictly.
        options: key=value strings that change the config.
        settings: those of `EvaluationOptions`.

    Raises:
        InputError: a part of the config or the checkpoint cannot be used, or an output cannot be written.
    """
    # A config is written as text, in which a Path is no value.
    texts: dict[str, Any] = {key: str(value) for key, value in settings.items() if isinstance(value, Path)}
    wanted = EvaluationOptions(**{**settings, **texts})
    from_file = not isinstance(config, Config)
    folders = [wanted.work_dir, wanted.show_dir, wanted.format_only]
    check_outputs([wanted.out, wanted.html], folders, [checkpoint, config if from_file else None])
    if from_file:
        config = load_config(config, parse_options(options))
    if wanted.tta:
        use_tta(config)
    if wanted.format_only:
        _only_format(config, wanted.format_only)
    if wanted.video and not wanted.show_dir:
        raise InputError('--video joins pictures: name a folder for them with --show-dir')
    if wanted.show_dir or wanted.html:
        _draw_into(config, wanted)
    runner = build_runner(config, wanted.work_dir, launcher=wanted.launcher, for_test=True)
    _load(runner, checkpoint, wanted.out)
    if wanted.stream:
        _test_as_stream(runner, torch.bfloat16 if wanted.amp else torch.float32, wanted.tta)
    else:
        _prepare_model(runner.model, wanted.fast, wanted.amp)
    tracked = _track(runner, runner.cfg.tracker, bool(wanted.format_only)) if runner.cfg.get('tracker') else None
    metrics = runner.test()
    if tracked is not None and wanted.format_only:
        for path in write_tracks(tracked.frames, OutputNames(wanted.format_only), 'tracks_nusc'):
            print(f'tracks written to {path}')
    metrics = {key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))}
    if wanted.out and runner.rank == 0:
        _write_metrics(wanted.out, metrics)
    return metrics


def _load(runner: Any, checkpoint: str | Path, out: str | Path | None) -> None:
    """Loads the weights of `checkpoint`, trained for the classes of the test data, which `out` may not overwrite."""
    # The weights come first: a wrong file is reported before the data set is read, which may take minutes.
    meta = load_weights(unwrapped(runner.model), checkpoint)
    dataset = runner.test_loop.dataloader.dataset
    check_data_is_kept([out], base_datasets(dataset))
    check_trained_classes(meta, getattr(dataset, 'metainfo', {}), checkpoint)


def _write_metrics(path: str | Path, metrics: dict[str, float]) -> None:
    write_json(path, {key: None if math.isnan(value) else value for key, value in metrics.items()}, indent=2)
    print(f'metrics written to {path}')


def _prepare_model(model: Any, fast: bool, amp: bool) -> None:
    if fast:
        accelerate(unwrapped(model))
    if amp:
        _test_in_bfloat16(model)


def _test_in_bfloat16(model: Any) -> None:
    """Puts autocast around the model's step; the loop of mmengine switches off one that is around itself."""
    step, device = model.test_step, next(model.parameters()).device
    warn_of_slow_bfloat16(device)

    def test_step(data: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return step(data)

    model.test_step = test_step


def _test_as_stream(runner: Any, dtype: torch.dtype, tta: bool) -> None:
    """Replaces the test step of the model by a stream of it."""
    if tta:
        raise InputError('--stream runs a model without test-time augmentation: leave --tta out')
    if runner.distributed:
        raise InputError('--stream needs one process: scenes must not be divided')
    model = unwrapped(runner.model)
    if not hasattr(model, 'stream'):
        raise InputError(
            f'--stream: {model.__class__.__name__} cannot run frame by frame: it has no method stream; leave '
            '--stream out'
        )
    dataset = runner.test_dataloader.dataset
    stream = model.stream(num_frames=dataset.num_frames, offsets_s=dataset.offsets_s, dtype=dtype)
    runner.model.test_step = StreamStep(stream)


def _track(runner: Any, settings: Any, keeps: bool = False) -> TrackingStep:
    """Lets the tracker of the config follow the predictions of the test step; returns the step that does."""
    if runner.distributed:
        raise InputError(
            '`tracker` of the config needs one process, since several would divide its sequences: test with '
            '--launcher none, or without it by --cfg-options tracker=None'
        )
    classes = runner.test_dataloader.dataset.metainfo['classes']
    step = TrackingStep(runner.model.test_step, SequenceTracking(settings, classes), keeps)
    runner.model.test_step = step
    return step


def _only_format(config: Config, folder: str) -> None:
    evaluators = config.get('test_evaluator')
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        # A class, or in a JSON or YAML config its name.
        metric = METRICS.get(evaluator['type']) if isinstance(evaluator['type'], str) else evaluator['type']
        if metric is None:
            raise InputError(f'test_evaluator: there is no metric {evaluator["type"]}')
        if not {'format_only', 'format_dir'} <= _arguments(metric):
            raise InputError(
                f'{metric.__name__} writes no submission files: tools/infer.py writes the boxes of raw files'
            )
        for older in ('result_dir', 'jsonfile_prefix'):
            evaluator.pop(older, None)
        evaluator.update(format_only=True, format_dir=folder)


def _arguments(metric: type) -> set[str]:
    """The names of the arguments of a class, and of its bases where it passes others to them (`**kwargs`)."""
    names: set[str] = set()
    for base in metric.__mro__:
        if '__init__' in vars(base):
            parameters = inspect.signature(vars(base)['__init__']).parameters
            names |= parameters.keys()
            if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return names


def _draw_into(config: Config, wanted: EvaluationOptions) -> None:
    from perception3d.engine.report_hook import HtmlReportHook
    from perception3d.engine.visualization_hook import DrawPredictionsHook

    hooks = list(config.get('custom_hooks') or [])
    drawing: dict[str, Any] = {'interval': wanted.show_interval, 'score_thr': wanted.score_thr}
    if wanted.show_dir:
        hooks.append({'type': DrawPredictionsHook, 'out_dir': wanted.show_dir, 'video': wanted.video, **drawing})
    if wanted.html:
        title = Path(config.filename or 'perception3d').stem
        hooks.append({'type': HtmlReportHook, 'path': wanted.html, 'title': title, **drawing})
    config.custom_hooks = hooks
