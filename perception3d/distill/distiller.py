"""One mechanism for every teacher and student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from perception3d.checks import InputError, unknown_name
from perception3d.distill.context import DistillContext, SecondPass
from perception3d.distill.freezing import Freezing
from perception3d.distill.inherit import WeightInheritance, build_inheritance
from perception3d.distill.link import Link, follow_scales
from perception3d.distill.nested import with_tensors
from perception3d.distill.tap import TapSet
from perception3d.distill.teacher import PairPreprocessor, Teacher
from perception3d.distill.watch import FiniteWatch
from perception3d.registry import MODELS

_STUDENT, _LINKS = 'student.', 'links.'


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains `student` with its own loss plus one loss per link; predicts exactly as `student`.

    The state dict is the student's, with the student's keys: a distilled checkpoint is one of the plain student config.
    What only training needs (adapters, scales of links) is in `training_state`, which the runner of this package keeps
    beside it in the checkpoint. The teacher is built when training begins, stays frozen and in eval mode, is no
    submodule, and its forward ends after its last tap.

    The teacher gets the batch of the student, or its own view of it: the entry 'teacher' that a pipeline puts beside
    'inputs' and 'data_samples' (`PairedViews` of the data sets does), which goes through its own data preprocessor.
    Views may differ in resolution, frames or sensor.

    In the log `distill.<link>.loss` is what is summed, `distill.<link>.value` what the loss module gave, and
    `distill.<link>.scale` the factor between them.

    Args:
        student: config of a model with mmengine's modes.
        links: name -> arguments of `Link`.
        teacher: config of a model; None distils the student from itself.
        teacher_checkpoint: its weights, loaded strictly.
        inherit: begin with the teacher's weights where they fit: True, or arguments of `WeightInheritance`.
        freeze: patterns of the student's parameters (fnmatch) that stay as they begin, such as BEV queries that it
            shares with its teacher.
        freeze_until: when these are let go, in iterations as an int or as a float a share of the training; None for
            never.
        data_preprocessor: instead of the student's own.
        labels: config of a module `forward(samples, predictions) -> samples` without state that makes the student's
            ground truth of its own and of the teacher's predictions, such as `TeacherBoxes`. The teacher then predicts,
            to its end.
        teacher_mode: the mode in which the teacher's taps are filled; 'predict' for detectors of mmdet3d that have no
            'tensor', such as CenterPoint.

    Raises:
        InputError: a tap that does not exist, a teacher without weights, a teacher's setting without a teacher; in
            training, a link whose loss is not finite.
    """

    def __init__(
        self,
        student: dict[str, Any] | nn.Module,
        links: Mapping[str, Mapping[str, Any]],
        teacher: dict[str, Any] | nn.Module | None = None,
        teacher_checkpoint: str | None = None,
        inherit: WeightInheritance | Mapping[str, Any] | bool | None = None,
        freeze: Sequence[str] = (),
        freeze_until: int | float | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        labels: dict[str, Any] | None = None,
        teacher_mode: str = 'tensor',
    ) -> None:
        if data_preprocessor is not None:
            if not isinstance(student, Mapping):
                raise InputError('data_preprocessor replaces that of a student given by its config, not of a network')
            student = {**student, 'data_preprocessor': data_preprocessor}
        own = student.get('data_preprocessor') if isinstance(student, Mapping) else None
        built = student if isinstance(student, nn.Module) else MODELS.build(student)
        super().__init__(PairPreprocessor(built.data_preprocessor))
        self.student = built
        self._freezing = Freezing(built, freeze, freeze_until)
        # Adapters draw from a copy of the random state: with or without them, the student begins with equal weights.
        with torch.random.fork_rng(devices=[]):
            self.links = nn.ModuleDict({name: _build_link(name, settings) for name, settings in links.items()})
        if teacher is None and (teacher_checkpoint or inherit or labels):
            raise InputError('teacher_checkpoint, inherit and labels need a teacher: give its config')
        if teacher_mode not in ('tensor', 'predict'):
            raise unknown_name('teacher_mode', teacher_mode, ('tensor', 'predict'))
        self._labels = _build_labels(labels)
        self._teacher_mode = teacher_mode if labels is None else 'predict'
        self.inherit = build_inheritance(inherit)
        # A path of a module is a tap as well: what no network has is refused in one place.
        taps = {side: self._taps(side, self.links) + self._asked(side, self.links) for side in ('student', 'teacher')}
        # In a plain list: the teacher is not part of the model's modules, state, copies or device moves.
        self._teacher = [None if teacher is None else Teacher(teacher, teacher_checkpoint, taps['teacher'], own)]
        self.data_preprocessor.teacher, self.data_preprocessor.is_due = self._teacher[0], self._teacher_is_due
        self_taught = taps['teacher'] if teacher is None else []
        self._student_taps = TapSet(self.student, [*taps['student'], *self_taught])
        self._watch = FiniteWatch()
        self.register_state_dict_post_hook(_keep_student_alone)

    @property
    def teacher(self) -> nn.Module | None:
        """The teacher's network, built on first use; None in self-distillation."""
        return self._teacher[0].network(self._device()) if self._teacher[0] is not None else None

    @property
    def teacher_meta(self) -> dict[str, Any]:
        """`meta` of the teacher's checkpoint, such as the classes that it was trained for; empty before it is built."""
        return self._teacher[0].meta if self._teacher[0] is not None else {}

    def init_weights(self) -> None:
        """Initialises the student, builds the teacher, and lets the student inherit."""
        self.student.init_weights()
        if self._teacher[0] is None:
            return
        teacher = self.teacher
        if self.inherit is not None:
            print_log(str(self.inherit.apply(self.student, teacher)), 'current')

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[Any] | None = None,
        mode: str = 'tensor',
        teacher: Mapping[str, Any] | None = None,
    ) -> Any:
        """The student's forward in all modes but 'loss', which adds the links; `teacher` is the teacher's view."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, teacher)
        return self.student(inputs, data_samples, mode=mode)

    def loss(
        self, inputs: Any, data_samples: Sequence[Any], teacher: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Returns the student's losses and those of the links."""
        step, max_steps = _progress()
        self._freezing.follow(step, max_steps)
        weights = self._weights(step, max_steps)
        active = {name: link for name, link in self.links.items() if weights[name]}
        view = teacher or {'inputs': inputs, 'data_samples': data_samples}
        mine_taps, their_taps = (self._taps(side, active) for side in ('student', 'teacher'))
        theirs: Mapping[str, Any] = {}
        labelled = data_samples
        if self._teacher[0] is not None and (active or self._labels is not None):
            batch = view['inputs'], view['data_samples'], self._device()
            whole = self._labels is not None
            theirs, predictions = self._teacher[0].look(*batch, their_taps, self._teacher_mode, whole)
            if self._labels is not None:
                labelled = self._labels(data_samples, predictions)
        self_taught = their_taps if self._teacher[0] is None else []
        with self._student_taps.record([*mine_taps, *self_taught]) as mine:
            losses = dict(self.student(inputs, labelled, mode='loss'))
        if self._teacher[0] is None:
            theirs = _Detached(mine)
        own, _ = self.parse_losses({name: value for name, value in losses.items() if 'loss' in name})
        context = DistillContext(
            step,
            MappingProxyType(mine),
            theirs,
            inputs,
            data_samples,
            view['inputs'],
            view['data_samples'],
            *(self._passes(side, active) for side in ('student', 'teacher')),
        )
        values = {name: link(context) for name, link in active.items()}
        matched = {name: link for name, link in active.items() if link.match is not None}
        if matched and self.training:
            follow_scales([*matched.values()], [values[name] for name in matched], own)
        for name, link in self.links.items():
            if name in active:
                self._watch.note(name, values[name].detach(), step)
                found = link.weighted(values[name], weights[name])
                losses.update({f'distill.{name}.{key}': value for key, value in found.items()})
            elif (idle := link.idle(own.device)) is not None:
                losses[f'distill.{name}.loss'] = idle
        self._watch.end_step(step)
        return losses

    def training_state(self) -> dict[str, Tensor]:
        """State that a resumed training needs and the student does not have: adapters, scales.

        Raises:
            InputError: a link's loss was not finite and nobody has looked since: nothing may be saved behind it.
        """
        self._watch.look()
        return self.links.state_dict()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Loads what `training_state` returned; InputError where the links have changed."""
        own = self.links.state_dict()
        if own and not state:
            raise InputError(
                'the checkpoint is no distillation, it has nothing to resume the links with: use load_from'
            )
        try:
            self.links.load_state_dict(dict(state))
        except RuntimeError as error:
            raise InputError(f'the checkpoint was trained with other links, it cannot be resumed: {error}') from error

    def _weights(self, step: int, max_steps: int | None) -> dict[str, float]:
        return {name: link.schedule.at(step, max_steps) for name, link in self.links.items()}

    def _teacher_is_due(self) -> bool:
        return self._labels is not None or any(self._weights(*_progress()).values())

    @staticmethod
    def _taps(side: str, links: Mapping[str, Link]) -> list[str]:
        return [text for link in links.values() for text in getattr(link, f'{side}_taps')]

    @staticmethod
    def _asked(side: str, links: Mapping[str, Link]) -> list[str]:
        return [path for link in links.values() for path in getattr(link.loss, f'{side}_modules', ())]

    def _passes(self, side: str, links: Mapping[str, Link]) -> dict[str, SecondPass]:
        """The submodules of one side that losses have asked for, by their paths."""
        paths, learns = self._asked(side, links), side == 'student'
        network = self.student if learns or self._teacher[0] is None or not paths else self.teacher
        return {path: SecondPass(network.get_submodule(path), learns) for path in paths}

    def _device(self) -> torch.device:
        return next(self.student.parameters()).device

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The keys on disk are the student's; the links keep what they have.
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f'{prefix}{_STUDENT}{key.removeprefix(prefix)}'] = state_dict.pop(key)
        state_dict.update({f'{prefix}{_LINKS}{key}': value for key, value in self.links.state_dict().items()})
        versions = getattr(state_dict, '_metadata', None)
        if versions is not None:
            # Layers look up the version of their weights under their own path.
            plain = {name: value for name, value in versions.items() if not name.startswith(prefix + _STUDENT)}
            versions.update({_joined(prefix + _STUDENT, name.removeprefix(prefix)): v for name, v in plain.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Detached(Mapping[str, Any]):
    """Records without their gradients: the student as its own teacher."""

    def __init__(self, records: Mapping[str, Any]) -> None:
        self._records = records

    def __getitem__(self, text: str) -> Any:
        return with_tensors(Tensor.detach, self._records[text])

    def __iter__(self) -> Any:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def _build_labels(config: dict[str, Any] | None) -> nn.Module | None:
    if config is None:
        return None
    labels = MODELS.build(config)
    state = list(labels.state_dict()) if isinstance(labels, nn.Module) else []
    if state:
        raise InputError(f'labels: {type(labels).__name__} has {", ".join(state)}, which no checkpoint would keep')
    return labels


def _build_link(name: str, settings: Mapping[str, Any]) -> Link:
    if 'loss' in name or not name.isidentifier():
        raise InputError(
            f"link {name!r}: a name is an identifier without 'loss', which marks what is summed in the log"
        )
    try:
        return Link(**settings)
    except InputError as error:
        raise InputError(f'link {name!r}: {error}') from error
    except TypeError as error:
        raise InputError(f'link {name!r} needs student, teacher and loss: {error}') from error


def _keep_student_alone(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Gives the student's tensors their plain keys in a state dict and drops the links.

    The versions of layers (`_metadata`) get the plain keys as well, and keep the others for copies of a Distiller.
    """
    for key in [key for key in state if key.startswith(prefix)]:
        value = state.pop(key)
        if key.startswith(prefix + _STUDENT):
            state[prefix + key.removeprefix(prefix + _STUDENT)] = value
    versions = getattr(state, '_metadata', {})
    for name in [name for name in versions if f'{name}.'.startswith(prefix + _STUDENT)]:
        versions[_joined(prefix, f'{name}.'.removeprefix(prefix + _STUDENT))] = versions[name]


def _joined(prefix: str, path: str) -> str:
    """The path of a module behind a prefix that ends in a dot, without a dot at its end."""
    return (prefix + path).rstrip('.')


def _progress() -> tuple[int, int | None]:
    """The iteration of the running training and its length, as mmengine's runner counts them; 0 and None without."""
    hub = MessageHub.get_current_instance()
    return int(hub.get_info('iter', 0) or 0), hub.get_info('max_iters', None)
