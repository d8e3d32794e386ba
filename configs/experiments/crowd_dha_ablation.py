"""The other rows of DHA's grid, and DHA-R of two frames and of cloud and camera, one seed each, as in `crowd_dha.py`.

(a) is stride 8; (d), (e), (f) join three heatmaps by their mean, their largest logit and learned gates; (g) adds the
density, (h) the kernels that follow it, (i) the weights. All are compared with (j), the whole of it.
"""

import runpy
from pathlib import Path

_main = runpy.run_path(str(Path(__file__).with_name('crowd_dha.py')))

name = 'crowd_dha_ablation'
seeds = (0,)
metrics, prepare, options = (_main[key] for key in ('metrics', 'prepare', 'options'))
baseline = 'j'

_ROWS = {
    'a': '../center_point/center_point_pillar_crowd_tiny_stride8_256x256_10e_stcrowd_sim.py',
    **{
        part[0]: f'../dha/dha_{part}_tiny_256x256_10e_stcrowd_sim.py'
        for part in ('d_mean', 'e_max', 'f_learned', 'g_density', 'h_kernel', 'i_weighted')
    },
    'two-frame': '../dha/dha_two_frame_tiny_256x256_10e_stcrowd_sim.py',
    'camera': '../dha/dha_camera_tiny_256x256_10e_stcrowd_sim.py',
}
arms = {'j': _main['arms']['j'], **{row: dict(config=config) for row, config in _ROWS.items()}}
