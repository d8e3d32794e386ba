"""Saves checkpoints so that neither a kill nor a full disk loses a training."""

from __future__ import annotations

import hashlib
import pickle
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from perception3d.checkpoints import load_checkpoint_safely
from perception3d.compat.private_members import decide_val_interval
from perception3d.files import write_durably
from perception3d.training_folder import remove_unfinished, write_pointer


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook with a safe order: the new checkpoint is whole, then it is named, then old ones go.

    mmengine removes the old one first and writes straight to the final name. Also, `last_checkpoint` holds a name
    relative to the work folder, so that the folder may be copied and renamed; and what an interrupted run has left
    behind is removed when the next one starts. Settings are those of CheckpointHook; our runner takes this hook where
    a config names that one. A remote `out_dir` is left to mmengine.
    """

    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Runner) -> None:
        """Finds the folder, and the best checkpoints of a resumed run in it, wherever they were written."""
        super().before_train(runner)
        if not self._is_local():
            return
        # A resumed run has the paths of its first folder, whose files are not ours if this is a copy.
        for key, path in self._best().items():
            self._set_best(key, path and str(Path(self.out_dir) / Path(path).name))
        if is_main_process():
            if Path(self.out_dir).is_dir():
                remove_unfinished(self.out_dir)
            if self._replaced(runner):
                # A training that resumes an earlier checkpoint of the folder can be resumed from that one until then.
                begins = Path(runner.resumed_checkpoint) if runner.resumed_checkpoint else None
                is_own = begins is not None and begins.resolve().parent == Path(runner.work_dir).resolve()
                write_pointer(runner.work_dir, begins if is_own else None)
        if self.save_best and runner.resumes:
            self._validate_once_more(runner)

    @staticmethod
    def _validate_once_more(runner: Runner) -> None:
        """Validates the epoch that a resumed run begins after: its checkpoint was written before its validation.

        If that validation had finished, the same scores change nothing.
        """
        loop = runner.train_loop
        if runner.val_loop is None or not loop.epoch or loop.iter != loop.epoch * len(loop.dataloader):
            return
        decide_val_interval(loop)
        due = loop.epoch % loop.val_interval == 0 or loop.epoch == loop.max_epochs
        if due and loop.epoch >= loop.val_begin:
            runner.val_loop.run()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        if not self._is_local():
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated = self._next_ids(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        settings = dict(save_optimizer=self.save_optimizer, save_param_scheduler=self.save_param_scheduler)
        runner.save_checkpoint(self.out_dir, name, meta=meta, by_epoch=self.by_epoch, **settings, **self.args)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        if not is_main_process():
            return
        write_pointer(runner.work_dir, self.last_ckpt)
        for path in [Path(self.out_dir) / self.filename_tmpl.format(number) for number in outdated]:
            path.unlink(missing_ok=True)
        self._remove_replaced(runner)

    def _next_ids(self, runner: Runner, step: int) -> list[int]:
        """Notes that `step` is kept from now on; returns the steps whose checkpoints are to be removed."""
        if self.max_keep_ckpts <= 0:
            return []
        ids = [number for number in self.keep_ckpt_ids if number != step] + [step]
        self.keep_ckpt_ids = deque(ids[-self.max_keep_ckpts :], self.max_keep_ckpts)
        # The checkpoint lists the old ones too: if the run is killed before it removes them, the resumed run does.
        runner.message_hub.update_info('keep_ckpt_ids', ids)
        return ids[: -self.max_keep_ckpts]

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        """As in mmengine, but the best one so far is removed only when the new one is complete."""
        if not self.save_best or not self._is_local():
            super()._save_best_checkpoint(runner, metrics)
            return
        before = self._best()
        # mmengine would remove the ones in its records first.
        for key in before:
            self._set_best(key, None)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            after = self._best()
            for key, path in before.items():
                if after[key] is None:
                    self._set_best(key, path)
        kept = set(self._best().values())
        for path in set(before.values()) - kept:
            if path is not None and is_main_process():
                Path(path).unlink(missing_ok=True)

    def _best(self) -> dict[str | None, str | None]:
        """The paths of the best checkpoints by metric; of a single metric under None, as mmengine keeps that apart."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {None: self.best_ckpt_path}
        return {key: self.best_ckpt_path_dict.get(key) for key in self.key_indicators}

    def _set_best(self, key: str | None, path: str | None) -> None:
        if key is None:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[key] = path

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        """Writes the keys `published_keys` of a checkpoint next to it, whole, under a name with their hash."""
        content = load_checkpoint_safely(ckpt_path)
        content = {key: value for key, value in content.items() if key in self.published_keys}
        digest = hashlib.sha256(pickle.dumps(content)).hexdigest()[:8]
        path = Path(ckpt_path)
        with write_durably(path.with_name(f'{path.stem}-{digest}.pth')) as temporary:
            torch.save(content, temporary)
        runner.logger.info(f'The checkpoint ({ckpt_path}) is published to {path.stem}-{digest}.pth.')

    def _is_local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)

    @staticmethod
    def _replaced(runner: Runner) -> list[Path]:
        """The checkpoints of an earlier training which this one may overwrite."""
        return getattr(runner, 'replaced_checkpoints', [])

    def _remove_replaced(self, runner: Runner) -> None:
        """Removes the checkpoints to overwrite, now that this training has one of its own."""
        replaced = self._replaced(runner)
        own = {Path(path).resolve() for path in [self.last_ckpt, *self._best().values()] if path}
        while replaced:
            path = replaced.pop()
            if path.resolve() not in own:
                path.unlink(missing_ok=True)
