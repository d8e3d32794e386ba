"""Self attention distillation (SAD) of a lane network: stage 2 mimics stage 3, and stage 3 mimics stage 4.

Weight 0.1, from two thirds of the training on (40 k of 60 k iterations in the paper). The paper's softmax of sums of
squares has no gradient; `sad_norm` is our standardised softmax. `sad_match=1.0` makes the weight a share of the
student's own loss. The log has the entropies of both maps of a pair and the norm of the gradient.
"""

from perception3d.distill.losses.self_attention import SelfAttentionKD

sad_weight, sad_match = 0.1, None
# Shares of the training.
sad_start, sad_ramp = 2 / 3, 0.0
# Power of the activations in the attention map, 1 or more.
sad_p = 2.0
sad_norm, sad_temperature = 'zsoftmax', 1.0

links = {
    name: dict(
        student=student,
        teacher=teacher,
        loss=dict(type=SelfAttentionKD, p=sad_p, norm=sad_norm, temperature=sad_temperature),
        weight=sad_weight,
        match=sad_match,
        start=sad_start,
        ramp=sad_ramp,
        log_gradient=True,
    )
    for name, student, teacher in (('two_three', 'stage2', 'stage3'), ('three_four', 'stage3', 'stage4'))
}
