"""IntRA-KD between two lane networks: class probabilities, attention maps and affinities of regions.

Weight 0.1 each (recalled). The authors released no code of it: which stages are compared is ours. The weights are
shares of the student's own loss, since attention maps alone differ by thousandths; `link_match=None` makes them plain
factors. `link_every=k` distils in one of k iterations with k times the weight.
"""

from perception3d.distill.losses.attention_transfer import AttentionTransfer
from perception3d.distill.losses.inter_region import InterRegionKD
from perception3d.distill.losses.logits import LogitKL

class_names = ['left-2', 'left-1', 'right-1', 'right-2']
link_weight, link_match, link_every = 0.1, 1.0, 1
# Pixels over which labels are blurred.
area_kernel = 5

links = {
    name: dict(student=tap, teacher=tap, loss=loss, weight=link_weight, match=link_match, every=link_every)
    for name, tap, loss in (
        ('probabilities', 'seg_logits', dict(type=LogitKL)),
        ('attention_3', 'stage3', dict(type=AttentionTransfer, resample='bilinear')),
        ('attention_4', 'stage4', dict(type=AttentionTransfer, resample='bilinear')),
        ('regions_3', 'stage3', dict(type=InterRegionKD, num_classes=1 + len(class_names), kernel=area_kernel)),
        ('regions_4', 'stage4', dict(type=InterRegionKD, num_classes=1 + len(class_names), kernel=area_kernel)),
    )
}
