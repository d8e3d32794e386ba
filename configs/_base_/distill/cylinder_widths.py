"""Which layers of Cylinder3D share their channels, for weight inheriting by a narrower student.

For networks with a refinement branch. Layers are named as in a `PointSegmentor`.
"""

# Widths of the hidden layers of the point network, as of `models/cylinder3d`: a pair with others states them above its
# bases.
point_hidden = [64, 128, 256]

cylinder_widths = [
    # What the point network gives is added to what refines it. PVD's students have the same width here, or half.
    dict(
        # Its last layer: a norm of the input, then a linear layer, a norm and an activation for each hidden one.
        out=[f'net.point_mlp.{3 * len(point_hidden) + 1}', 'net.refine.linear', 'net.refine.norm'],
        into=['net.compress.0', 'net.refine.classifier'],
    ),
    dict(out=['net.compress.0'], into=['net.context.first.0.conv', 'net.context.second.0.conv']),
    # Between the convolutions of each branch; then the sum of both branches.
    dict(
        out=['net.context.{branch}.0.conv', 'net.context.{branch}.0.norm'],
        into=['net.context.{branch}.1.conv'],
    ),
    dict(
        out=[f'net.context.{i}.1.{part}' for i in ('first', 'second') for part in ('conv', 'norm')],
        into=['net.down.0.block.first.0.conv', 'net.down.0.block.second.0.conv'],
    ),
    dict(
        out=['net.down.{k}.block.{branch}.0.conv', 'net.down.{k}.block.{branch}.0.norm'],
        into=['net.down.{k}.block.{branch}.1.conv'],
    ),
    # A skip connection is added to what comes up to its level.
    *[
        dict(
            out=[
                *(
                    f'net.down.{k}.block.{branch}.1.{part}'
                    for branch in ('first', 'second')
                    for part in ('conv', 'norm')
                ),
                f'net.up.{3 - k}.up',
            ],
            into=[f'net.down.{k}.pool', f'net.up.{3 - k}.after.0.conv'],
        )
        for k in range(4)
    ],
    *[
        dict(
            out=[f'net.down.{k}.pool'],
            into=[f'net.down.{k + 1}.block.first.0.conv', f'net.down.{k + 1}.block.second.0.conv'],
        )
        for k in range(3)
    ],
    dict(out=['net.down.3.pool'], into=['net.up.0.before.conv']),
    dict(out=['net.up.{k}.before.conv', 'net.up.{k}.before.norm'], into=['net.up.{k}.up']),
    dict(out=['net.up.{k}.after.0.conv', 'net.up.{k}.after.0.norm'], into=['net.up.{k}.after.1.conv']),
    dict(out=['net.up.{k}.after.1.conv', 'net.up.{k}.after.1.norm'], into=['net.up.{k}.after.2.conv']),
    *[
        dict(
            out=[f'net.up.{k}.after.2.conv', f'net.up.{k}.after.2.norm'],
            into=[f'net.up.{k + 1}.before.conv'],
        )
        for k in range(3)
    ],
    # The context module multiplies each channel by a gate; both heads read its output next to its input.
    dict(
        out=[
            'net.up.3.after.2.norm',
            'net.up.3.after.2.conv',
            *(f'net.ddcm.{part}.{i}' for part in ('convs', 'norms') for i in range(3)),
        ],
        into=[*(f'net.ddcm.convs.{i}' for i in range(3)), 'net.voxel_head.conv', 'net.refine.linear'],
    ),
]
