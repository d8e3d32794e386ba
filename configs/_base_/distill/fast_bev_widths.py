"""Which layers of a Fast-BEV share their channels, for weight inheriting by a narrower student.

For the tiny Fast-BEV: three stages of two basic blocks, a stem narrower than the first stage (so that they share no
channels), one lifted level of three, `num_layers=0`, and the centre head.
"""

fast_bev_widths = [
    dict(out=['backbone.conv1', 'backbone.bn1'], into=['backbone.layer1.0.conv1', 'backbone.layer1.0.downsample.0']),
    # Inside a block, then along the residual trunk of a stage.
    dict(out=['backbone.layer{i}.{j}.conv1', 'backbone.layer{i}.{j}.bn1'], into=['backbone.layer{i}.{j}.conv2']),
    *[
        dict(
            out=[
                f'backbone.layer{stage}.0.bn2',
                f'backbone.layer{stage}.0.conv2',
                f'backbone.layer{stage}.0.downsample.0',
                f'backbone.layer{stage}.0.downsample.1',
                f'backbone.layer{stage}.1.conv2',
                f'backbone.layer{stage}.1.bn2',
            ],
            into=[
                f'backbone.layer{stage}.1.conv1',
                f'neck.lateral_convs.{stage - 1}.conv',
                *(
                    [f'backbone.layer{stage + 1}.0.conv1', f'backbone.layer{stage + 1}.0.downsample.0']
                    if stage < 3
                    else []
                ),
            ],
        )
        for stage in (1, 2, 3)
    ],
    # The levels of the pyramid are summed on their way down, so their laterals share channels.
    dict(
        out=[f'neck.lateral_convs.{level}.{part}' for level in range(3) for part in ('conv', 'bn')],
        into=[f'neck.fpn_convs.{level}.conv' for level in range(3)],
    ),
    dict(
        out=[f'neck.fpn_convs.{level}.{part}' for level in range(3) for part in ('conv', 'bn')],
        into=['neck_fuse.convs.0'],
    ),
    dict(out=['neck_fuse.convs.0'], into=['neck_3d.fuse']),
    dict(
        out=['neck_3d.fuse', 'neck_3d.model.0.conv1.conv', 'neck_3d.model.0.conv1.bn'],
        into=['neck_3d.model.0.conv0.conv', 'neck_3d.model.1.conv'],
    ),
    dict(
        out=['neck_3d.model.0.conv0.conv', 'neck_3d.model.0.conv0.bn'],
        into=['neck_3d.model.0.conv1.conv'],
    ),
    dict(out=['neck_3d.model.1.conv', 'neck_3d.model.1.bn'], into=['bbox_head.shared_conv.conv']),
    dict(out=['bbox_head.shared_conv.conv', 'bbox_head.shared_conv.bn'], into=['bbox_head.out_conv']),
]

# The BEV encoder of a published Fast-BEV alone, within its blocks.
bev_encoder_widths = [
    dict(
        out=['neck_3d.model.0.conv1.conv', 'neck_3d.model.0.conv1.bn'],
        into=['neck_3d.model.0.conv0.conv', 'neck_3d.model.1.conv'],
    ),
    dict(out=['neck_3d.model.0.conv0.conv', 'neck_3d.model.0.conv0.bn'], into=['neck_3d.model.0.conv1.conv']),
]
