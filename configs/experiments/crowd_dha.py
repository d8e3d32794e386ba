"""DHA-R against CenterPoint of strides 2 and 1 on crowds of the built-in world, by STCrowd's metric.

Letters are those of DHA's grid, see `docs/crowds.md`. All arms have the same pillars, channels of the backbone, data
order and seeds; weights are averaged. The map is smaller than in the configs, 19.2 x 25.6 m ahead, where 93 % of the
people are. An iteration of (j) takes as long as one of (b), 0.13 s of one core, and one of (c) three times as long;
`longer` nevertheless trains (b) for a quarter more epochs. The row of (b) is compared with that of (j), so that its
gain over both controls has an interval. `crowd_dha_ablation.py` has the other rows.
"""

name = 'crowd_dha'
seeds = (0, 1, 2, 3, 4)
metrics = (
    'stcrowd/map',
    'stcrowd/ap@0.25',
    'stcrowd/ap@0.5',
    'stcrowd/ar',
    'stcrowd/ar@occ0',
    'stcrowd/ar@occ1',
    'stcrowd/ar@occ2',
    'stcrowd/recall@n2m_0-1',
    'stcrowd/recall@n2m_2-3',
    'stcrowd/recall@n2m_4+',
    'stcrowd/duplicate_rate',
    'stcrowd/merge_rate',
    'stcrowd/mota',
    'stcrowd/idf1',
)
prepare = [
    ['tools/simulate.py', 'stcrowd', '--out', '{out}/data', '--profile', 'crowds'],
    ['tools/create_data.py', 'stcrowd', '--root', '{out}/data'],
]
options = {
    'data_root': '{out}/data',
    'point_cloud_range': [0, -12.8, -4, 19.2, 12.8, 2],
    'pillar_channels': 16,
    'block_channels': [16, 32, 64],
    'neck_channels': 24,
    'head_channels': 24,
    # The peak is ten times this: iterations are few.
    'lr': 0.0002,
    'max_epochs': 8,
    'val_interval': 8,
}
baseline = 'longer'

CENTER_POINT = '../center_point/center_point_pillar_crowd_tiny_stride{}_256x256_10e_stcrowd_sim.py'

arms = {
    'b': dict(config=CENTER_POINT.format(2), baseline='j'),
    'longer': dict(config=CENTER_POINT.format(2), options={'max_epochs': 10, 'val_interval': 10}, baseline=None),
    'c': dict(config=CENTER_POINT.format(1)),
    'j': dict(config='../dha/dha_tiny_256x256_10e_stcrowd_sim.py'),
}
