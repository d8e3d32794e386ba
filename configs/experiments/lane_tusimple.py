"""SAD of an ENet in the built-in world in TuSimple's format, by TuSimple's accuracy and rates.

The student of all rows is the same network with the same data order and seeds; weights are averaged. `longer` trains
without distillation for an eighth longer, SAD costs 2 % of an iteration. The row of the student is compared with that
of SAD, so that the gain over both controls has an interval.
"""

name = 'lane_tusimple'
seeds = (0, 1, 2)
metrics = ('tusimple/accuracy', 'tusimple/fp', 'tusimple/fn', 'tusimple/f1')
scale = 100.0
prepare = [
    ['tools/simulate.py', 'tusimple', '--out', '{out}/data', '--profile', 'lanes'],
    ['tools/create_data.py', 'tusimple', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data', 'max_epochs': 16, 'val_interval': 16}
baseline = 'longer'

STUDENT = '../enet/enet_tiny_112x256_10e_tusimple_sim.py'

arms = {
    'student': dict(config=STUDENT, baseline='sad'),
    'longer': dict(config=STUDENT, options={'max_epochs': 18, 'val_interval': 18}, baseline=None),
    'sad': dict(config='../lane_sad/lane_sad_enet_tiny_112x256_10e_tusimple_sim.py', test_config=STUDENT),
}
