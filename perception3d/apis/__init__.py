"""What the commands call: configs, runners, training, testing, checkpoints, inference.

The names are imported when they are asked for, so that `--help` of a command does not wait for torch.

>>> from perception3d.apis import load_config
>>> config = load_config('fast_bev_tiny_96x352_9e_sim', {'train_dataloader.batch_size': 2})
>>> config.train_dataloader.batch_size
2
>>> config.model.type
<class 'perception3d.models.fast_bev.detector.FastBEV'>

`train(config)` and `test(config, checkpoint)` do what the commands of these names do.
"""

from __future__ import annotations

from perception3d.public_names import given_names

_HOMES = {
    'apply_options': 'perception3d.apis.config',
    'load_config': 'perception3d.apis.config',
    'parse_options': 'perception3d.apis.option_texts',
    'build_runner': 'perception3d.apis.runner',
    'demo_checkpoint': 'perception3d.checkpoint_files',
    'has_bfloat16': 'perception3d.geometry.devices',
    'load_checkpoint_safely': 'perception3d.checkpoints',
    'load_weights': 'perception3d.checkpoints',
    'Inferencer': 'perception3d.apis.inferencer',
    'run_tool': 'perception3d.apis.cli',
    'dry_run': 'perception3d.apis.training',
    'train': 'perception3d.apis.training',
    'test': 'perception3d.apis.testing',
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = given_names(__name__, lambda: _HOMES)
