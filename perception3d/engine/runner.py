"""mmengine's Runner with what it lacks: processes without CUDA, data that no restart changes, workers that end."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend, Visualizer
from torch import nn
from torch.utils.data import DataLoader

from perception3d.checkpoints import check_resumable
from perception3d.checks import InputError, unknown_name
from perception3d.compat.private_members import end_workers
from perception3d.engine.agreement import AgreementHook, check_order_of_classes, check_trained_classes, classes_of
from perception3d.engine.averaging import AveragedWeightsHook, check_averages_resume
from perception3d.engine.checkpoint_hook import WholeCheckpointHook
from perception3d.engine.distributed import start_processes
from perception3d.engine.loader_workers import deaths_in_one_line, look_after_workers
from perception3d.engine.object_report import report_objects
from perception3d.engine.reproducible import SeededDataset
from perception3d.engine.resuming import (
    base_rates,
    resume_place,
    resume_schedules,
    schedule_settings,
    warn_of_other_rates,
)
from perception3d.engine.schedules import with_whole_parts
from perception3d.engine.sync_norm import join_batch_norms
from perception3d.engine.training_state import TrainingStateHook
from perception3d.engine.wrappers import unwrapped
from perception3d.files import write_durably
from perception3d.registry import DATASETS
from perception3d.weight_values import check_converging, non_finite

_SYNC_BN = ('torch', 'mmcv')
_OWN_HOOKS = {
    key: ours
    for upstream, ours in ((CheckpointHook, WholeCheckpointHook), (EMAHook, AveragedWeightsHook))
    for key in (upstream, upstream.__name__, f'mmengine.{upstream.__name__}')
}
# Runs of this process by the second of their start.
_STARTED: Counter[str] = Counter()


@RUNNERS.register_module()
class PerceptionRunner(Runner):
    """The runner of this package. Configs need not name it: `perception3d.apis.build_runner` uses it."""

    # Attributes of mmengine's Runner: settings, and later what is built from them.
    _train_dataloader: Any
    optim_wrapper: Any
    param_schedulers: Any

    def train(self) -> nn.Module:
        """Trains, and ends the workers of the data loaders.

        Reports first which objects are left out.

        Raises:
            InputError: no object is left to train on.
        """
        with self._workers():
            if self.train_loop is not None:
                report_objects(self.train_loop.dataloader.dataset)
            return super().train()

    def val(self) -> dict[str, float]:
        """Validates, and ends the workers of the data loader."""
        with self._workers():
            return super().val()

    def test(self) -> dict[str, float]:
        """Tests, and ends the workers of the data loader."""
        with self._workers():
            return super().test()

    @contextmanager
    def _workers(self) -> Iterator[None]:
        """Ends the workers of the loaders afterwards; the death of one is an InputError."""
        try:
            with deaths_in_one_line():
                yield
        finally:
            self._end_workers()

    @property
    def built_loops(self) -> dict[str, Any]:
        """The loops that are built, by 'train', 'val' and 'test'; mmengine's properties would build the others."""
        loops = {'train': self._train_loop, 'val': self._val_loop, 'test': self._test_loop}
        return {name: loop for name, loop in loops.items() if hasattr(loop, 'dataloader')}

    @property
    def trains(self) -> bool:
        """Whether the runner has a training loop, built or not."""
        return self._train_loop is not None

    @property
    def resumes(self) -> bool:
        """Whether its training is one that is resumed."""
        return self._resume

    @property
    def resumed_checkpoint(self) -> str | None:
        """The checkpoint that its training resumes; None where mmengine looks for one, or where it begins."""
        return self._load_from if self._resume else None

    def prepare_one_step(self) -> Any:
        """Returns the training loop with all that one step needs, without hooks and workers.

        The schedules and the other data are built too, so that what would stop a training stops a dry run.
        """
        self._train_dataloader = {**self._train_dataloader, 'num_workers': 0}
        loop = self.train_loop
        report_objects(loop.dataloader.dataset)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        self._init_model_weights()
        if self._val_loop is not None:
            _ = self.val_loop
        return loop

    def _end_workers(self) -> None:
        """Ends the workers that loaders keep.

        If they are left to the garbage collector (runners have reference cycles), the queue is closed before the
        workers get the message to end, and the process waits 5 s for each loader.
        """
        for loop in self.built_loops.values():
            end_workers(loop.dataloader)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resumes a training from a checkpoint of this model; mmengine would load whatever fits from any other.

        With another batch size, number of processes, size of the data set or schedule, the rest of the training is
        done with these; see `engine/resuming.py`.

        Raises:
            InputError: the checkpoint is of another model, variant or list of classes, or holds weights alone; or its
                weights are averaged and the config does not average; or the state of its optimizer is not finite.
        """
        model = unwrapped(self.model)
        content = check_resumable(model, filename)
        check_averages_resume(self, model, content, filename)
        metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None) or {}
        fix = 'a training cannot be resumed with other classes, begin one without --resume'
        check_trained_classes(content['meta'], metainfo, f'checkpoint {filename}', fix)
        schedules, rates = schedule_settings(self), base_rates(self)
        super().resume(filename, *args, **kwargs)
        broken = non_finite(self.optim_wrapper.state_dict(), 'optimizer')
        if broken:
            raise InputError(
                f'checkpoint {filename}: its tensor {broken} holds NaN or infinite values, so no training can be '
                'resumed from it: take an earlier checkpoint, or begin from its weights with --cfg-options '
                f'load_from={filename}'
            )
        warn_of_other_rates(self, rates)
        resume_place(self, content, filename)
        resume_schedules(self, content, schedules)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Loads weights as mmengine does; warns where they were trained for other classes.

        Raises:
            InputError: they were trained for the classes of the data set in another order.
        """
        content = super().load_checkpoint(filename, *args, **kwargs)
        if not self._resume and hasattr(self._train_loop, 'dataloader'):
            classes = classes_of(self._train_loop.dataloader.dataset)
            check_order_of_classes(content.get('meta') or {}, classes, f'load_from={filename}')
        return content

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Saves a checkpoint as mmengine does; a local file is whole and on the disk before it gets its name.

        Raises:
            InputError: the weights are not finite. No file is written, and none is removed.
        """
        check_converging(self.model, filename)
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with write_durably(Path(out_dir) / filename) as temporary:
            super().save_checkpoint(str(out_dir), temporary.name, *args, **kwargs)

    def register_hook(self, hook: Hook | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Registers a hook; ours where the config names mmengine's CheckpointHook or EMAHook."""
        if isinstance(hook, dict) and hook.get('type') in _OWN_HOOKS:
            hook = {**hook, 'type': _OWN_HOOKS[hook['type']]}
        super().register_hook(hook, *args, **kwargs)

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Joins the process group on machines without CUDA before mmengine would look for a GPU.

        A run that starts in the same second as one before it gets a name of its own: mmengine would hand it that one's
        log file and counters.
        """
        start_processes(self._launcher)
        super().setup_env(env_cfg)
        earlier = _STARTED[self._timestamp]
        _STARTED[self._timestamp] += 1
        if earlier:
            self._timestamp += f'_{earlier + 1}'

    def build_visualizer(self, visualizer: Visualizer | dict[str, Any] | None = None) -> Visualizer:
        """Builds a visualizer of this run alone.

        mmengine would return that of an earlier run of the process with the same name, which writes to its folder.
        """
        if visualizer is None:
            visualizer = dict(type=Visualizer, vis_backends=[dict(type=LocalVisBackend)])
        if isinstance(visualizer, dict):
            wanted = visualizer.get('name', self._experiment_name)
            names = (f'{wanted} {number}' if number > 1 else wanted for number in itertools.count(1))
            free = next(name for name in names if not Visualizer.check_instance_created(name))
            visualizer = {**visualizer, 'name': free}
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wraps the model for several processes; on the CPU without the device ids that mmengine would pass.

        `sync_bn` of the config works on the CPU too, where 'torch' and 'mmcv' mean the same.

        Raises:
            InputError: `sync_bn` is neither.
        """
        needs_own_wrapper = self.distributed and model_wrapper_cfg is None and get_device() == 'cpu'
        if not needs_own_wrapper or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        sync_bn = self.cfg.get('sync_bn')
        if sync_bn is not None:
            if sync_bn not in _SYNC_BN:
                raise unknown_name('sync_bn', sync_bn, _SYNC_BN)
            model = join_batch_norms(model)
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
        )

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Registers the hooks of the config, one for models with a training state, and one that compares the parts."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(TrainingStateHook())
        self.register_hook(AgreementHook())

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Builds the schedulers of rates; in a short training each part of them has an iteration or more.

        Raises:
            InputError: one ends where it begins.
        """
        epoch_length = len(self.train_dataloader)
        try:
            return super().build_param_scheduler(with_whole_parts(scheduler, epoch_length))
        except ValueError as error:
            if 'end should be larger than begin' not in str(error):
                raise
            raise InputError(
                f'param_scheduler of the config: {error}, where an epoch has {epoch_length} iterations (samples / '
                'train_dataloader.batch_size): set its begin and end, or what they follow from (max_epochs, '
                'rise_epochs, warmup_epochs, warmup_iters)'
            ) from error

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Builds a data loader whose samples depend on the seed and their place, not on workers or restarts.

        A data set that draws when it is built (class-balanced sampling) draws from the seed alone as well.
        """
        if not isinstance(dataloader, dict) or not isinstance(dataloader.get('dataset'), dict):
            return look_after_workers(Runner.build_dataloader(dataloader, seed, diff_rank_seed))
        state = np.random.get_state()
        if seed is not None:
            np.random.seed(seed)
        dataset = DATASETS.build(dataloader['dataset'])
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        np.random.set_state(state)
        settings = {**dataloader, 'dataset': SeededDataset(dataset)}
        if not settings.get('num_workers'):
            # torch refuses persistent workers where there are no workers.
            settings.pop('persistent_workers', None)
        return look_after_workers(Runner.build_dataloader(settings, seed, diff_rank_seed))
