from mmengine.config import read_base

with read_base():
    from ...configs._base_.schedules.averaged import *
    from .distill_config import *
    from .plugin_config import test_cfg

custom_hooks = [averaging]
model.inherit = True
