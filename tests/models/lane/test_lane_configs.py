"""The shipped configs of lane networks: sizes, inputs that fit the data, and one step of the small ones."""

from __future__ import annotations

import inspect

import pytest
import torch
from lane_batches import lane_batch
from lane_trees import write_culane_tree
from mmengine.dataset import pseudo_collate
from shipped import CONFIGS, config_path

from perception3d.apis.config import load_config
from perception3d.formats.culane.info import create_infos
from perception3d.models.lane.mask_decoder import MaskDecoder
from perception3d.registry import DATASETS, MODELS

# Millions of parameters.
PARAMETERS = {
    'enet_208x976_12e_culane': 0.930,
    'enet_288x800_12e_culane': 0.998,
    'enet_288x800_12e_custom_lanes': 0.998,
    'enet_288x960_12e_llamas': 1.113,
    'enet_360x640_12e_bdd100k_lane': 0.384,
    'enet_368x640_50e_tusimple': 1.012,
    'enet_paper_288x800_8e_culane': 0.998,
    'enet_release_208x976_14e_culane': 0.930,
    'enet_tiny_112x256_10e_tusimple_sim': 0.495,
    'enet_tiny_96x256_overfit_sample': 0.484,
    'erfnet_208x976_12e_culane': 2.609,
    'erfnet_288x800_12e_culane': 2.677,
    'erfnet_360x640_12e_bdd100k_lane': 2.063,
    'erfnet_368x640_50e_tusimple': 2.690,
    'lane_resnet_r101_208x976_12e_culane': 43.308,
    'lane_resnet_r18_208x976_12e_culane': 11.788,
    'lane_resnet_r18_288x800_12e_culane': 11.857,
    'lane_resnet_r18_360x640_12e_bdd100k_lane': 11.243,
    'lane_resnet_r18_368x640_50e_tusimple': 11.870,
    'lane_resnet_r34_208x976_12e_culane': 21.896,
    'scnn_208x976_8e_culane': 20.674,
    'scnn_360x640_12e_bdd100k_lane': 20.165,
    'scnn_368x640_50e_tusimple': 20.991,
    'scnn_paper_288x800_8e_culane': 20.742,
}


@pytest.fixture(scope='module')
def configs():
    return {name: load_config(config_path(name)) for name in PARAMETERS}


def test_all_configs_have_the_sizes_that_they_state(configs):
    folders = ('enet', 'erfnet', 'lane_resnet', 'scnn')
    shipped = {path.stem for folder in folders for path in (CONFIGS / folder).glob('*.py')}
    assert PARAMETERS.keys() >= {name for name in shipped if not name.endswith('_sim')}
    for name, config in configs.items():
        with torch.device('meta'):
            model = MODELS.build(config.model)
        size = sum(value.numel() for value in model.parameters()) / 1e6
        assert size == pytest.approx(PARAMETERS[name], abs=0.0006), name


def test_the_network_takes_what_the_pipelines_make(configs):
    for name, config in configs.items():
        net = config.model.net
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            dataset = loader.dataset.get('dataset', loader.dataset)
            (resize,) = [step for step in dataset.pipeline if 'input_hw' in step]
            assert list(resize.input_hw) == list(net.input_hw), name
            # The classes of the data are the lanes of the network; those of custom lanes are in their info file.
            classes = dataset.type.default_classes or range(4)
            assert len(classes) == net.num_lanes, name
        assert config.auto_scale_lr.base_batch_size == config.train_dataloader.batch_size or 'tiny' in name


def test_without_existence_the_result_is_a_mask_of_pixels():
    model = load_config(config_path('enet_208x976_12e_culane'), {'exist': False}).model
    assert model.net.exist is False and set(model.losses) == {'seg', 'iou'} and model.decoder == {'type': MaskDecoder}


def test_settings_of_the_decoder_are_stated_with_its_defaults(configs):
    stated = dict(configs['enet_208x976_12e_culane'].model.decoder)
    defaults = inspect.signature(stated.pop('type')).parameters
    assert {'threshold', 'exist_threshold', 'kernel', 'row_step_px', 'num_rows', 'smooth_px'} == stated.keys()
    assert stated == {name: defaults[name].default for name in stated}


@pytest.mark.parametrize('name', [name for name in PARAMETERS if 'tiny' in name])
def test_a_step_and_a_prediction_of_the_small_ones(name, configs):
    torch.manual_seed(0)
    config = configs[name].model
    model = MODELS.build(config)
    model.init_weights()
    batch = lane_batch(tuple(config.net.input_hw), config.net.num_lanes)
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    with torch.no_grad():
        samples = model.eval()(**model.data_preprocessor(lane_batch(tuple(config.net.input_hw))), mode='predict')
    assert all('pred_lanes' in sample for sample in samples)


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    root = write_culane_tree(tmp_path_factory.mktemp('culane'))
    create_infos(root, jobs=1, progress=False)
    return root


def test_an_image_of_a_data_set_gets_a_loss_and_a_result_file(tree, tmp_path):
    options = dict(data_root=str(tree), crop_top_px=20, input_hw=[32, 64])
    config = load_config(config_path('enet_208x976_12e_culane'), options)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.decoder.threshold = model.decoder.exist_threshold = 0.0
    sets = {name: DATASETS.build(config[f'{name}_dataloader'].dataset) for name in ('train', 'test')}
    batch = pseudo_collate([sets['train'][k] for k in range(2)])
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    assert all(torch.isfinite(value) for value in losses.values())
    batch = pseudo_collate([sets['test'][0]])
    with torch.no_grad():
        (sample,) = model.eval()(**model.data_preprocessor(batch, False), mode='predict')
    # Rows 60, 40, .. of 60, of which those above the crop are not seen.
    assert [list(line[:, 1]) for line in sample.pred_lanes.polylines] == [[59, 39]] * 4
    assert sets['test'].write_result(sample, tmp_path / 'a.lines.txt')
    lines = (tmp_path / 'a.lines.txt').read_text().splitlines()
    assert [[float(word) for word in line.split()] for line in lines] == [
        line.ravel().tolist() for line in sample.pred_lanes.polylines
    ]
