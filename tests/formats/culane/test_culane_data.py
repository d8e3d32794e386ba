"""CULane's files, masks and lists from raw annotations, info files, samples and results; every fault is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lane_trees import HW, four_lanes, write_culane_tree
from mmdet3d.structures import Det3DDataSample

from perception3d.checks import InputError
from perception3d.datasets.lane_lists import format_gt_list, read_gt_list, read_list
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.formats.culane.dataset import CULaneDataset
from perception3d.formats.culane.files import (
    SLOTS,
    format_lines,
    parse_lines,
    read_annotation,
    read_lines,
)
from perception3d.formats.culane.info import create_infos
from perception3d.structures.lanes import Lanes

STEPS = [
    dict(type=LoadLaneImage, with_mask=True),
    dict(type=CropResizeLaneImage, crop_top_px=20, input_hw=(20, 82)),
    dict(type=PackLaneInputs),
]


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_culane_tree(tmp_path_factory.mktemp('culane'))
    create_infos(root, progress=False)
    return root


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / 'tree'))


def build(root: Path, split: str = 'train', **kwargs: Any) -> CULaneDataset:
    kwargs = {'pipeline': STEPS, 'test_mode': split == 'test', 'serialize_data': False, **kwargs}
    return CULaneDataset(str(root), f'perception3d_infos_{split}.pkl', **kwargs)


def test_masks_and_lists_are_prepared_from_raw_annotations(tree: Path):
    listed = read_gt_list(tree / 'list/train_gt.txt', 4)
    # The lanes go right to left, and each image has one less: the leftmost ones.
    assert [exist for _, exist in listed.values()] == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]
    path = tree / next(iter(listed.values()))[0]
    assert path == tree / 'laneseg_label_w16/driver_23_30frame/a.MP4/00000.png'
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask.shape == HW and set(np.unique(mask)) == {0, 1, 2, 3, 4}
    row = mask[50]
    starts = [np.flatnonzero(row == value).mean() for value in (1, 2, 3, 4) if (row == value).any()]
    # 16 pixels across, of a lane that leans by 0.68.
    assert starts == sorted(starts) and (row == 2).sum() == pytest.approx(16 * np.hypot(1, 0.68) + 1, abs=1)
    # The list that was written is read the next time, and nothing is drawn.
    before = path.stat().st_mtime_ns
    assert create_infos(tree, progress=False)['train']['lanes'] == {
        'left-2': 1, 'left-1': 2, 'right-1': 3, 'right-2': 3, 'no slot': 0
    }  # fmt: skip
    assert path.stat().st_mtime_ns == before


def test_samples_hold_image_mask_existence_and_lanes(tree: Path):
    data = build(tree)
    assert data.metainfo['classes'] == SLOTS and len(data) == 3
    packed = data[1]
    sample = packed['data_samples']
    assert packed['inputs']['img'].shape == (3, 20, 82)
    assert sample.gt_lane_seg.lane_mask.shape == (1, 20, 82)
    assert set(sample.gt_lane_seg.lane_mask.unique().tolist()) == {0, 2, 3, 4}
    assert sample.gt_lane_exist.exist.tolist() == [0, 1, 1, 1]
    assert sample.gt_lanes.labels.tolist() == [3, 2, 1]
    np.testing.assert_allclose(sample.gt_lanes.polylines[0], four_lanes()[0], atol=1e-4)
    assert sample.token == sample.frame_id == 'driver_23_30frame/a.MP4/00030' and sample.stored_hw == [HW]
    moved = sample.img_from_stored[0] @ [82, 40, 1, 1]
    np.testing.assert_allclose(moved, [41, 10, 1, 1])
    tested = build(tree, 'test')
    found = [tested[k]['data_samples'] for k in range(2)]
    assert [each.category for each in found] == ['normal', 'night']
    assert found[1].eval_ann_info['category'] == 'night' and len(found[1].eval_ann_info['lanes']) == 3
    assert tested.get_cat_ids(1) == {1, 2, 3}
    assert [len(lanes) for lanes in tested.read_annotations(tested.get_data_info(1)).values()] == [3]


def test_the_official_reader_counts_what_is_odd(tmp_path: Path):
    text = '1 2 3 4 5 \n\n7 8\nnan 1 2 3\n1 2 inf 4\n1e2 -2.5 x 4\n1e 5\n5 6 1e999 7\n.5 +3 1.5.5 9\n'
    expected = [[[1, 2], [3, 4]], [], [[7, 8]], [], [[1, 2]], [[100, -2.5]], [], [[5, 6]], [[0.5, 3], [1.5, 0.5]]]
    (tmp_path / 'a.lines.txt').write_text(text)
    for lanes in (parse_lines(text), read_lines(tmp_path / 'a.lines.txt'), parse_lines(text.replace('\n', '\r\n'))):
        assert [lane.tolist() for lane in lanes] == expected
    assert read_lines(tmp_path / 'missing.lines.txt') == [] and parse_lines('') == []
    assert len(parse_lines('1 2 3 4')) == 1 and len(parse_lines('\n')) == 1


@pytest.mark.parametrize(
    'text, message',
    [
        ('1 2 3 4\n1 2 3\n', 'line 2: 3 values: expected pairs of x and y'),
        ('1 nan 3 4\n', "line 1: 'nan' among the values"),
        ('1 2 3 1e999\n', "line 1: '1e999' among the values"),
    ],
)
def test_annotations_must_be_whole(tmp_path: Path, text: str, message: str):
    (tmp_path / 'a.lines.txt').write_text(text)
    with pytest.raises(InputError, match=f'a.lines.txt, {message}'):
        read_annotation(tmp_path / 'a.lines.txt')
    with pytest.raises(InputError, match='does not exist: unpack the annotations'):
        read_annotation(tmp_path / 'b.lines.txt')


def test_results_are_written_as_the_official_files(tmp_path: Path):
    upward = np.array([[534.3912345, 589], [-12.5, 569], [1640.25, 549]])
    text = format_lines([upward[::-1], np.zeros((0, 2)), np.array([[3, 4]])])
    assert text == '534.391 589 -12.5 569 1640.25 549 \n\n3 4 \n'
    assert parse_lines(text)[0].tolist() == [[534.391, 589], [-12.5, 569], [1640.25, 549]]
    with pytest.raises(InputError, match='not finite'):
        format_lines([np.array([[1, np.nan]])])


def test_a_result_never_replaces_an_annotation(tree: Path, tmp_path: Path):
    data = build(tree, 'test')
    sample = Det3DDataSample(metainfo={'frame_id': 'x'})
    assert not data.write_result(sample, tmp_path / 'a.lines.txt')
    sample.pred_lanes = Lanes((np.array([[10, 50], [20, 40.5]]),), [1], [0.9])
    assert data.write_result(sample, tmp_path / 'a.lines.txt')
    assert (tmp_path / 'a.lines.txt').read_text() == '10 50 20 40.5 \n'
    with pytest.raises(InputError, match='would be an annotation next to its image'):
        data.write_result(sample, tree / 'driver_37_30frame/d.MP4/00000.lines.txt')


def test_raw_images_folders_and_videos_are_samples(tree: Path, tmp_path: Path):
    steps = [STEPS[0], dict(type=CropResizeLaneImage, crop_top_px=0, input_hw=(30, 82)), STEPS[2]]
    data = build(tree, 'test', lazy_init=True, pipeline=steps)
    folder = tree / 'driver_23_30frame/a.MP4'
    assert [sample['token'] for sample in data.sample_from_file(folder)] == ['00000', '00030']
    (sample,) = data.sample_from_file(folder / '00030.jpg')
    packed = data.pipeline(sample)
    assert packed['inputs']['img'].shape == (3, 30, 82) and 'gt_lanes' not in packed['data_samples']
    video = cv2.VideoWriter(str(tmp_path / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, HW[::-1])
    for value in (0, 200):
        video.write(np.full((*HW, 3), value, np.uint8))
    video.release()
    frames = list(data.sample_from_file(tmp_path / 'v.avi'))
    assert [frame['token'] for frame in frames] == ['v_000000', 'v_000001'] and frames[1]['timestamp'] == 0.1
    assert data.pipeline(frames[1])['inputs']['img'].float().mean() == pytest.approx(200, abs=3)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bad.mp4').write_bytes(b'x')
    for path, message in {
        'empty': 'holds no images', 'bad.mp4': 'does not decode as a video', 'a.txt': 'expected an image or a video',
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=message):
            list(data.sample_from_file(tmp_path / path))


def _drop_image(root: Path) -> None:
    (root / 'driver_23_30frame/a.MP4/00030.jpg').unlink()


def _drop_annotation(root: Path) -> None:
    (root / 'driver_23_30frame/b.MP4/00000.lines.txt').unlink()


def _drop_mask(root: Path) -> None:
    (root / 'laneseg_label_w16/driver_23_30frame/b.MP4/00000.png').unlink()


def _shrink_mask(root: Path) -> None:
    cv2.imwrite(str(root / 'laneseg_label_w16/driver_23_30frame/b.MP4/00000.png'), np.zeros((30, 82), np.uint8))


def _break_image(root: Path) -> None:
    (root / 'driver_23_30frame/c.MP4/00000.jpg').write_bytes(b'no image')


def _shorten_list(root: Path) -> None:
    (root / 'list/train_gt.txt').write_text('/driver_23_30frame/a.MP4/00000.jpg /laneseg_label_w16/a.png 1 1 1\n')


def _repeat_image(root: Path) -> None:
    (root / 'list/test.txt').write_text('/driver_37_30frame/d.MP4/00000.jpg\n' * 2)


def _leave_the_root(root: Path) -> None:
    (root / 'list/test.txt').write_text('/../../x.jpg\n')


def _sort_twice(root: Path) -> None:
    (root / 'list/test_split/test1_crowd.txt').write_text('driver_37_30frame/d.MP4/00000.jpg\n')


def _empty_lists(root: Path) -> None:
    shutil.rmtree(root / 'list')
    (root / 'list').mkdir()


@pytest.mark.parametrize(
    'spoil, message',
    [
        (_drop_image, r'1 of 9 files that the list of train asks for are missing .*00030.jpg'),
        (_drop_annotation, r'1 of 9 files that .*b.MP4/00000.lines.txt\)'),
        (_drop_mask, r'1 of 9 files that .*b.MP4/00000.png\)'),
        (_shrink_mask, r'00000.png is a mask of 82x30 pixels, but its image has 164x60: copy it again'),
        (_break_image, '00000.jpg does not decode as an image'),
        (_shorten_list, 'train_gt.txt: image 1, .*: expected IMAGE MASK.png and 4 numbers 0 or 1'),
        (_repeat_image, 'test.txt, line 2: .* is already in line 1'),
        (_leave_the_root, 'test.txt, line 1: .* is not an image such as'),
        (_sort_twice, 'test1_crowd.txt: driver_37_30frame/d.MP4/00000 is already of the category normal'),
        (_empty_lists, 'names no images'),
    ],
)
def test_faults_of_a_tree_are_named(copy: Path, spoil: Any, message: str):
    spoil(copy)
    with pytest.raises(InputError, match=message):
        create_infos(copy, progress=False)


def test_masks_of_a_list_are_drawn_where_all_are_missing_and_again_on_demand(copy: Path):
    listed = read_gt_list(copy / 'list/train_gt.txt', 4)
    shutil.rmtree(copy / 'laneseg_label_w16')
    text = (copy / 'list/train_gt.txt').read_text()
    # A list of others has the second lane of an image as the first one.
    (copy / 'list/train_gt.txt').write_text(text.replace('0 0 1 1', '1 1 0 0'))
    notes = create_infos(copy, progress=False)['train']['notes']
    assert notes == ['3 masks drawn']
    mask = cv2.imread(str(copy / list(listed.values())[2][0]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 1, 2}
    assert create_infos(copy, redraw=True, progress=False)['train']['notes'][1].startswith('existence of lanes')
    assert (
        (copy / 'list/train_gt.txt').read_text()
        == text
        == format_gt_list((name, *entry) for name, entry in listed.items())
    )


def test_a_lane_without_a_pixel_in_the_image_takes_no_slot(copy: Path):
    with open(copy / 'driver_23_30frame/b.MP4/00000.lines.txt', 'a') as file:
        # Next to the lanes on the right, nearer than the one on the left that this image does not have.
        file.write('174 59 174 20 \n')
    create_infos(copy, redraw=True, progress=False)
    assert read_gt_list(copy / 'list/train_gt.txt', 4)['driver_23_30frame/b.MP4/00000'][1] == [0, 0, 1, 1]
    sample = build(copy).get_data_info(2)
    assert sample['lane_slots'].tolist() == [3, 2, -1] and sample['lane_exist'].tolist() == [0, 0, 1, 1]


def test_an_image_of_the_test_without_annotation_has_no_lanes(copy: Path):
    (copy / 'driver_37_30frame/d.MP4/00030.lines.txt').unlink()
    notes = create_infos(copy, progress=False)['test']['notes']
    assert notes == ['1 images have no .lines.txt and count as images without lanes']
    sample = build(copy, 'test')[1]['data_samples']
    assert sample.eval_ann_info['lanes'] == [] and len(sample.gt_lanes) == 0


def test_bad_masks_and_images_of_another_size_are_named_when_they_are_loaded(copy: Path):
    data = build(copy)
    path = Path(data.get_data_info(0)['lane_mask_path'])
    for content, message in (
        (np.zeros((30, 82), np.uint8), 'is a mask of 82x30 pixels, but its image has 164x60'),
        (np.full(HW, 5, np.uint8), 'has the value 5: expected 0 for background, 1 to 4'),
        (np.zeros((*HW, 3), np.uint8), 'expected one channel of 8 bits'),
    ):
        cv2.imwrite(str(path), content)
        with pytest.raises(InputError, match=message):
            data[0]
    path.write_bytes(b'')
    with pytest.raises(InputError, match='does not decode as an image'):
        data[0]
    cv2.imwrite(data.get_data_info(1)['img_paths'][0], np.zeros((30, 82, 3), np.uint8))
    with pytest.raises(InputError, match='is 82x30 pixels, but its info file says 164x60'):
        data[1]
    high = build(copy, pipeline=[STEPS[0], dict(type=CropResizeLaneImage, crop_top_px=60, input_hw=(20, 82))])
    with pytest.raises(InputError, match='has 60 rows, but crop_top_px is 60'):
        high[2]
    with pytest.raises(InputError, match='slots are numbers in masks, leave metainfo out'):
        build(copy, metainfo=dict(classes=['left-1']))


def test_what_the_built_in_world_adds_is_found(copy: Path):
    frame_id = read_list(copy / 'list/train.txt')[1]
    for folder in ('depth', 'semantic'):
        (copy / f'extra/{folder}/{frame_id}.png').parent.mkdir(parents=True)
        cv2.imwrite(str(copy / f'extra/{folder}/{frame_id}.png'), np.zeros(HW, np.uint8))
    (copy / 'extra/steering.json').write_text(f'{{"{frame_id}": -0.125}}')
    create_infos(copy, progress=False)
    data = build(copy)
    for text, message in (
        ('{"a/b": NaN}', 'steering.json, a/b: nan: expected a finite'),
        ('[1]', 'expected {frame id'),
    ):
        (copy / 'extra/steering.json').write_text(text)
        with pytest.raises(InputError, match=message):
            create_infos(copy, progress=False)
    sample = data[1]['data_samples']
    assert sample.gt_steering.steering_rad.tolist() == [-0.125] and sample.depth_path.endswith(f'{frame_id}.png')
    assert 'gt_steering' not in data[0]['data_samples'] and 'semantic_path' not in data[0]['data_samples']


def test_masks_that_are_there_are_replaced_only_on_demand(copy: Path):
    listed = copy / 'list/train_gt.txt'
    entries, text = read_gt_list(listed, 4), listed.read_text()
    paths = [copy / mask for mask, _ in entries.values()]
    own = np.zeros(HW, np.uint8)
    own[30:40, 80:90] = 3
    for path in paths:
        cv2.imwrite(str(path), own)
    kept = [path.read_bytes() for path in paths]
    listed.unlink()
    notes = create_infos(copy, progress=False)['train']['notes']
    assert [path.read_bytes() for path in paths] == kept and notes[0].startswith('existence of lanes written')
    assert [exist for _, exist in read_gt_list(listed, 4).values()] == [[0, 0, 1, 0]] * 3
    listed.unlink()
    paths[1].unlink()
    with pytest.raises(InputError, match='has masks of 2 of 3 images .* draw all masks with --redraw'):
        create_infos(copy, progress=False)
    assert paths[0].read_bytes() == kept[0] and not listed.exists()
    create_infos(copy, redraw=True, progress=False)
    assert paths[0].read_bytes() != kept[0] and listed.read_text() == text
