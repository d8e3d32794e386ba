"""Self attention distillation (SAD) of a lane network: stage 2 mimics stage 3, and stage 3 mimics stage 4.

Weight 0.1, from two thirds of the training on (40 k of 60 k iterations in the paper). Maps are divided by their norm
(`sad_norm='l2'`), which is ours: the paper's softmax of sums of squares has no gradient, and under the standardised
softmax, `zsoftmax`, maps became one-hot in the course of a training, at the plain weight 0.1 and more so as a share of
the student's own loss (`sad_match=1.0`). The log has the entropies of both maps of a pair, near 0 where one is one-hot,
and the norm of the gradient.
"""

from perception3d.distill.losses.self_attention import SelfAttentionKD

sad_weight, sad_match = 0.1, None
# Shares of the training.
sad_start, sad_ramp = 2 / 3, 0.0
# Power of the activations in the attention map, 1 or more.
sad_p = 2.0
sad_norm, sad_temperature = 'l2', 1.0

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
