"""SAD and IntRA-KD of an ENet in the built-in world, small images, by CULane's metric and categories.

The student of all rows is the same network with the same data order and seeds; weights are averaged. Two rows train
without distillation for as long as the distilled ones take, or longer: `longer` for a seventh longer, since SAD costs
2 % of an iteration, and `longer-intra-kd` for three sevenths, since IntRA-KD, in every fourth iteration, costs 42 %.
One teacher, a ResNet-101 of a quarter of the width, serves all seeds of IntRA-KD. `lane_others.py` has other networks.
The row of the student is compared with that of SAD, so that the gain over both controls has an interval. Of
crossroads, which have no lanes, the number of false ones is counted.
"""

name = 'lane_sad'
seeds = (0, 1, 2, 3, 4)
metrics = (
    'culane/f1',
    'culane/f1/normal',
    'culane/f1/crowd',
    'culane/f1/hlight',
    'culane/f1/shadow',
    'culane/f1/noline',
    'culane/f1/arrow',
    'culane/f1/curve',
    'culane/f1/night',
    'culane/fp/cross',
)
scale, unscaled = 100.0, ('culane/fp/cross',)
prepare = [
    ['tools/simulate.py', 'culane', '--out', '{out}/data', '--profile', 'lanes'],
    ['tools/create_data.py', 'culane', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data', 'max_epochs': 7, 'val_interval': 7}
baseline = 'longer'

TEACHER = '../lane_resnet/lane_resnet_r101_tiny_56x256_10e_culane_sim.py'
STUDENT = '../enet/enet_tiny_56x256_10e_culane_sim.py'

arms = {
    'teacher': dict(config=TEACHER, options={'max_epochs': 10, 'val_interval': 10}, seeds=(0,), baseline=None),
    'student': dict(config=STUDENT, baseline='sad'),
    'longer': dict(config=STUDENT, options={'max_epochs': 8, 'val_interval': 8}, baseline=None),
    'longer-intra-kd': dict(config=STUDENT, options={'max_epochs': 10, 'val_interval': 10}, baseline=None),
    'sad': dict(config='../lane_sad/lane_sad_enet_tiny_56x256_10e_culane_sim.py', test_config=STUDENT),
    'intra-kd': dict(
        config='../intra_kd/intra_kd_enet_tiny_56x256_10e_culane_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', 'link_every': 4},
        test_config=STUDENT,
        baseline='longer-intra-kd',
    ),
}
