"""STCrowd's files: what is written is read again, the release's own values, and content that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stcrowd_tree import CAMERA, SPLITS, people_of

from perception3d.checks import InputError
from perception3d.formats.stcrowd.files import (
    Frame,
    Image,
    Person,
    PersonInImage,
    Sequence,
    find_stored,
    frame_token,
    read_camera,
    read_sequence,
    read_split,
    write_camera,
    write_sequence,
    write_split,
)
from perception3d.formats.stcrowd.rules import FEW_POINTS, NO_SIZE, OTHER, OUTSIDE, SITTING, ignore_reason

PERSON = {
    'id': 4,
    'position': {'x': 5, 'y': 1, 'z': -0.5},
    'boundingbox': {'x': 0.6, 'y': 0.5, 'z': 1.7},
    'rotation': 0.1,
    'occlusion': 1,
    'score': 0.5,
}


def written(folder: Path, *frames: object, name: str = '12') -> Path:
    path = folder / f'{name}.json'
    path.write_text(json.dumps({'group_id': 1, 'total_number': len(frames), 'frames': frames}))
    return path


def with_items(*items: object, **more: object) -> dict[str, object]:
    return {'frameId': 0, 'frame_name': 'a/pcd/12/1.bin', 'items': items, 'images': [], **more}


def test_what_is_written_is_read_again(tmp_path: Path):
    seen = PersonInImage(7, tuple((float(k), 2.0) for k in range(8)), (1.0, 2.0, 3.0, 4.0), 2)
    images = (
        Image('x/left/12/a.jpg', 'left', (seen, PersonInImage(None, (), None))),
        Image('x/right/12/a.jpg', 'right'),
    )
    frames = (Frame(0, 'x/pcd/12/1.bin', people_of('12', 0), images), Frame(1, 'x/pcd/12/2.bin'))
    truth = Sequence('12', frames, 12, 5)
    write_sequence(tmp_path / '12.json', truth)
    assert read_sequence(tmp_path / '12.json') == truth
    scored = Sequence('12', (Frame(3, '', (Person(None, (1.0, 2.0, 3.0), (0.5, 0.5, 1.7), 0.2, None, 0.75),)),))
    write_sequence(tmp_path / 'results' / '12.json', scored)
    assert read_sequence(tmp_path / 'results' / '12.json', scored=True) == scored
    write_split(tmp_path / 'split.json', SPLITS)
    assert read_split(tmp_path / 'split.json') == SPLITS
    assert json.loads((tmp_path / 'split.json').read_text())['train'] == [3, 12]


def test_the_camera_of_the_release_has_the_pixels_of_three_points(tmp_path: Path):
    write_camera(tmp_path / 'camera.json', CAMERA)
    camera = read_camera(tmp_path / 'camera.json')
    points = np.array([[10, 0, 0, 1], [10, 3, 0, 1], [10, -3, 0, 1]])
    u, v, depth, _ = camera.img_from_cam @ camera.cam_from_lidar @ points.T
    expected = [[683.7, 334.1], [477.4, 335.3], [891.1, 332.8]]
    np.testing.assert_allclose(np.column_stack([u / depth, v / depth]), expected, atol=0.05)
    (tmp_path / 'bad.json').write_text('{"p": [[1, 2]], "r": [], "t": []}')
    with pytest.raises(InputError, match=r'bad.json: p has the shape \(1, 2\), expected \(3, 4\)'):
        read_camera(tmp_path / 'bad.json')


def test_texts_are_numbers_and_unclear_values_follow_the_stated_rules(tmp_path: Path):
    texts = {**PERSON, 'id': '4', 'rotation': '0.1', 'position': {'x': '5', 'y': 1, 'z': '-0.5'}, 'number': 'zwei'}
    twice, unknown = {**PERSON, 'occlusion': 10**400}, {**PERSON, 'id': 5, 'occlusion': None, 'category': 'dog'}
    names = [{'image_name': f'd/{side}/12/a.jpg', 'class': 'left', 'items': None} for side in ('right', 'left')]
    path = written(tmp_path, with_items(texts, twice, unknown, frameId='8', images=names))
    (frame,) = read_sequence(path).frames
    first, second, third = frame.people
    assert frame.frame_id == 8 and first == Person(4, (5.0, 1.0, -0.5), (0.6, 0.5, 1.7), 0.1, 1)
    # Two people of a frame have one id: the first keeps it. A level that is none is unknown.
    assert (second.track_id, second.occlusion) == (None, None) and not third.is_person and third.occlusion is None
    # Right images are marked as left ones: the folder says which it is.
    assert frame.image('left').path == 'd/left/12/a.jpg' and frame.image('right').path == 'd/right/12/a.jpg'
    assert frame_token('12', 345) == '012_000345'


@pytest.mark.parametrize(
    ('frame', 'scored', 'message'),
    [
        ({'frameId': 0, 'frame_name': 'x'}, False, r"12.json, frame 0 has no list 'items': expected the people"),
        (
            with_items({**PERSON, 'position': {'x': 1, 'y': 2}}),
            False,
            'item 0: position.z is .None., expected a finite number',
        ),
        (
            with_items(PERSON, {**PERSON, 'rotation': float('nan')}),
            False,
            'item 1: rotation is .nan., expected a finite',
        ),
        (with_items({**PERSON, 'boundingbox': {'x': -1, 'y': 1, 'z': 1}}), False, 'expected sizes of 0 or more'),
        (with_items({**PERSON, 'score': None}), True, 'score is .None., expected a finite number'),
        (with_items(PERSON, PERSON), True, 'has the id 4 twice: write each track once a frame'),
        (with_items({**PERSON, 'id': 'x4'}), False, "id is 'x4', expected a whole number"),
        (with_items({**PERSON, 'id': 2**63}), False, "id is '9223372036854775808', expected a whole number"),
        (with_items({**PERSON, 'id': 4.5}), False, "id is '4.5', expected a whole number"),
        (with_items({**PERSON, 'rotation': 10**400}), False, "rotation is '10{79}', expected a finite number"),
        (with_items({**PERSON, 'rotation': '1e999'}), False, "rotation is '1e999', expected a finite number"),
        (with_items(images=[{'class': 'left'}]), False, "image 0 has no 'image_name'"),
    ],
)
def test_content_that_cannot_be_used_is_named(tmp_path: Path, frame: object, scored: bool, message: str):
    with pytest.raises(InputError, match=message):
        read_sequence(written(tmp_path, frame), scored)


def test_files_that_cannot_be_used_are_named(tmp_path: Path):
    (tmp_path / 'list.json').write_text('[1, 2]')
    with pytest.raises(InputError, match="list.json has no list 'frames'"):
        read_sequence(tmp_path / 'list.json')
    with pytest.raises(InputError, match='frame 1: frameId 0 is there already'):
        read_sequence(written(tmp_path, with_items(), with_items()))
    for content, message in (
        ({'training': [1]}, 'has none of train, val, test'),
        ({'train': [1, 2], 'val': [2]}, 'sequence 2 is in train and again in val'),
        ({'train': ['../2']}, "train has '../2', expected the number of a sequence"),
    ):
        (tmp_path / 'split.json').write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            read_split(tmp_path / 'split.json')


def test_paths_of_another_machine_are_found_below_the_root_alone(tmp_path: Path):
    for name in ('root/pcd/12/1.bin', 'root/part/pcd/13/1.bin', 'outside/pcd/12/1.bin'):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    root = tmp_path / 'root'
    assert find_stored(root, '/data/lab/STCrowd/pcd/12/1.bin') == root / 'pcd/12/1.bin'
    assert find_stored(root, '/data/lab/part/pcd/13/1.bin') == root / 'part/pcd/13/1.bin'
    assert find_stored(root, 'pcd\\12\\1.bin') == root / 'pcd/12/1.bin'
    assert find_stored(root, '../outside/pcd/12/2.bin') is None and find_stored(root, '1.bin') is None


def test_who_counts():
    standing = (0.6, 0.5, 1.7)
    assert ignore_reason((5, 1, 0), standing) is None and ignore_reason((0, 35, 0), standing, 15) is None
    assert ignore_reason((-0.1, 5, 0), standing) == ignore_reason((35.1, 0, 0), standing, 200) == OUTSIDE
    assert ignore_reason((5, 1, 0), standing, 14) == FEW_POINTS and ignore_reason((5, 1, 0), (1, 1, 1.1)) == SITTING
    assert ignore_reason((5, 1, 0), (0, 0.5, 1.7)) == NO_SIZE
    assert ignore_reason((5, 1, 0), standing, is_person=False) == OTHER
