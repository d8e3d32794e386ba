from __future__ import annotations

from pathlib import Path

import pytest
from mmdet3d.datasets import CBGSDataset
from mmdet3d.datasets.transforms import ObjectRangeFilter
from mmengine.optim import LinearLR, PolyLR, build_optim_wrapper
from torch.optim import AdamW

from perception3d.apis.config import load_config
from perception3d.datasets.transforms.camera_augment import BEVAugment, ImageAugment
from perception3d.formats.nuscenes.info.build import InfoSettings
from perception3d.registry import MODELS, TRANSFORMS

FOLDER = Path(__file__).resolve().parents[3] / 'configs' / 'fast_bev'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))

# Millions of parameters, image size, style, voxels of the first grid, cells along one side of the head's map.
PUBLISHED = {
    'fast_bev_m0_r18_256x704_cbgs20e_nuscenes': (15.45, (256, 704), 'v1', (200, 200, 4)),
    'fast_bev_m1_r18_320x880_cbgs20e_nuscenes': (15.45, (320, 880), 'v1', (200, 200, 4)),
    'fast_bev_m2_r34_256x704_cbgs20e_nuscenes': (29.06, (256, 704), 'v1', (200, 200, 4)),
    'fast_bev_m3_r34_256x704_cbgs20e_nuscenes': (36.44, (256, 704), 'v1', (200, 200, 6)),
    'fast_bev_m4_r50_320x880_cbgs20e_nuscenes': (38.85, (320, 880), 'v1', (250, 250, 6)),
    'fast_bev_m5_r50_512x1408_cbgs20e_nuscenes': (38.85, (512, 1408), 'v1', (250, 250, 6)),
    # Not published; by the layers of the published config.
    'fast_bev_v4_r50_256x704_fliptta_cbgs20e_nuscenes': (37.85, (256, 704), 'v4', (200, 200, 6)),
}


@pytest.fixture(scope='module')
def models():
    """Every config of the folder with its model; built once."""
    loaded = {name: load_config(FOLDER / f'{name}.py') for name in CONFIGS}
    return {name: (config, MODELS.build(config.model)) for name, config in loaded.items()}


def test_every_published_variant_has_a_config():
    assert set(PUBLISHED) <= set(CONFIGS)


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_published_variants_have_the_published_size(models, name):
    config, model = models[name]
    million, image_hw, style, shape = PUBLISHED[name]
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert abs(count - million) <= 0.01
    assert model.style == style
    assert model.view_transforms[0].grid.shape == shape
    assert tuple(config.train_dataloader.dataset.dataset.pipeline[1].final_hw) == image_hw


@pytest.mark.parametrize('name', CONFIGS)
def test_the_parts_of_a_config_agree(models, name):
    config, model = models[name]
    data = config.test_dataloader.dataset
    train = config.train_dataloader.dataset
    while 'dataset' in train:
        train = train.dataset
    sizes = {tuple(part.pipeline[1].final_hw) for part in (train, data, config.val_dataloader.dataset)}
    frames = {part.num_frames for part in (train, data, config.val_dataloader.dataset)}
    assert sizes == {tuple(config.image_hw)}
    assert frames == {config.num_frames}
    lifted = 64 if 'tiny' not in name else model.neck_fuse.convs['0'].out_channels
    heights = [transform.grid.shape[2] for transform in model.view_transforms]
    assert model.neck_3d.fuse.in_channels == lifted * config.num_frames * sum(heights)
    assert config.default_scope == 'mmdet3d'


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_the_published_recipe(models, name):
    # /work/shared/reference/camera.md, sections 1.1, 1.5, 1.6 and 1.8.
    config, model = models[name]
    train = config.train_dataloader
    assert issubclass(train.dataset.type, CBGSDataset) and train.dataset.dataset.num_frames == 4
    assert train.batch_size == 1 and config.auto_scale_lr.base_batch_size == 32
    assert InfoSettings().offsets_s == (-0.5, -1.0, -1.5)

    wrapper = config.optim_wrapper
    multi_scale = name.startswith('fast_bev_v4')
    assert wrapper.optimizer.type is AdamW and wrapper.optimizer.weight_decay == 0.01
    assert wrapper.optimizer.lr == (2e-4 if multi_scale else 4e-4)
    assert wrapper.clip_grad == dict(max_norm=35, norm_type=2)
    assert wrapper.paramwise_cfg.custom_keys == dict(backbone=dict(lr_mult=0.1, decay_mult=1.0))
    warm_up, decay = config.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.begin, warm_up.end) == (LinearLR, 1e-6, 0, 1000)
    assert not warm_up.by_epoch
    assert (decay.type, decay.power, decay.eta_min, decay.begin, decay.end) == (PolyLR, 1.0, 0, 0, 20)
    assert decay.convert_to_iter_based
    assert (config.train_cfg.max_epochs, config.train_cfg.val_interval) == (20, 5)
    assert model.flip_tta == multi_scale


def test_the_backbone_learns_at_a_tenth_of_the_rate(models):
    config, model = models['fast_bev_m0_r18_256x704_cbgs20e_nuscenes']
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    rates = {id(parameter): group['lr'] for group in wrapper.param_groups for parameter in group['params']}
    trained = {name: rates[id(value)] for name, value in model.named_parameters() if value.requires_grad}
    slow = {name for name, rate in trained.items() if rate == pytest.approx(4e-5)}
    assert slow == {name for name in trained if name.startswith('backbone.')} and len(slow) > 30
    assert {rate for name, rate in trained.items() if name not in slow} == {4e-4}


def test_the_published_augmentation(models):
    # Section 1.6 of the sheet.
    for name in PUBLISHED:
        pipeline = models[name][0].train_dataloader.dataset.dataset.pipeline
        built = {type(step): step for step in map(TRANSFORMS.build, pipeline)}
        images, bev = built[ImageAugment], built[BEVAugment]
        assert (images.resize, images.crop) == ((-0.06, 0.11), (-0.05, 0.05))
        assert (images.rotate_deg, images.flip_prob, images.test_mode) == ((-5.4, 5.4), 0.5, False)
        assert (bev.flip_x_prob, bev.flip_y_prob, bev.rotate_rad) == (0.5, 0.5, (-0.3925, 0.3925))
        assert (bev.scale, bev.translate_std_m) == ((0.95, 1.05), 0.05)
        assert list(built[ObjectRangeFilter].pcd_range) == [-50, -50, -5, 50, 50, 3]


def test_published_backbones_keep_their_statistics_and_first_stage(models):
    model = models['fast_bev_m0_r18_256x704_cbgs20e_nuscenes'][1].train()
    assert not model.backbone.bn1.training and not model.backbone.layer4[0].bn1.training
    assert not any(parameter.requires_grad for parameter in model.backbone.layer1.parameters())
    assert model.neck_3d.model[0].conv0.bn.training


def test_the_tiny_variant_learns_everything_and_is_small(models):
    model = models['fast_bev_tiny_96x352_9e_sim'][1].train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.backbone.bn1.training
    assert sum(parameter.numel() for parameter in model.parameters()) < 2.5e6


def test_a_camera_rig_of_ones_own_is_written_once():
    settings = dict(class_names=['van', 'bike'], image_hw=(96, 160), num_frames=2, max_epochs=5,
                    range_m=[-20, -10, -3, 20, 10, 1], voxel_shape=(80, 40, 2), data_root='data/x')  # fmt: skip
    config = load_config(FOLDER / 'fast_bev_m0_r18_256x704_cbgs20e_custom_rig.py', settings)
    model = MODELS.build(config.model)
    for part in (
        config.train_dataloader.dataset.dataset,
        config.val_dataloader.dataset,
        config.test_dataloader.dataset,
    ):
        assert (part.metainfo.classes, part.num_frames, part.data_root) == (['van', 'bike'], 2, 'data/x')
        images = next(step for step in part.pipeline if step.type is ImageAugment)
        assert tuple(images.final_hw) == (96, 160)
    assert model.bbox_head.num_classes == 2 and tuple(model.bbox_head.range_m) == (-20, -10, 20, 10)
    assert model.view_transforms[0].grid.shape == (80, 40, 2) and model.neck_3d.fuse.in_channels == 64 * 2 * 2
    assert config.param_scheduler[-1].end == config.train_cfg.max_epochs == 5
