"""Links of structured distillation between BEVFormer-small and BEVFormer-tiny: three encoder layers, two grids."""

from mmengine.config import read_base

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.attention_update import AttentionUpdateKD
from perception3d.distill.losses.fused_feature import FusedFeatureKD

with read_base():
    from .bev_links import timing

grids = ((50, 50), (150, 150))
links = dict(
    fused=dict(
        student='encoder',
        teacher='encoder',
        adapter=dict(type=ConvAdapter, in_channels=256, out_channels=256),
        loss=dict(type=FusedFeatureKD, resample='bilinear'),
        weight=0.4,
        **timing,
    ),
    # The last block of each: what the cameras add, and what the frame before adds.
    **{
        name: dict(
            student=f'encoder.layers.2.{block}',
            teacher=f'encoder.layers.2.{block}',
            loss=dict(
                type=AttentionUpdateKD,
                student_input=f'encoder.layers.2.{block}:input[0]',
                teacher_input=f'encoder.layers.2.{block}:input[0]',
                grids=grids,
            ),
            weight=0.1,
            **timing,
        )
        for name, block in (('cameras', 'spatial_attention'), ('frames', 'temporal_attention'))
    },
)
