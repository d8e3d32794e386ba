"""A teacher: a frozen network outside of the student's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import nn

from perception3d.checkpoints import load_weights
from perception3d.checks import InputError, unknown_name
from perception3d.distill.tap import Records, TapSet
from perception3d.registry import MODELS


class Teacher:
    """Builds a teacher when it is first needed, and records its taps.

    Copies of a Distiller share it: the averaged copy of a student (EMA) needs no second teacher.

    Args:
        network: config, or a network.
        checkpoint: its weights; None for a network that has them already.
        taps: all taps that may be recorded.
        student_preprocessor: config of the student's data preprocessor; a teacher with an equal one uses the student's
            preprocessed batch.
        mode: the mode in which it is run, 'tensor' or 'predict'.
        setting: where its checkpoint is set, for the error where it is not.
    """

    def __init__(
        self,
        network: Mapping[str, Any] | nn.Module,
        checkpoint: str | None,
        taps: Sequence[str],
        student_preprocessor: Mapping[str, Any] | None,
        mode: str = 'tensor',
        setting: str = 'teacher_checkpoint',
    ) -> None:
        self._config, self._checkpoint, self._texts = network, checkpoint, taps
        self._mode, self._setting = _known_mode(mode), setting
        self._network: nn.Module | None = None
        self.meta: dict[str, Any] = {}
        self._taps: TapSet | None = None
        own = network.get('data_preprocessor') if isinstance(network, Mapping) else None
        self.shares_batch = own is not None and own == student_preprocessor

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def network(self, device: torch.device) -> Any:
        """Returns the network on `device`: frozen, in eval mode.

        Raises:
            InputError: no checkpoint, a checkpoint that does not fit, or a tapped submodule that does not exist.
        """
        if self._network is None:
            network = self._config
            if isinstance(network, Mapping):
                if self._checkpoint is None:
                    raise InputError(
                        f'the teacher has no weights: set model.{self._setting} to the path of its checkpoint'
                    )
                network = MODELS.build(dict(network))
            if self._checkpoint is not None:
                self.meta = load_weights(network, self._checkpoint)
            self._network = network.requires_grad_(False).eval()
            self._taps = TapSet(network, self._texts)
        if next(self._network.parameters(), torch.empty(0)).device != device:
            self._network.to(device)
        return self._network

    @torch.no_grad()
    def run(
        self,
        batch: tuple[Any, Sequence[Any]],
        device: torch.device,
        texts: Sequence[str],
        to_the_end: bool = False,
    ) -> tuple[Records, Any]:
        """Runs the teacher on the inputs and samples of a preprocessed batch until the taps `texts` are filled.

        Returns:
            The taps, and the output of the network; None instead of the output where the pass ended early, which
            `to_the_end` prevents.
        """
        inputs, samples = batch
        network, output = self.network(device), None
        if self._mode == 'predict':
            # mmdet3d's detectors write their predictions into the samples.
            samples = copied(samples)
        assert self._taps is not None, 'built with the network'
        with self._taps.record(texts, stop_early=not to_the_end) as records:
            output = network(inputs, samples, mode=self._mode)
        return records, output


def _known_mode(mode: str) -> str:
    """Returns the mode of a teacher; InputError unless it is 'tensor' or 'predict'."""
    if mode not in ('tensor', 'predict'):
        raise unknown_name('teacher_mode', mode, ('tensor', 'predict'))
    return mode


def copied(samples: Any) -> Any:
    """Returns copies of samples: fields may be set without changing `samples`; the values of fields are shared."""
    if not isinstance(samples, (list, tuple)):
        return samples
    return [sample.new() if isinstance(sample, BaseDataElement) else sample for sample in samples]
