"""Weight inheriting: what is copied, which channels a narrower student keeps, and how much of it is the teacher's."""

from __future__ import annotations

import pytest
import torch
from nets import gap, images, net
from torch import nn

from perception3d.checks import InputError
from perception3d.distill.distiller import Distiller
from perception3d.distill.inherit import WeightInheritance

WIDTHS = [dict(out=['first', 'norm'], into=['second']), dict(out=['second'], into=['head.heat', 'head.boxes'])]


def test_equal_networks_inherit_everything():
    student, teacher = net(0), net(1)
    report = WeightInheritance().apply(student, teacher)
    assert report.share == 1.0 and not report.own
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in student.state_dict().items())


def test_without_rules_a_narrower_student_takes_what_fits():
    student = net(0, width=2)
    before = student.first.weight.clone()
    report = WeightInheritance().apply(student, net(1))
    # What fits are the biases of the head (2 + 3) and the counter of the norm, which is not a parameter.
    total = sum(p.numel() for p in student.parameters())
    assert report.share == pytest.approx(5 / total) and 'first.weight' in report.own
    assert set(report.copied) == {'head.heat.bias', 'head.boxes.bias', 'norm.num_batches_tracked'}
    assert torch.equal(student.first.weight, before)


def test_dropping_channels_that_are_always_zero_changes_nothing():
    teacher = net(1, width=6).eval()
    dead_first, dead_second = [0, 3], [1, 4]
    with torch.no_grad():
        teacher.norm.weight[dead_first], teacher.norm.bias[dead_first] = 0.0, -1.0
        teacher.second.weight[dead_second], teacher.second.bias[dead_second] = 0.0, 0.0
        teacher.norm.running_mean.uniform_(-1, 1)
    student = net(0, width=4).eval()
    report = WeightInheritance(widths=WIDTHS).apply(student, teacher)
    assert report.share == 1.0
    for output, wanted in zip(student(images()), teacher(images()), strict=True):
        torch.testing.assert_close(output, wanted)


def test_the_most_important_channels_are_kept():
    teacher, student = net(1, width=4), net(0, width=2)
    with torch.no_grad():
        teacher.norm.weight.copy_(torch.tensor([0.1, -3.0, 0.2, 1.0]))
    WeightInheritance(widths=WIDTHS).apply(student, teacher)
    # |gamma| of channels 1 and 3 is largest; the filters of `second` have no norm and go by their L1 norm.
    assert torch.equal(student.first.weight, teacher.first.weight[[1, 3]])
    kept = teacher.second.weight.abs().sum((1, 2, 3)).topk(2).indices.sort().values
    assert torch.equal(student.second.weight, teacher.second.weight[kept][:, [1, 3]])


def test_a_consumer_of_stacked_copies_is_sliced_in_each():
    class Stack(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.make, self.read = nn.Conv2d(1, width, 1), nn.Conv2d(3 * width, 2, 1)

    teacher, student = Stack(4), Stack(2)
    with torch.no_grad():
        teacher.make.weight.copy_(torch.tensor([5.0, 1.0, 2.0, 7.0]).view(4, 1, 1, 1))
    WeightInheritance(widths=[dict(out=['make'], into=['read'])]).apply(student, teacher)
    assert torch.equal(student.read.weight, teacher.read.weight[:, [0, 3, 4, 7, 8, 11]])


def test_transposed_convolutions_and_concatenated_sets_are_sliced():
    class Neck(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.make = nn.Conv2d(1, width, 1)
            self.up = nn.ModuleList([nn.ConvTranspose2d(width, 2 * width, 2, stride=2) for _ in range(2)])
            self.read = nn.Conv2d(4 * width, 3, 1)

        def forward(self, x):
            return self.read(torch.cat([up(self.make(x)) for up in self.up], 1))

    teacher, student = Neck(3), Neck(2)
    with torch.no_grad():
        teacher.make.weight[1], teacher.make.bias[1] = 0.0, 0.0
        for up in teacher.up:
            up.weight[:, [0, 4]], up.bias[[0, 4]] = 0.0, 0.0
    rules = [dict(out=['make'], into=['up.0', 'up.1']), dict(out=['up.0', 'up.1'], into=['read'])]
    assert WeightInheritance(widths=rules).apply(student, teacher).share == 1.0
    x = torch.randn(2, 1, 3, 4)
    torch.testing.assert_close(student(x), teacher(x))


def test_sparse_convolutions_and_heights_that_become_channels_are_sliced():
    spconv = pytest.importorskip('spconv.pytorch')

    class Encoder(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first, self.second = (spconv.SubMConv3d(*ends, 3) for ends in ((1, width), (width, 2 * width)))
            self.read = nn.Conv2d(4 * width, 3, 1)

        def forward(self, x):
            dense = self.second(self.first(x)).dense()
            return self.read(dense.flatten(1, 2))

    teacher, student = Encoder(3), Encoder(2)
    with torch.no_grad():
        teacher.first.weight[2], teacher.first.bias[2] = 0.0, 0.0
        teacher.second.weight[[1, 3]], teacher.second.bias[[1, 3]] = 0.0, 0.0
    rules = [dict(out=['first'], into=['second']), dict(out=['second'], into=[], folded=['read'])]
    assert WeightInheritance(widths=rules).apply(student, teacher).share == 1.0
    places = torch.stack(torch.meshgrid(*map(torch.arange, (1, 2, 3, 3)), indexing='ij'), -1).flatten(0, 3).int()
    x = spconv.SparseConvTensor(torch.randn(18, 1), places, (2, 3, 3), 1)
    torch.testing.assert_close(student(x), teacher(x))


def test_the_newest_frames_are_kept():
    teacher, student = nn.ModuleDict(dict(fuse=nn.Conv2d(12, 1, 1))), nn.ModuleDict(dict(fuse=nn.Conv2d(4, 1, 1)))
    with torch.no_grad():
        teacher['fuse'].weight.copy_(torch.arange(12.0).view(1, 12, 1, 1))
    # Two heights of three frames of two channels: frame 0 is channels 0, 1 and 6, 7.
    WeightInheritance(frames=dict(fuse=dict(teacher=3, student=1, channels=2))).apply(student, teacher)
    assert student['fuse'].weight.flatten().tolist() == [0, 1, 6, 7]
    with pytest.raises(InputError, match='multiple of 5 frames'):
        WeightInheritance(frames=dict(fuse=dict(teacher=5, student=1, channels=2))).apply(student, teacher)


def test_placeholders_make_one_set_for_each_match():
    def blocks(width):
        return nn.Sequential(*[nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, 1)) for _ in range(2)])

    teacher, student = blocks(4), blocks(2)
    with torch.no_grad():
        teacher[0][0].weight[:] = torch.tensor([1.0, 4.0, 3.0, 2.0]).view(4, 1, 1, 1)
        teacher[1][0].weight[:] = torch.tensor([4.0, 1.0, 2.0, 3.0]).view(4, 1, 1, 1)
    report = WeightInheritance(widths=[dict(out=['{i}.0'], into=['{i}.1'])]).apply(student, teacher)
    assert report.share == 1.0
    assert torch.equal(student[0][1].weight, teacher[0][1].weight[:, [1, 2]])
    assert torch.equal(student[1][1].weight, teacher[1][1].weight[:, [0, 3]])


def test_fewer_blocks_take_every_second():
    teacher = nn.ModuleDict(dict(layers=nn.ModuleList([nn.Linear(2, 2) for _ in range(6)])))
    student = nn.ModuleDict(dict(layers=nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])))
    WeightInheritance(depths=['layers']).apply(student, teacher)
    for layer, index in zip(student['layers'], (1, 3, 5), strict=True):
        assert torch.equal(layer.weight, teacher['layers'][index].weight)


def test_embeddings_of_a_grid_are_resized():
    teacher, student = nn.ModuleDict(dict(query=nn.Embedding(64, 2))), nn.ModuleDict(dict(query=nn.Embedding(16, 2)))
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing='ij')
    with torch.no_grad():
        teacher['query'].weight.copy_(torch.stack([rows.flatten(), columns.flatten()], 1))
    WeightInheritance(resize={'query.weight': ((8, 8), (4, 4))}).apply(student, teacher)
    # A ramp stays a ramp: away from the border the middle of two cells is their mean.
    grid = student['query'].weight.detach().reshape(4, 4, 2)
    torch.testing.assert_close(grid[1:3, 1:3, 0], torch.tensor([[2.5, 2.5], [4.5, 4.5]]), atol=0.1, rtol=0)
    torch.testing.assert_close(grid[..., 0].T, grid[..., 1])
    with pytest.raises(InputError, match='not embeddings of the grids'):
        WeightInheritance(resize={'query.weight': ((8, 9), (4, 4))}).apply(student, teacher)


def test_names_may_differ_and_parts_may_be_skipped():
    student, teacher = nn.ModuleDict(dict(a=nn.Linear(2, 2))), nn.ModuleDict(dict(b=nn.Linear(2, 2)))
    report = WeightInheritance(rename={'a.': 'b.'}, skip=['*.bias']).apply(student, teacher)
    assert torch.equal(student['a'].weight, teacher['b'].weight) and report.own == ['a.bias']
    assert report.share == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    'rules, message',
    [
        (dict(widths=[dict(out=['{i}.frist'], into=[])]), "matches '{i}.frist'"),
        (dict(widths=[dict(out=['frist'], into=[])]), "'frist': did you mean 'first'"),
        (dict(widths=[dict(output=['first'])]), "'out' .not empty., 'into'"),
        (dict(widths=[dict(out=['relu'], into=['second'])]), 'has no weight'),
        (dict(widths=[dict(out=['first', 'nrom'], into=['second'])]), "'nrom': did you mean 'norm'"),
        (dict(widths=[dict(out=['first'], into=['secnd'])]), "'secnd': did you mean 'second'"),
        (dict(widths=WIDTHS, rename={'a.': 'b.'}), 'cannot be combined'),
        (dict(resize={'query': ((1, 1), (1, 1))}), "resize 'query'"),
        (dict(skip=['haed.*']), "skip 'haed"),
        (dict(rename={'haed.': 'b.'}), "rename 'haed"),
        (dict(depths=['layers']), "'layers'"),
        (dict(frames={'frist': dict(teacher=2, student=1, channels=3)}), "'frist': did you mean 'first'"),
    ],
)
def test_rules_that_match_nothing_are_errors(rules, message):
    with pytest.raises(InputError, match=message):
        WeightInheritance(**rules).apply(net(0), net(1))


def test_the_distiller_inherits_when_weights_are_initialised():
    teacher = net(1)
    model = Distiller(net(0), dict(a=gap()), teacher=teacher, inherit=True)
    assert not torch.equal(model.student.first.weight, teacher.first.weight)
    model.init_weights()
    assert torch.equal(model.student.first.weight, teacher.first.weight)
    with torch.no_grad():
        model.student.first.weight.zero_()
    assert teacher.first.weight.any()  # a copy, not the same memory
