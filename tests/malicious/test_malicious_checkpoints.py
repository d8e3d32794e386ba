"""Checkpoints that would run code, are damaged or hold no weights are refused, from files and from every address."""

from __future__ import annotations

import functools
import http.server
import io
import threading
import types
import zipfile
from pathlib import Path

import payloads
import pytest
import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from test_malicious_pickles import refused

from perception3d.checkpoints import load_checkpoint_safely, load_weights
from perception3d.checks import InputError


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory):
    """The address of a server on this machine with one malicious and one plain checkpoint."""
    root = tmp_path_factory.mktemp('served')
    (root / 'evil.pth').write_bytes(payloads.CHECKPOINTS['zip'])
    (root / 'old.pth').write_bytes(payloads.CHECKPOINTS['before torch 1.6'])
    torch.save({'state_dict': {'backbone.weight': torch.ones(2, 2)}}, root / 'good.pth')
    with zipfile.ZipFile(root / 'packed.pth', 'w') as archive:
        archive.write(root / 'old.pth', 'old.pth')
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.fixture
def zoo(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Points all lists of models, the folders of downloads and the remote stores to the server's files."""
    from urllib.request import urlopen

    for name in ('TORCH_HOME', 'MMENGINE_HOME'):
        monkeypatch.setenv(name, str(folder / name.lower()))
    models = {name: f'{server}/{name}.pth' for name in ('evil', 'old', 'good')}
    for name in ('get_torchvision_models', 'get_mmcls_models'):
        monkeypatch.setattr(mmengine_checkpoint, name, lambda: dict(models))
    (folder / 'mmengine_home').mkdir()
    (folder / 'mmengine_home' / 'local.pth').write_bytes(payloads.CHECKPOINTS['zip'])
    monkeypatch.setattr(mmengine_checkpoint, 'get_external_models', lambda: {**models, 'local': 'local.pth'})
    store = types.SimpleNamespace(get=lambda path: urlopen(f'{server}/{Path(path).name}').read())
    monkeypatch.setattr(mmengine_checkpoint, 'get_file_backend', lambda *args, **kwargs: store)
    pavi = types.ModuleType('pavi')
    model = types.SimpleNamespace(name='evil.pth', download=lambda path: Path(path).write_bytes(store.get('evil.pth')))
    pavi.modelcloud = types.SimpleNamespace(get=lambda path: model)
    monkeypatch.setitem(__import__('sys').modules, 'pavi', pavi)
    return server


@pytest.mark.parametrize('name', payloads.CHECKPOINTS)
def test_a_checkpoint_is_refused(folder: Path, name: str):
    Path('evil.pth').write_bytes(payloads.CHECKPOINTS[name])
    for load in (load_checkpoint_safely, CheckpointLoader.load_checkpoint):
        assert 'evil.pth' in refused(load, 'evil.pth', map_location='cpu')
    assert 'evil.pth' in refused(load_weights, torch.nn.Linear(2, 2), 'evil.pth')


ADDRESSES = [
    '{server}/evil.pth', '{server}/old.pth', '{server}/packed.pth', '{server}/evil.pth?download=1',
    'torchvision://evil', 'modelzoo://evil', 'open-mmlab://evil', 'openmmlab://old', 'open-mmlab://local',
    'mmcls://evil', 's3://bucket/evil.pth', 'petrel://bucket/old.pth', 'cluster:s3://bucket/evil.pth', 'pavi://evil',
]  # fmt: skip


@pytest.mark.parametrize('address', ADDRESSES)
def test_what_an_address_gives_is_refused(zoo: str, address: str):
    message = refused(CheckpointLoader.load_checkpoint, address.format(server=zoo), map_location='cpu')
    assert 'was refused' in message or 'no checkpoint' in message
    if '{server}' in address:
        assert f'downloaded from {zoo}' in message


def test_an_address_that_is_served_by_tls_goes_the_same_way(zoo: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    def download(url, path, *args, **kwargs):
        Path(path).write_bytes(payloads.CHECKPOINTS['zip'])

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    assert 'was refused' in refused(CheckpointLoader.load_checkpoint, 'https://models.example/evil.pth')


@pytest.mark.parametrize('prefix', [None, 'backbone'])
@pytest.mark.parametrize('address', ['{server}/evil.pth', 'torchvision://evil', 'evil.pth'])
def test_pretrained_weights_of_a_part_are_refused(zoo: str, folder: Path, address: str, prefix: str | None):
    from mmengine.model import BaseModule

    Path('evil.pth').write_bytes(payloads.CHECKPOINTS['zip'])
    init = dict(type='Pretrained', checkpoint=address.format(server=zoo), prefix=prefix)
    part = BaseModule(init_cfg=init)
    part.add_module('layer', torch.nn.Linear(2, 2))
    assert 'was refused' in refused(part.init_weights)


def test_plain_weights_of_an_address_load(zoo: str):
    for address in (f'{zoo}/good.pth', 'torchvision://good', 'mmcls://good'):
        state = CheckpointLoader.load_checkpoint(address)['state_dict']
        assert next(iter(state.values())).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    'address', ['{server}/none.pth', 'torchvision://none', 'none.pth', 'file:///none.pth', '{server}/', 'http://']
)
def test_an_address_that_leads_nowhere_is_one_line(zoo: str, address: str):
    refused(CheckpointLoader.load_checkpoint, address.format(server=zoo))


def test_teachers_and_conversions_refuse(folder: Path):
    from perception3d.apis.weights import convert_weights
    from perception3d.distill.teacher import Teacher

    Path('evil.pth').write_bytes(payloads.CHECKPOINTS['zip'])
    teacher = Teacher(torch.nn.Linear(2, 2), 'evil.pth', [], None)
    assert 'evil.pth was refused' in refused(teacher.network, torch.device('cpu'))
    assert 'evil.pth was refused' in refused(convert_weights, 'evil.pth', 'none.py', 'out.pth')


def test_the_config_text_of_a_checkpoint_does_not_reach_a_resumed_run(folder: Path):
    # mmengine's Runner.resume executes what is stored under this name.
    torch.save({'state_dict': {}, 'meta': {'epoch': 1, 'config': payloads.MODULE, 'cfg': 'a = 1'}}, 'a.pth')
    assert CheckpointLoader.load_checkpoint('a.pth')['meta'] == {'epoch': 1, 'cfg': 'a = 1'}


def flipped(content: bytes, tensor: torch.Tensor) -> bytes:
    """Content with one bit of the first value of `tensor` turned over."""
    at = content.index(tensor.numpy().tobytes()) + 3
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Weights of `model`, with a batch norm's integer."""
    torch.manual_seed(0)
    return model().state_dict()


def model() -> torch.nn.Module:
    """A layer and a batch norm."""
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))


def saved(content: object, **settings) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **settings)
    return file.getvalue()


def test_a_flipped_bit_is_reported_with_its_tensor(folder: Path, state: dict):
    Path('a.pth').write_bytes(flipped(saved({'state_dict': state}), state['0.weight']))
    assert 'its tensor 0.weight is damaged' in refused(load_weights, model(), 'a.pth')
    Path('b.pth').write_bytes(
        flipped(saved({'state_dict': state, 'optimizer': [state['0.bias'] + 1]}), state['0.bias'] + 1)
    )
    assert 'its tensor optimizer.0 is damaged' in refused(load_checkpoint, model(), 'b.pth')


@pytest.mark.parametrize('place', range(60, 2000, 97))
def test_no_damage_passes(folder: Path, state: dict, place: int):
    content = bytearray(saved({'state_dict': state}))
    content[place] ^= 0x10
    Path('a.pth').write_bytes(content)
    try:
        load_weights(model(), 'a.pth')
    except InputError as error:
        assert 'a.pth' in str(error)
        return
    # Some bytes are padding or a name that nobody reads: then the weights are those that were saved.
    loaded = load_checkpoint_safely('a.pth')['state_dict']
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_compressed_and_overlapping_records_are_refused(folder: Path, state: dict):
    with zipfile.ZipFile(io.BytesIO(saved({'state_dict': state}))) as source:
        with zipfile.ZipFile('a.pth', 'w', zipfile.ZIP_DEFLATED) as target:
            for record in source.infolist():
                target.writestr(record.filename, source.read(record))
    assert 'compressed' in refused(load_weights, model(), 'a.pth')


def test_a_file_without_checksums_loads(folder: Path, state: dict):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'state_dict': state}, 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_weights(model(), 'a.pth') == {}


def broken(state: dict, fault: str) -> dict:
    """Weights that torch loads without a word."""
    state = dict(state)
    if fault == 'integers':
        state['0.weight'] = state['0.weight'].long()
    elif fault == 'floats for an integer':
        state['1.num_batches_tracked'] = torch.tensor(1.5)
    elif fault == 'no tensor':
        state['0.weight'] = [1.0]
    elif fault == 'sparse':
        state['0.weight'] = state['0.weight'].to_sparse()
    elif fault == 'meta':
        state['0.weight'] = state['0.weight'].to('meta')
    else:
        state['1.running_var'] = state['1.running_var'].clone()
        state['1.running_var'][2] = float(fault)
    return state


BROKEN = {
    'nan': '1.running_var holds NaN', 'inf': '1.running_var with infinite values', 'integers': '0.weight int64',
    'floats for an integer': '1.num_batches_tracked float32', 'no tensor': '0.weight is a list',
    '-1': '1.running_var with a variance below zero', 'sparse': '0.weight sparse_coo',
    'meta': '0.weight has no values',
}  # fmt: skip


@pytest.mark.parametrize('fault', BROKEN)
@pytest.mark.parametrize('legacy', [False, True])
def test_what_cannot_be_weights_is_reported_with_its_tensor(folder: Path, state: dict, fault: str, legacy: bool):
    content = {'state_dict': broken(state, fault)}
    Path('a.pth').write_bytes(saved(content, _use_new_zipfile_serialization=not legacy))
    assert BROKEN[fault] in refused(load_weights, model(), 'a.pth')
    if fault != 'no tensor':
        assert BROKEN[fault] in refused(load_checkpoint, model(), 'a.pth')


def test_weights_of_8_bit_floats_load_unless_they_are_nan(folder: Path, state: dict):
    state['0.weight'] = torch.ones_like(state['0.weight']).to(torch.float8_e4m3fn)
    Path('a.pth').write_bytes(saved({'state_dict': state}))
    loaded = model()
    load_weights(loaded, 'a.pth')
    assert bool((loaded[0].weight == 1).all())
    state['0.weight'] = torch.full_like(state['0.weight'].float(), float('nan')).to(torch.float8_e4m3fn)
    Path('a.pth').write_bytes(saved({'state_dict': state}))
    assert '0.weight holds NaN' in refused(load_weights, model(), 'a.pth')


def test_infinite_values_of_the_model_itself_load(folder: Path):
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('mask', torch.tensor([0.0, float('-inf')]))
            self.register_buffer('large', torch.full((2,), 3e38))

    torch.save(Masked().state_dict(), 'a.pth')
    load_weights(Masked(), 'a.pth')
    load_checkpoint(Masked(), 'a.pth', strict=True)
