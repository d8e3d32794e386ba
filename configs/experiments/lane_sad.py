"""SAD and IntRA-KD of an ENet in the built-in world, small images, by CULane's metric and categories.

The student of all rows is the same network with the same data order and seeds; weights are averaged. `longer` trains
without distillation for the time that the more expensive of the two, IntRA-KD, takes. One teacher, a ResNet-101 of a
quarter of the width, serves all seeds of IntRA-KD, in every second iteration. `lane_others.py` has other networks.
The row of the student is compared with that of SAD, so that the gain over both controls has an interval.
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
)
scale = 100.0
prepare = [
    ['tools/simulate.py', 'culane', '--out', '{out}/data', '--profile', 'lanes'],
    ['tools/create_data.py', 'culane', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data', 'max_epochs': 10, 'val_interval': 10}
baseline = 'longer'

TEACHER = '../lane_resnet/lane_resnet_r101_tiny_56x256_10e_culane_sim.py'
STUDENT = '../enet/enet_tiny_56x256_10e_culane_sim.py'

arms = {
    'teacher': dict(config=TEACHER, seeds=(0,), baseline=None),
    'student': dict(config=STUDENT, baseline='sad'),
    # An iteration of IntRA-KD takes as long as 1.3 iterations of the student.
    'longer': dict(config=STUDENT, options={'max_epochs': 13, 'val_interval': 13}, baseline=None),
    'sad': dict(config='../lane_sad/lane_sad_enet_tiny_56x256_10e_culane_sim.py', test_config=STUDENT),
    'intra-kd': dict(
        config='../intra_kd/intra_kd_enet_tiny_56x256_10e_culane_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', 'link_every': 2},
        test_config=STUDENT,
    ),
}
