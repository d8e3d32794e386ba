"""Which layers of PointPillars and SECOND share their channels, for weight inheriting by a narrower student.

`point_pillars_widths` is for blocks of 4, 6 and 6 convolutions, `tiny_pillars_widths` for 2, 3 and 3, `second_widths`
for the sparse encoder of SECOND and blocks of 6 and 6.
"""

_neck = [
    dict(
        out=[f'neck.deblocks.{i}.{part}' for i in range(count) for part in (0, 1)],
        into=['bbox_head.conv_cls', 'bbox_head.conv_reg', 'bbox_head.conv_dir_cls'],
    )
    for count in (2, 3)
]
_blocks = [
    [
        dict(
            out=[f'backbone.blocks.{i}.{3 * j}', f'backbone.blocks.{i}.{3 * j + 1}'],
            into=[f'backbone.blocks.{i}.{3 * j + 3}']
            if j < count - 1
            else [f'neck.deblocks.{i}.0', *([f'backbone.blocks.{i + 1}.0'] if i + 1 < len(counts) else [])],
        )
        for i, count in enumerate(counts)
        for j in range(count)
    ]
    for counts in ((4, 6, 6), (2, 3, 3), (6, 6))
]
_encoder = dict(
    out=['voxel_encoder.pfn_layers.0.linear', 'voxel_encoder.pfn_layers.0.norm'], into=['backbone.blocks.0.0']
)
_sparse = [
    'middle_encoder.conv_input',
    *[
        f'middle_encoder.encoder_layers.encoder_layer{i}.{k}'
        for i, count in ((1, 1), (2, 3), (3, 3), (4, 3))
        for k in range(count)
    ],
    'middle_encoder.conv_out',
]

point_pillars_widths = [_encoder, *_blocks[0], _neck[1]]
tiny_pillars_widths = [_encoder, *_blocks[1], _neck[1]]
second_widths = [
    *[dict(out=[f'{a}.0', f'{a}.1'], into=[f'{b}.0']) for a, b in zip(_sparse, _sparse[1:])],
    # The heights of the sparse map become channels of the dense one.
    dict(out=[f'{_sparse[-1]}.0', f'{_sparse[-1]}.1'], into=[], folded=['backbone.blocks.0.0']),
    *_blocks[2],
    _neck[0],
]
