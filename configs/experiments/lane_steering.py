"""FM-Net: the steering angle from one image, with and without features of other tasks, in the built-in world.

The student of all rows is the same network with the same data order and seeds; weights are averaged. `longer` trains
alone for the time that the mimicking takes. The two teachers, a network of classes and one of depths, are trained once,
on the same images.
"""

name = 'lane_steering'
seeds = (0, 1, 2, 3, 4)
metrics = ('steering/mae_deg', 'steering/rmse_deg')
FOLDER = 'configs/fm_net'
END = 'tiny_64x256_12e_culane_sim.py'
TEACHER_EPOCHS = 7


def _teacher(task):
    """The command that trains a teacher."""
    options = ['data_root={out}/data', f'max_epochs={TEACHER_EPOCHS}', f'val_interval={TEACHER_EPOCHS}']
    return [
        'tools/train.py', f'{FOLDER}/fm_net_scene_{task}_{END}', '--work-dir', f'{{out}}/scene_{task}',
        '--cfg-options', *options, 'randomness.seed=0',
    ]  # fmt: skip


prepare = [
    ['tools/simulate.py', 'culane', '--out', '{out}/data', '--profile', 'lanes'],
    ['tools/create_data.py', 'culane', '--root', '{out}/data'],
    _teacher('classes'),
    _teacher('depth'),
]
options = {'data_root': '{out}/data', 'max_epochs': 9, 'val_interval': 9}
baseline = 'longer'

STUDENT = f'../fm_net/fm_net_steering_{END}'

arms = {
    'student': dict(config=STUDENT),
    # An iteration of the mimicking takes as long as two of the student, loading of images included.
    'longer': dict(config=STUDENT, options={'max_epochs': 18, 'val_interval': 18}, baseline=None),
    'fm-net': dict(
        config=f'../fm_net/fm_net_{END}',
        options={
            'model.teacher.segmentation.checkpoint': f'{{out}}/scene_classes/epoch_{TEACHER_EPOCHS}.pth',
            'model.teacher.depth.checkpoint': f'{{out}}/scene_depth/epoch_{TEACHER_EPOCHS}.pth',
        },
        test_config=STUDENT,
    ),
}
