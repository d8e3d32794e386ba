"""Label distillation: the teacher's confident boxes join the ground truth; the samples of the batch are not changed."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from nets import Net, gap

from perception3d.checks import InputError
from perception3d.distill.distiller import Distiller
from perception3d.distill.teacher_boxes import TeacherBoxes


def boxes(*xs: float, dim: int = 7) -> LiDARInstance3DBoxes:
    values = torch.zeros(len(xs), dim)
    values[:, 0] = torch.tensor(xs)
    return LiDARInstance3DBoxes(values, box_dim=dim)


def sample(*xs: float) -> Det3DDataSample:
    result = Det3DDataSample()
    result.gt_instances_3d = InstanceData(bboxes_3d=boxes(*xs), labels_3d=torch.zeros(len(xs), dtype=torch.long))
    return result


def prediction(scores: list[float], labels: list[int], dim: int = 7) -> Det3DDataSample:
    result = Det3DDataSample()
    fields = dict(scores_3d=torch.tensor(scores), labels_3d=torch.tensor(labels, dtype=torch.long))
    result.pred_instances_3d = InstanceData(bboxes_3d=boxes(*range(10, 10 + len(scores)), dim=dim), **fields)
    return result


def test_confident_boxes_come_first_and_the_samples_are_not_changed() -> None:
    given = [sample(1.0, 2.0), sample()]
    joined = TeacherBoxes(0.6)(given, [prediction([0.9, 0.6, 0.7], [2, 1, 0]), prediction([0.1], [1])])
    assert joined[0].gt_instances_3d.bboxes_3d.tensor[:, 0].tolist() == [10, 12, 1, 2]
    assert joined[0].gt_instances_3d.labels_3d.tolist() == [2, 0, 0, 0]
    assert len(joined[1].gt_instances_3d.bboxes_3d) == 0 and joined[1].gt_instances_3d.labels_3d.dtype == torch.long
    assert len(given[0].gt_instances_3d.bboxes_3d) == 2


def test_each_class_may_have_its_own_threshold() -> None:
    joined = TeacherBoxes((0.5, 0.8))([sample(1.0)], [prediction([0.6, 0.6, 0.9], [0, 1, 1])])
    assert joined[0].gt_instances_3d.bboxes_3d.tensor[:, 0].tolist() == [10, 12, 1]
    with pytest.raises(InputError, match='2 thresholds'):
        TeacherBoxes((0.5, 0.8))([sample(1.0)], [prediction([0.6], [2])])


def test_boxes_with_velocity_do_not_join_those_without() -> None:
    with pytest.raises(InputError, match='velocity'):
        TeacherBoxes()([sample(1.0)], [prediction([0.9], [0], dim=9)])


class Labelled(Net):
    """A net that predicts in the way of mmdet3d, and whose loss counts the boxes that it was given."""

    def forward(self, inputs, data_samples=None, mode='tensor', **kwargs):
        if mode == 'predict':
            super().forward(inputs)
            for each in data_samples:
                each.pred_instances_3d = prediction([0.9, 0.2], [0, 0]).pred_instances_3d
            return data_samples
        losses = super().forward(inputs, data_samples, mode)
        if mode == 'loss':
            losses['boxes'] = torch.tensor(float(sum(len(each.gt_instances_3d.bboxes_3d) for each in data_samples)))
        return losses


@pytest.mark.parametrize('links', [dict(maps=gap()), {}])
def test_a_distilled_student_is_trained_on_both(links: dict) -> None:
    torch.manual_seed(0)
    model = Distiller(Labelled(), links, teacher=Labelled(), labels=dict(type='TeacherBoxes'))
    batch = [sample(1.0), sample(2.0, 3.0)]
    for _ in range(2):
        losses = model.loss(torch.randn(2, 3, 6, 5), batch)
    assert losses['boxes'] == 5 and len(batch[0].gt_instances_3d.bboxes_3d) == 1
    assert 'pred_instances_3d' not in batch[0]
    assert ('distill.maps.loss' in losses) == bool(links)


class OnlyPredicts(Labelled):
    """As the detectors of mmdet3d that have no mode 'tensor'."""

    def forward(self, inputs, data_samples=None, mode='tensor', **kwargs):
        if mode == 'tensor':
            raise NotImplementedError
        if mode == 'predict':
            Net.forward(self, inputs)
            return data_samples
        return super().forward(inputs, data_samples, mode)


def test_a_teacher_without_mode_tensor_may_predict() -> None:
    values = {}
    for network, mode in ((Labelled, 'tensor'), (OnlyPredicts, 'predict')):
        torch.manual_seed(0)
        model = Distiller(Labelled(), dict(maps=gap()), teacher=network(), teacher_mode=mode)
        x = torch.randn(2, 3, 6, 5)
        values[mode] = [float(model.loss(x, [sample(1.0)] * 2)['distill.maps.value']) for _ in range(2)]
        assert model.teacher.head.calls == 1  # in the first forward; the second ends before it
    assert values['tensor'] == values['predict']
    with pytest.raises(InputError, match="did you mean 'predict'"):
        Distiller(Labelled(), dict(maps=gap()), teacher=Labelled(), teacher_mode='predic')


def test_labels_need_a_teacher() -> None:
    with pytest.raises(InputError, match='labels need a teacher'):
        Distiller(Labelled(), dict(maps=gap()), labels=dict(type='TeacherBoxes'))
