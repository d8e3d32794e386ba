"""The Distiller: trains a student with its own loss and with losses between places in student and teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext, SecondPass
from perception3d.distill.finite import FiniteCheck
from perception3d.distill.freezing import Freezing
from perception3d.distill.inherit import WeightInheritance, build_inheritance
from perception3d.distill.link import Link, update_scales
from perception3d.distill.nested import with_tensors
from perception3d.distill.tap import TapSet
from perception3d.distill.teachers import PairPreprocessor, Teachers
from perception3d.registry import MODELS
from perception3d.structures.expected_data import ExpectedData, expected_data

_STUDENT, _LINKS = 'student.', 'links.'


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains `student` with its own loss plus one loss per link; predicts exactly as `student`.

    The state dict is the student's, with the student's keys: a distilled checkpoint loads into the plain student
    config. What only training needs (adapters, scales of links) is in `training_state`, which the runner of this
    package saves next to it in the checkpoint. The teacher is built when training begins, stays frozen and in eval
    mode, and is not a submodule; its forward pass ends after its last tap.

    The teacher gets the batch of the student, or a view of its own: the entry 'teacher' that a pipeline puts next to
    'inputs' and 'data_samples' (as `PairedViews` of the data sets does), which passes through the teacher's data
    preprocessor. Views may differ in resolution, frames or sensor.

    Several teachers, also of other tasks, each have a name, and so have their taps: `depth:neck`. A view of its own is
    then for all of them, and a step runs those whose taps it reads.

    The log has `distill.<link>.loss`, the term that is summed, `distill.<link>.value`, the output of the loss module,
    `distill.<link>.scale`, the factor between them, and what the link measures besides, see `Link`.

    Args:
        student: config of a model with mmengine's modes.
        links: name -> arguments of `Link`.
        teacher: config of a model; name -> dict(network=config, checkpoint=path, mode='tensor') for several; None
            distils the student from itself.
        teacher_checkpoint: weights of one teacher, loaded strictly.
        inherit: initialise the student with the teacher's weights where they fit: True, or arguments of
            `WeightInheritance`.
        freeze: patterns (fnmatch) of the student's parameters that keep their initial values, such as BEV queries that
            the student shares with its teacher.
        freeze_until: when the training of these begins: an int counts iterations, a float is a share of the training;
            None for never.
        data_preprocessor: replaces that of the student's config.
        labels: config of a module without state, `forward(samples, predictions) -> samples`, that makes the student's
            ground truth from the annotations and the teacher's predictions, such as `TeacherBoxes`. The teacher then
            runs its whole forward pass in mode 'predict'.
        teacher_mode: the mode in which the taps of one teacher are filled; 'predict' for detectors of mmdet3d that have
            no 'tensor', such as CenterPoint.

    Raises:
        InputError: a tap or teacher that does not exist, a teacher without weights, or a setting of one teacher without
            it; in training, a link whose loss is not finite.
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
                raise InputError(
                    'data_preprocessor replaces that of a student config, but the student is a network: set it in the '
                    'network'
                )
            student = {**student, 'data_preprocessor': data_preprocessor}
        own = student.get('data_preprocessor') if isinstance(student, Mapping) else None
        # Any, because torch does not know mmengine's modes and data preprocessors.
        built: Any = student if isinstance(student, nn.Module) else MODELS.build(student)
        super().__init__(PairPreprocessor(built.data_preprocessor))
        self.student = built
        self._freezing = Freezing(built, freeze, freeze_until)
        # Adapters draw from a copy of the random state: the student's initial weights do not depend on them.
        with torch.random.fork_rng(devices=[]):
            self.links = nn.ModuleDict({name: _build_link(name, settings) for name, settings in links.items()})
        if teacher is None and (teacher_checkpoint or inherit or labels):
            raise InputError('teacher_checkpoint, inherit and labels need a teacher: set `teacher` to its config')
        self._labels = _build_labels(labels)
        self.inherit = build_inheritance(inherit)
        # A path of a module is a tap as well: TapSet refuses the paths that a network does not have.
        taps = {
            side: self._taps(side, self._links) + self._module_paths(side, self._links)
            for side in ('student', 'teacher')
        }
        mode = teacher_mode if labels is None else 'predict'
        # No submodule: the teachers are not part of the model's modules, state, copies or device moves.
        self._teachers = Teachers(teacher, teacher_checkpoint, mode, taps['teacher'], own)
        if self._teachers.have_names and (inherit or labels or teacher_mode != 'tensor'):
            raise InputError('inherit, labels and teacher_mode are settings of one teacher, but there are several')
        self.data_preprocessor.teachers, self.data_preprocessor.needed = self._teachers, self._needed
        self_distilled = [] if self._teachers else taps['teacher']
        self._student_taps = TapSet(self.student, [*taps['student'], *self_distilled])
        self._finite = FiniteCheck()
        self.register_state_dict_post_hook(_keep_student_alone)

    @property
    def _links(self) -> dict[str, Link]:
        """The links by their names; a ModuleDict does not say of which class its modules are."""
        return cast('dict[str, Link]', dict(self.links.items()))

    @property
    def teachers(self) -> dict[str, nn.Module]:
        """The networks of the teachers by their names, '' for one; built on first use."""
        return {name: self._teachers[name].network(self._device()) for name in self._teachers}

    @property
    def teacher(self) -> nn.Module | None:
        """The network of one teacher, built on first use; None in self-distillation, and of several."""
        return None if self._teachers.have_names else self.teachers.get('')

    @property
    def teacher_metas(self) -> dict[str, dict[str, Any]]:
        """`meta` of the checkpoints by teacher, such as the classes it was trained for; empty before it is built."""
        return {name: self._teachers[name].meta for name in self._teachers}

    def expected_by_links(self) -> dict[str, ExpectedData]:
        """Returns what the loss of each link expects of the data of a training, by the name of the link."""
        return {name: expected_data(link.loss) for name, link in self._links.items()}

    def whole_step(self, max_steps: int) -> int:
        """Returns the first iteration of a training of `max_steps` in which every link has begun and is not left out.

        It is the last one of the training where some begin later.
        """
        schedules = [link.schedule for link in self._links.values()]
        period = math.lcm(*(schedule.every for schedule in schedules))
        first = max((schedule.begins(max_steps) for schedule in schedules), default=0)
        return max(0, min(math.ceil(first / period) * period, max_steps - 1))

    def init_weights(self) -> None:
        """Initialises the student, builds the teachers, and copies inherited weights into the student."""
        self.student.init_weights()
        teachers = self.teachers
        if self.inherit is not None:
            print_log(str(self.inherit.apply(self.student, teachers[''])), 'current')

    def forward(
        self,
        inputs: Any,
        data_samples: Any = None,
        mode: str = 'tensor',
        teacher: Mapping[str, Any] | None = None,
    ) -> Any:
        """The student's forward; mode 'loss' adds the losses of the links. `teacher` is the view of the teachers."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, teacher)
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Any, data_samples: Any, teacher: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """Returns the student's losses and those of the links."""
        step, max_steps = _progress()
        self._freezing.update(step, max_steps)
        weights = self._weights(step, max_steps)
        active = {name: link for name, link in self._links.items() if weights[name]}
        views = self._teachers.views(teacher, {'inputs': inputs, 'data_samples': data_samples})
        student_texts, teacher_texts = (self._taps(side, active) for side in ('student', 'teacher'))
        teacher_taps: Mapping[str, Any] = {}
        labelled = data_samples
        if self._teachers and (active or self._labels is not None):
            teacher_taps, predictions = self._teachers.run(
                views, self._device(), teacher_texts, to_the_end=self._labels is not None
            )
            if self._labels is not None:
                labelled = self._labels(data_samples, predictions)
        self_distilled = [] if self._teachers else teacher_texts
        with self._student_taps.record([*student_texts, *self_distilled]) as student_taps:
            losses = dict(self.student(inputs, labelled, mode='loss'))
        if not self._teachers:
            teacher_taps = _Detached(student_taps)
        student_loss, _ = self.parse_losses({name: value for name, value in losses.items() if 'loss' in name})
        context = DistillContext(
            step=step,
            student=MappingProxyType(student_taps),
            teacher=teacher_taps,
            inputs=inputs,
            samples=data_samples,
            teacher_inputs=self._teachers.of_views(views, 'inputs'),
            teacher_samples=self._teachers.of_views(views, 'data_samples'),
            student_modules=self._second_passes('student', active),
            teacher_modules=self._second_passes('teacher', active),
            task_loss=student_loss,
        )
        return losses | self._link_losses(context, weights, student_loss)

    def _link_losses(
        self, context: DistillContext, weights: Mapping[str, float], student_loss: Tensor
    ) -> dict[str, Tensor]:
        """Entries of the log for every link; those with 'loss' in their name are summed."""
        active = {name: link for name, link in self._links.items() if weights[name]}
        results = {name: link(context) for name, link in active.items()}
        values = {name: result.value for name, result in results.items()}
        matched = {name: link for name, link in active.items() if link.is_measured(context.step)}
        if matched and self.training:
            update_scales([*matched.values()], [values[name] for name in matched], student_loss)
        losses: dict[str, Tensor] = {}
        for name, link in self._links.items():
            if name in active:
                self._finite.add(name, values[name].detach(), context.step)
                entries = link.weighted(results[name], weights[name])
                losses.update({f'distill.{name}.{key}': value for key, value in entries.items()})
            elif (idle := link.idle(student_loss.device)) is not None:
                losses[f'distill.{name}.loss'] = idle
        self._finite.end_step(context.step)
        return losses

    def training_state(self) -> dict[str, Tensor]:
        """State that a resumed training needs and the student does not have: adapters, scales.

        Raises:
            InputError: a link's loss was not finite since the last check: no checkpoint may be written after that.
        """
        self._finite.check()
        return self.links.state_dict()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Loads what `training_state` returned; InputError where the links have changed."""
        own = self.links.state_dict()
        if own and not state:
            raise InputError(
                'the checkpoint is not one of a distillation: it has no state of the links to resume with; begin with '
                'its weights by load_from'
            )
        try:
            self.links.load_state_dict(dict(state))
        except RuntimeError as error:
            raise InputError(f'the checkpoint was trained with other links and cannot be resumed: {error}') from error

    def _weights(self, step: int, max_steps: int | None) -> dict[str, float]:
        return {name: link.schedule.at(step, max_steps) for name, link in self._links.items()}

    def _needed(self) -> list[str]:
        """The names of the teachers that the next step runs."""
        if not self._teachers or self._labels is not None:
            return list(self._teachers)
        weights = self._weights(*_progress())
        texts = self._taps('teacher', {name: link for name, link in self._links.items() if weights[name]})
        return list(dict.fromkeys(self._teachers.split(text)[0] for text in texts))

    @staticmethod
    def _taps(side: str, links: Mapping[str, Link]) -> list[str]:
        return [text for link in links.values() for text in getattr(link, f'{side}_taps')]

    @staticmethod
    def _module_paths(side: str, links: Mapping[str, Link]) -> list[str]:
        return [path for link in links.values() for path in getattr(link.loss, f'{side}_modules', ())]

    def _second_passes(self, side: str, links: Mapping[str, Link]) -> dict[str, SecondPass]:
        """The submodules of one side that losses have asked for, by their paths."""
        has_gradient, passes = side == 'student', {}
        for path in self._module_paths(side, links):
            own = has_gradient or not self._teachers
            module = self.student.get_submodule(path) if own else self._teachers.module(path, self._device())
            passes[path] = SecondPass(module, has_gradient)
        return passes

    def _device(self) -> torch.device:
        return next(self.student.parameters()).device

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The keys on disk are the student's; the links keep their values.
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
        raise InputError(
            f'labels: {type(labels).__name__} has the state {", ".join(state)}, which no checkpoint would save: give a '
            'module '
            'without parameters and buffers'
        )
    return labels


def _build_link(name: str, settings: Mapping[str, Any]) -> Link:
    if 'loss' in name or not name.isidentifier():
        raise InputError(
            f"link {name!r}: expected an identifier without 'loss' as name; 'loss' marks what is summed in the log"
        )
    try:
        return Link(**settings)
    except InputError as error:
        raise InputError(f'link {name!r}: {error}') from error
    except TypeError as error:
        raise InputError(f'link {name!r} needs student, teacher and loss: {error}') from error


def _keep_student_alone(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Gives the student's tensors their plain keys in a state dict and drops the links.

    The versions of layers (`_metadata`) are stored by the plain keys too; the prefixed ones stay for copies of a
    Distiller.
    """
    for key in [key for key in state if key.startswith(prefix)]:
        value = state.pop(key)
        if key.startswith(prefix + _STUDENT):
            state[prefix + key.removeprefix(prefix + _STUDENT)] = value
    versions = getattr(state, '_metadata', {})
    for name in [name for name in versions if f'{name}.'.startswith(prefix + _STUDENT)]:
        versions[_joined(prefix, f'{name}.'.removeprefix(prefix + _STUDENT))] = versions[name]


def _joined(prefix: str, path: str) -> str:
    """The path of a module after a prefix that ends in a dot, without a trailing dot."""
    return (prefix + path).rstrip('.')


def _progress() -> tuple[int, int | None]:
    """The iteration of the running training and its length, as mmengine's runner counts; 0 and None without one."""
    hub = MessageHub.get_current_instance()
    return int(hub.get_info('iter', 0) or 0), hub.get_info('max_iters', None)
