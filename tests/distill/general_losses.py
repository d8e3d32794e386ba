"""The general losses and their settings in tests, by what they compare."""

from __future__ import annotations

from perception3d.distill.losses.attention_transfer import AttentionTransfer
from perception3d.distill.losses.balance import BalanceDivergence
from perception3d.distill.losses.channel_wise import ChannelWiseKD
from perception3d.distill.losses.correlation import CorrelationCongruence
from perception3d.distill.losses.feature_overhaul import OverhaulKD
from perception3d.distill.losses.fitnets import FeatureMSE
from perception3d.distill.losses.heatmap import HeatmapKD
from perception3d.distill.losses.logits import LogitKL
from perception3d.distill.losses.pearson import PearsonFeatureKD
from perception3d.distill.losses.similarity import SimilarityPreserving

FEATURES = {
    'mse': dict(type=FeatureMSE),
    'mse of a standardised teacher': dict(type=FeatureMSE, normalise=True),
    'channel-wise': dict(type=ChannelWiseKD, tau=2.0),
    'pearson': dict(type=PearsonFeatureKD),
    'overhaul': dict(type=OverhaulKD),
}
LOGITS = {
    'logits': dict(type=LogitKL, tau=2.0),
    'balance': dict(type=BalanceDivergence, tau=2.0, reverse_tau=3.0, reverse_weight=0.5),
    'heatmap': dict(type=HeatmapKD, score_thr=0.3),
    'heatmap without mask': dict(type=HeatmapKD, mask='none'),
}
FREE_OF_CHANNELS = {
    'attention': dict(type=AttentionTransfer),
    'similarity': dict(type=SimilarityPreserving),
    'correlation': dict(type=CorrelationCongruence),
}
