"""The teacher: a frozen network outside of the student's module tree, and the two views of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import nn

from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.tap import Records, TapSet
from perception3d.registry import MODELS


class Teacher:
    """Builds a teacher when it is first needed, and taps it.

    Copies of a model share it: the averaged copy of a student (EMA) needs no second teacher.

    Args:
        network: config, or a network.
        checkpoint: its weights; a network that is given as such may have them.
        taps: what to record.
        student_preprocessor: config of the student's data preprocessor; a teacher with an equal one can use the
            student's batch as it is.
    """

    def __init__(
        self,
        network: Mapping[str, Any] | nn.Module,
        checkpoint: str | None,
        taps: Sequence[str],
        student_preprocessor: Mapping[str, Any] | None,
    ) -> None:
        self._config, self._checkpoint, self._texts = network, checkpoint, taps
        self._network: nn.Module | None = None
        self.meta: dict[str, Any] = {}
        self._taps: TapSet | None = None
        own = network.get('data_preprocessor') if isinstance(network, Mapping) else None
        self.shares_batch = own is not None and own == student_preprocessor

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def network(self, device: torch.device) -> nn.Module:
        """Returns the network on `device`: frozen, in eval mode.

        Raises:
            InputError: it has no weights, they do not fit, or it lacks a tapped submodule.
        """
        if self._network is None:
            network = self._config
            if isinstance(network, Mapping):
                if self._checkpoint is None:
                    raise InputError('the teacher has no weights: set model.teacher_checkpoint to its checkpoint')
                network = MODELS.build(dict(network))
            if self._checkpoint is not None:
                self.meta = load_weights(network, self._checkpoint)
            self._network = network.requires_grad_(False).eval()
            self._taps = TapSet(network, self._texts)
        if next(self._network.parameters(), torch.empty(0)).device != device:
            self._network.to(device)
        return self._network

    @torch.no_grad()
    def look(
        self,
        inputs: Any,
        samples: Sequence[Any],
        device: torch.device,
        texts: Sequence[str],
        mode: str = 'tensor',
        whole: bool = False,
    ) -> tuple[Records, Any]:
        """Runs the teacher on a preprocessed batch until the last of the taps `texts` is filled.

        Returns the taps, and what it gave; None where it did not run to its end, which `whole` has it do.
        """
        network, output = self.network(device), None
        if mode == 'predict':
            # mmdet3d writes its predictions into the samples that it gets.
            samples = copied(samples)
        with self._taps.record(texts, stop_early=not whole) as records:
            output = network(inputs, samples, mode=mode)
        return records, output


def copied(samples: Any) -> Any:
    """Returns samples whose fields may be set without those of `samples`; what the fields hold is shared."""
    if not isinstance(samples, (list, tuple)):
        return samples
    return [sample.new() if isinstance(sample, BaseDataElement) else sample for sample in samples]


class PairPreprocessor(nn.Module):
    """The student's data preprocessor, and beside it the teacher's on its view of the batch.

    Without a view of its own the teacher gets the student's processed batch where both preprocess alike, else the raw
    batch through its own data preprocessor, which writes into samples of its own. In a step without the teacher its
    view is left out.

    Args:
        student: the student's data preprocessor.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        # In a list, since it is already a submodule of the student.
        self._student = [student]
        self.teacher: Teacher | None = None
        self.is_due: Callable[[], bool] = lambda: True

    def forward(self, data: Any, training: bool = False) -> Any:
        """Returns the processed batch; in training with the entry 'teacher' where the teacher's differs."""
        student = self._student[0]
        if not isinstance(data, Mapping):
            return student(data, training)
        data = dict(data)
        view = data.pop('teacher', None)
        theirs = None
        differs = self.teacher is not None and (view is not None or not self.teacher.shares_batch)
        if training and differs and self.is_due():
            network = self.teacher.network(student.device)
            view = dict(view) if view is not None else {**data, 'data_samples': copied(data.get('data_samples'))}
            theirs = network.data_preprocessor(view, False)
        batch = student(data, training)
        return batch if theirs is None else {**batch, 'teacher': theirs}
