"""Pickles and arrays that would run code or crash are refused in one line, wherever a file of data is read."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path

import numpy as np
import payloads
import pytest

from perception3d.checks import InputError
from perception3d.datasets.camera_frames import read_infos
from perception3d.datasets.cloud_files import cloud_sample
from perception3d.datasets.frame_infos import read_frame_infos
from perception3d.datasets.point_clouds import read_cloud
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.experiment.plan import read_experiment
from perception3d.files import read_image, read_json, read_pickle
from perception3d.pickles import check_tensor_pickle, load_plain_pickle
from perception3d.visualization.sample import read_xyz


def refused(read, *args, **settings) -> str:
    """Returns the one line of the InputError that `read` ends with."""
    with pytest.raises(InputError) as caught:
        read(*args, **settings)
    assert '\n' not in str(caught.value) and 'weights_only' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('name', payloads.PICKLES)
def test_the_payloads_are_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    try:
        pickle.loads(payloads.PICKLES[name])
    except Exception as error:
        print(error)
    assert (tmp_path / payloads.MARK).is_dir()


@pytest.mark.parametrize('name', [*payloads.PICKLES, *payloads.CRASHES])
def test_a_pickle_is_refused(folder: Path, name: str):
    content = {**payloads.PICKLES, **payloads.CRASHES}[name]
    Path('evil.pkl').write_bytes(content)
    assert 'evil.pkl' in refused(read_pickle, 'evil.pkl')


def mmengine_load(path: str) -> object:
    """mmengine's reader, which all upstream classes use."""
    import mmengine

    return mmengine.load(path)


def mmengine_load_file(path: str) -> object:
    """The same for an open file, as mmdet3d's database sampler calls it."""
    import mmengine

    with open(path, 'rb') as file:
        return mmengine.load(file, file_format='pkl')


def mmengine_handler(path: str) -> object:
    """The handler alone."""
    from mmengine.fileio import PickleHandler

    return PickleHandler().load_from_path(path)


def base_dataset(path: str) -> object:
    """mmengine's base of all data sets."""
    from mmengine.dataset import BaseDataset

    return BaseDataset(ann_file=path)


def mmdet3d_kitti(path: str) -> object:
    """mmdet3d's data set of KITTI."""
    from mmdet3d.datasets import KittiDataset

    return KittiDataset(data_root='.', ann_file=path, pipeline=[])


def mmdet3d_kitti_metric(path: str) -> object:
    """mmdet3d's metric of KITTI, which reads the ground truth again."""
    from mmdet3d.evaluation import KittiMetric

    metric = KittiMetric(ann_file=path)
    metric.dataset_meta = {'classes': ['Car']}
    return metric.compute_metrics([])


def mmdet3d_nuscenes_metric(path: str) -> object:
    """mmdet3d's metric of nuScenes."""
    from mmdet3d.evaluation import NuScenesMetric

    metric = NuScenesMetric(data_root='.', ann_file=path)
    metric.dataset_meta = {'classes': ['car'], 'version': 'v1.0-mini'}
    return metric.compute_metrics([])


def mmdet3d_database(path: str) -> object:
    """mmdet3d's sampler of ground-truth objects."""
    from mmdet3d.datasets.transforms.dbsampler import DataBaseSampler

    return DataBaseSampler(info_path=path, data_root='.', rate=1.0, prepare={}, sample_groups={}, classes=['Car'])


def our_database(path: str) -> object:
    """Our sampler of ground-truth objects."""
    from perception3d.datasets.transforms.lidar_augment import GroundTruthSampler

    return GroundTruthSampler(data_root='.', classes=['Car'], sample_groups={'Car': 1}, info_file=path)


def our_nuscenes(path: str) -> object:
    """Our data set of nuScenes."""
    from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset

    return MultiFrameNuScenesDataset(num_frames=1, data_root='.', ann_file=path, pipeline=[])


def our_nuscenes_metric(path: str) -> object:
    """Our metric of nuScenes, which looks up frames in the info file."""
    from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric

    return NuScenesDetectionMetric(data_root='.', ann_file=path)._metas_by_index


def our_note(path: str) -> object:
    """The note of an interrupted create_data."""
    from types import SimpleNamespace

    from perception3d.formats.nuscenes.info.database import cut_objects

    return cut_objects(SimpleNamespace(frame_id=Path(path).stem), Path())


def evaluate_lidar(path: str) -> object:
    """`evaluate lidar --gt`."""
    from perception3d.formats.custom_boxes.evaluation.folders import _truth

    return _truth(Path(path), ['000000'])


def infos_for_inference(path: str) -> object:
    """`infer` on an info file."""
    return read_infos(path)


def infos_of_frames(path: str) -> object:
    """Info files of KITTI and of LiDAR-only data."""
    return read_frame_infos(path, 'lidar', '.')


READERS = [
    mmengine_load, mmengine_load_file, mmengine_handler, base_dataset, mmdet3d_kitti, mmdet3d_kitti_metric,
    mmdet3d_nuscenes_metric, mmdet3d_database, our_database, our_nuscenes, our_nuscenes_metric, our_note,
    evaluate_lidar, infos_for_inference, infos_of_frames,
]  # fmt: skip


@pytest.mark.parametrize('name', ['protocol 0', 'protocol 5', 'ndarray over a buffer'])
@pytest.mark.parametrize('read', READERS, ids=lambda read: read.__name__)
def test_every_reader_of_pickles_refuses(folder: Path, read, name: str):
    Path('evil.pkl').write_bytes({**payloads.PICKLES, **payloads.CRASHES}[name])
    message = refused(read, 'evil.pkl')
    assert 'evil.pkl' in message or read is mmengine_handler


def of_numpy_2(array: object) -> bytes:
    """Returns the pickle of protocol 5 that numpy 2 writes: its core has another name, one character longer."""
    content = pickle.dumps(array, 5)
    assert content[2:3] == b'\x95', 'a frame, then its length'
    longer = re.subn(rb'\x8c(.)(numpy)\.(core)', lambda m: b'\x8c%c%s._%s' % (m[1][0] + 1, m[2], m[3]), content[11:])
    return content[:3] + (len(content) - 11 + longer[1]).to_bytes(8, 'little') + longer[0]


@pytest.mark.parametrize('value', [np.arange(6, dtype=np.int16).reshape(2, 3), np.float64(2.5)])
def test_files_of_numpy_2_load(value: object):
    content = of_numpy_2(value)
    assert b'numpy._core.' in content and b'numpy.core.' not in content
    loaded = load_plain_pickle(io.BytesIO(content))
    assert type(loaded) is type(value) and loaded.dtype == value.dtype and np.array_equal(loaded, value)


PYTHON_2 = (
    "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I{size}\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"
    "(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00 \\xc0'\ntb."
)


def test_files_of_python_2_load_as_latin1():
    loaded = load_plain_pickle(io.BytesIO(PYTHON_2.format(size=2).encode()), encoding='latin1')
    assert loaded.dtype == np.float32 and loaded.tolist() == [1.0, -2.5]
    with pytest.raises(InputError, match=r'shape \(3,\) with 8 bytes in place of 12'):
        load_plain_pickle(io.BytesIO(PYTHON_2.format(size=3).encode()), encoding='latin1')


def test_writing_by_mmengine_stays_as_it_was(tmp_path: Path):
    import mmengine

    content = {'a': np.arange(3.0), 'names': np.array(['car']), 'n': np.float32(2)}
    mmengine.dump(content, tmp_path / 'a.pkl')
    loaded = mmengine.load(tmp_path / 'a.pkl')
    assert type(loaded['a']) is np.ndarray and loaded['a'].tolist() == [0, 1, 2] and loaded['names'][0] == 'car'
    mmengine.dump({'a': [1, 'b']}, tmp_path / 'a.yaml')
    assert mmengine.load(tmp_path / 'a.yaml') == {'a': [1, 'b']}


@pytest.mark.parametrize('protocol', range(6))
def test_plain_pickles_load_as_they_are(tmp_path: Path, protocol: int):
    content = {
        'table': np.arange(6.0).reshape(2, 3), 'columns': np.asfortranarray(np.ones((2, 3), np.int16)),
        'names': np.array(['car', 'a']), 'raw': np.array([b'x']), 'big': np.arange(3, dtype='>i4'),
        'empty': np.zeros((0, 7), np.float32), 'score': np.float32(2), 'yes': np.bool_(True), np.str_('key'): {3},
        'bytes': (b'', b'x'), 'plain': [1, 2.5, None, True, ('a',), -(2**70)],
    }  # fmt: skip
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol))
    loaded = read_pickle(tmp_path / 'a.pkl')
    assert list(loaded) == list(content)
    for key, value in pickle.loads(pickle.dumps(content, protocol)).items():
        assert type(loaded[key]) is type(value)
        assert loaded[key].tolist() == value.tolist() if hasattr(value, 'tolist') else loaded[key] == value
        assert getattr(loaded[key], 'dtype', None) == getattr(value, 'dtype', None)
    assert loaded['columns'].flags.f_contiguous


def objects_npy() -> bytes:
    """An array of objects, which numpy stores as a pickle."""
    file = io.BytesIO()
    np.save(file, np.array([[payloads.runs(), 1.0]], object), allow_pickle=True)
    return file.getvalue()


def objects_npz() -> bytes:
    """An archive of arrays."""
    file = io.BytesIO()
    np.savez(file, a=np.array([payloads.runs()], object))
    return file.getvalue()


def header_npy() -> bytes:
    """An array whose header, a text that numpy evaluates, holds a call."""
    header = b"{'descr': __import__('os').mkdir('ran'), 'fortran_order': False, 'shape': (1,), }".ljust(117) + b'\n'
    return b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header


ARRAYS = {
    'objects': objects_npy, 'archive': objects_npz, 'header': header_npy,
    'pickle': lambda: payloads.PICKLES['protocol 2'],
}  # fmt: skip


@pytest.mark.parametrize('name', ARRAYS)
def test_arrays_of_objects_are_not_clouds(folder: Path, name: str):
    Path('evil.npy').write_bytes(ARRAYS[name]())
    assert 'evil.npy' in refused(read_cloud, 'evil.npy', 4)
    assert 'evil.npy' in refused(read_xyz, 'evil.npy', 4)
    step = LoadCheckedPoints(load_dim=4)
    assert 'evil.npy' in refused(step, cloud_sample('evil.npy', [step]))


def test_the_hierarchy_of_a_2d_data_set_is_a_plain_array(folder: Path):
    from mmdet.datasets.openimages import OpenImagesChallengeDataset as Dataset

    Path('evil.np').write_bytes(objects_npy())
    dataset = Dataset.__new__(Dataset)
    dataset.backend_args = None
    assert 'evil.np' in refused(dataset._get_relation_matrix, 'evil.np')
    with open('good.np', 'wb') as file:
        np.save(file, np.eye(3))
    assert dataset._get_relation_matrix('good.np').shape == (2, 2)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bin', '.json', '.pkl'])
def test_a_pickle_by_another_name_is_refused(folder: Path, suffix: str):
    path = f'evil{suffix}'
    Path(path).write_bytes(payloads.PICKLES['protocol 0'])
    read = {'.bin': lambda name: read_cloud(name, 4), '.json': read_json, '.pkl': read_infos}.get(suffix, read_image)
    assert path in refused(read, path)


@pytest.mark.parametrize('suffix', ['.json', '.yaml', '.txt', ''])
def test_an_experiment_is_python_by_its_name(folder: Path, suffix: str):
    Path(f'evil_experiment{suffix}').write_text(payloads.MODULE)
    assert 'expected a Python file' in refused(read_experiment, f'evil_experiment{suffix}')


def test_records_of_an_experiment_are_data(folder: Path):
    import json

    from perception3d.experiment.plan import Cell
    from perception3d.experiment.records import CellFolder, read_prepared

    cell = CellFolder(Path(), Cell('arm', 0))
    cell.path.mkdir(parents=True)
    words = ['python', '-c', "import os; os.mkdir('ran')"]
    entry = {'words': words, 'command': words, 'seconds': None, 'py/reduce': ['os.mkdir', 'ran']}
    (cell.path / 'cell.json').write_text(json.dumps(entry))
    Path('prepare.json').write_text(json.dumps([entry]))
    assert cell.record() == entry and read_prepared(Path()) == [entry]
    for path, read in ((cell.path / 'cell.json', cell.record), (Path('prepare.json'), lambda: read_prepared(Path()))):
        path.write_bytes(payloads.PICKLES['protocol 2'])
        assert path.name in refused(read)


def test_a_pointer_to_a_checkpoint_does_not_leave_its_folder(folder: Path):
    from perception3d.experiment.plan import Cell
    from perception3d.experiment.records import CellFolder

    (folder / 'evil.pth').write_bytes(payloads.CHECKPOINTS['zip'])
    cell = CellFolder(Path('out'), Cell('arm', 0))
    cell.work.mkdir(parents=True)
    cell.pointer.write_text(str(folder / 'evil.pth'))
    assert 'does not exist any more' in refused(cell.checkpoint)


DEEP = {'deep': b')' + b'\x85' * 300_000, 'shared': b')' + b'2\x86' * 40, 'built': b')' + b'\x85Nb' * 300_000}
DEEP['remembered'] = b')\x94' + b''.join(b'h%ch%c\x86\x94' % (number, number) for number in range(60))
# A dict of one item and of several, a set, a frozenset, and a value that is not a key.
USES = {
    'key': b'}%bK\x01s.',
    'keys': b'}(%bK\x01u.',
    'set': b'\x8f(%b\x90.',
    'frozenset': b'(%b\x91.',
    'value': b']%ba.',
}


@pytest.mark.parametrize('nesting', DEEP)
@pytest.mark.parametrize('use', USES)
def test_deep_tuples_are_refused_before_they_are_read(nesting: str, use: str):
    content = b'\x80\x04' + USES[use] % DEEP[nesting]
    assert 'a tuple of tuples' in refused(load_plain_pickle, io.BytesIO(content))
    assert 'a tuple of tuples' in refused(check_tensor_pickle, io.BytesIO(content))


def test_a_large_key_is_refused():
    content = pickle.dumps({tuple(range(1000)): 1})
    assert 'a key of more than' in refused(load_plain_pickle, io.BytesIO(content))


@pytest.mark.parametrize('protocol', range(6))
def test_tuples_of_a_plain_file_load(protocol: int):
    content = {
        (1, 'x', (2, 3)): {1, (2, 3)},
        'f': frozenset([(1, 2)]),
        'l': [((1.0, 2), (3, 4))] * 2000,
        't': (0,) * 20000,
    }
    assert load_plain_pickle(io.BytesIO(pickle.dumps(content, protocol))) == content
    with_array = pickle.dumps([content, *(np.arange(3) for _ in range(3000))], protocol)
    assert load_plain_pickle(io.BytesIO(with_array))[0] == content
