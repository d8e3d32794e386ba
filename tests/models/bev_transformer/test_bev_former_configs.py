from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

FOLDER = Path(__file__).resolve().parents[3] / 'configs' / 'bev_former'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
TINY, SMALL, BASE = (
    f'bev_former_{name}_24e_nuscenes'
    for name in ('tiny_r50_450x800', 'small_r101dcn_720x1280', 'base_r101dcn_900x1600')
)
SIM = 'bev_former_tiny_96x352_9e_sim'

# Millions of parameters as published, and by the layers of the released configs (derived, exact).
PUBLISHED = {
    # 33.5: model card of the conversion hasanfaesal/bevformer-tiny of the released weights.
    TINY: (33.5, 33_520_379),
    # 59.1: QD-BEV (arXiv 2308.10515) states 28.2 MB for all weights in 4 bits; MB taken as 2^20 bytes.
    SMALL: (59.1, 59_462_841),
    # 69: model zoo of alibaba/EasyCV, bevformer_base_r101_dcn_nuscenes.
    BASE: (69.0, 69_034_937),
}
# Image size, frames, pillars along a side, encoder layers, levels.
SETTINGS = {
    TINY: ((450, 800), 3, 50, 3, 1),
    SMALL: ((720, 1280), 3, 150, 3, 1),
    BASE: ((900, 1600), 4, 200, 6, 4),
}


@pytest.fixture(scope='module')
def models():
    """Every config of the folder with its model; weights are shapes without numbers."""
    loaded = {name: load_config(FOLDER / f'{name}.py') for name in CONFIGS}
    with torch.device('meta'):
        return {name: (config, MODELS.build(config.model)) for name, config in loaded.items()}


def test_every_variant_has_a_config():
    assert {*PUBLISHED, SIM} <= set(CONFIGS)


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_published_variants_have_the_published_size(models, name):
    count = sum(parameter.numel() for parameter in models[name][1].parameters())
    million, exact = PUBLISHED[name]
    assert abs(count / 1e6 - million) < 0.01 * million
    assert count == exact


def test_the_parts_of_the_base_model_have_the_sizes_of_their_layers(models):
    """Derived by hand from the released layer list, C = 256."""
    model = models[BASE][1]
    linear = 256 * 256 + 256
    norms, ffn = 3 * 512, 256 * 512 + 512 + 512 * 256 + 256
    # Two maps, 8 heads, 4 points: offsets and weights from 512 channels; values and output.
    temporal = 513 * (2 * 8 * 4 * 3) + 2 * linear
    # 8 heads, 4 levels, 8 points.
    spatial = 257 * (8 * 4 * 8 * 3) + 2 * linear
    layer = model.encoder.layers[0]
    parts = [layer.temporal_attention, layer.spatial_attention, layer.ffn, layer.norms, layer]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [temporal, spatial, ffn, norms, temporal + spatial + ffn + norms]
    embeddings = 200 * 200 * 256 + 2 * 200 * 128 + (4 + 6) * 256
    signals = 19 * 128 + 129 * 256 + 512
    assert sum(p.numel() for p in model.encoder.parameters()) == 6 * counts[-1] + embeddings + signals
    decoder = (256 * 768 + 768 + linear) + (257 * 8 * 4 * 3 + 2 * linear) + ffn + norms
    branches = 2 * (linear + 512) + 257 * 10 + 2 * linear + 257 * 10
    assert sum(p.numel() for p in model.bbox_head.parameters()) == 6 * (decoder + branches) + 900 * 512 + 257 * 3


@pytest.mark.parametrize('name', sorted(SETTINGS))
def test_published_variants_have_the_published_settings(models, name):
    config, model = models[name]
    image_hw, frames, side, layers, levels = SETTINGS[name]
    assert (tuple(config.image_hw), config.num_frames) == (image_hw, frames)
    assert model.encoder.grid.shape == (side, side)
    assert model.encoder.grid.range_m == (-51.2, -51.2, 51.2, 51.2)
    assert (len(model.encoder.layers), len(model.encoder.level_embeds)) == (layers, levels)
    assert (len(model.bbox_head.layers), model.bbox_head.query_embedding.num_embeddings) == (6, 900)
    dcn = [hasattr(stage[0].conv2, 'conv_offset') for stage in (model.backbone.layer2, model.backbone.layer3)]
    assert dcn == [False, name != TINY]
    assert not any(parameter.requires_grad for parameter in model.backbone.layer1.parameters())
    assert config.optim_wrapper.optimizer.lr == 2e-4
    assert config.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    assert config.train_cfg.max_epochs == 24
    range_filter = config.train_dataloader.dataset.pipeline[-2]
    assert list(range_filter.point_cloud_range) == [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]


@pytest.mark.parametrize('name', CONFIGS)
def test_the_parts_of_a_config_agree(models, name):
    config, model = models[name]
    data = [config[key].dataset for key in ('train_dataloader', 'val_dataloader', 'test_dataloader')]
    assert {tuple(part.pipeline[1].final_hw) for part in data} == {tuple(config.image_hw)}
    assert {part.num_frames for part in data} == {config.num_frames}
    assert len(model.neck.fpn_convs) == len(model.encoder.level_embeds)
    assert config.default_scope == 'mmdet3d'


def test_deformable_convolutions_of_the_backbone_run_on_this_machine():
    config = load_config(FOLDER / f'{SMALL}.py').model.backbone
    config.update(depth=50, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), base_channels=4,
                  stem_channels=4, stage_with_dcn=(False, False, True), with_cp=False)  # fmt: skip
    backbone = MODELS.build(config)
    backbone.train()
    (found,) = backbone(torch.randn(1, 3, 32, 32))
    found.sum().backward()
    assert found.shape == (1, 64, 2, 2)
    assert backbone.layer3[0].conv2.weight.grad.isfinite().all()


def test_the_tiny_variant_learns_everything_and_is_small(models):
    model = models[SIM][1].train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.backbone.bn1.training
    assert sum(parameter.numel() for parameter in model.parameters()) < 0.4e6
    assert model.encoder.grid.heights_m[0] == model.ground_z_m
    assert model.encoder.grid.range_m == tuple(model.bbox_head.range_m)
