"""What every config shares: logging, checkpoints, seeds."""

from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.runner import LogProcessor
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend

from perception3d.engine.checkpoint_hook import WholeCheckpointHook
from perception3d.visualization.visualizer import MultiViewVisualizer

default_scope = 'mmdet3d'

default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=50),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=WholeCheckpointHook, interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type=DistSamplerSeedHook),
)

vis_backends = [dict(type=LocalVisBackend)]
visualizer = dict(type=MultiViewVisualizer, vis_backends=vis_backends, name='visualizer')
# TensorBoard is one line in a config that reads this one:
# visualizer.vis_backends = [dict(type=LocalVisBackend), dict(type=TensorboardVisBackend)]

env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict())
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=True)
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
