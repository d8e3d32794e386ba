"""Other lane networks, with and without SAD, and SAD by other settings, on the data of `lane_sad.py`.

The same schedule for all, weights are averaged. The last two, a network for any number of lanes and CLRNet, have larger
images, 104x488, and one seed.
"""

import runpy
from pathlib import Path

_main = runpy.run_path(str(Path(__file__).with_name('lane_sad.py')))

name = 'lane_others'
seeds = (0, 1)
metrics, scale, unscaled, prepare = (_main[key] for key in ('metrics', 'scale', 'unscaled', 'prepare'))
options = {'data_root': '{out}/data', 'max_epochs': 6, 'val_interval': 6}
baseline = None

END = '_56x256_10e_culane_sim.py'
ENET, ERFNET, RESNET = (
    f'../enet/enet_tiny{END}',
    f'../erfnet/erfnet_tiny{END}',
    f'../lane_resnet/lane_resnet_r18_tiny{END}',
)


def _sad(config, student, baseline, **options):
    return dict(config=f'../lane_sad/{config}{END}', options=options, test_config=student, baseline=baseline)


arms = {
    'enet': dict(config=ENET),
    'enet-sad': _sad('lane_sad_enet_tiny', ENET, 'enet'),
    # Maps by the standardised softmax.
    'enet-sad-softmax': _sad('lane_sad_enet_tiny', ENET, 'enet', sad_norm='zsoftmax'),
    'enet-sad-from-start': _sad('lane_sad_enet_tiny', ENET, 'enet', sad_start=0.0),
    'erfnet': dict(config=ERFNET),
    'erfnet-sad': _sad('lane_sad_erfnet_tiny', ERFNET, 'erfnet'),
    'resnet-18': dict(config=RESNET),
    'resnet-18-sad': _sad('lane_sad_resnet_r18_tiny', RESNET, 'resnet-18'),
    'scnn': dict(config=f'../scnn/scnn_tiny{END}'),
    'agnostic': dict(config='../lane_agnostic/lane_agnostic_enet_tiny_104x488_10e_culane_sim.py', seeds=(0,)),
    'clrnet-r18': dict(config='../clrnet/clrnet_r18_tiny_104x488_10e_culane_sim.py', seeds=(0,)),
}
