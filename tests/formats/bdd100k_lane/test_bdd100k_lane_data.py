"""BDD100K's lane annotations: three releases of JSON, curves, borders averaged to one line, masks and lists."""

from __future__ import annotations

import re

import bdd100k_tree as tree
import cv2
import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.files import read_json, read_pickle, write_json
from perception3d.formats.bdd100k_lane.annotations import Marking, annotation_source, flatten, read_markings
from perception3d.formats.bdd100k_lane.centre_lines import centre_lines
from perception3d.formats.bdd100k_lane.info import create_infos


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tree.write_bdd100k_tree(tmp_path_factory.mktemp('bdd100k'))
    create_infos(root, progress=False)
    return root


def _marking(points, category='single white', direction='parallel', style='solid'):
    return Marking(np.array(points, np.float64), category, direction, style)


def test_infos_masks_and_lists(root):
    content = read_pickle(root / 'perception3d_infos_train.pkl')
    assert content['metainfo']['dataset'] == 'bdd100k-lane' and content['metainfo']['categories'] == {'lane': 0}
    info, second = content['data_list']
    assert (info['frame_id'], second['frame_id']) == ('images/100k/train/aaaa-1', 'images/100k/train/bbbb-2')
    # Two borders, one of them annotated from the top, became their middle; the stop line is no lane.
    np.testing.assert_allclose(info['lanes'][0], [[104, 180], [151, 80]])
    assert len(info['lanes']) == 2 and info['lane_slots'].tolist() == [0, 0] and info['lane_exist'] == [1]
    for name, widths in (('train/aaaa-1', (7, 10)), ('val/dddd-4', (2, 4))):
        mask = cv2.imread(str(root / f'perception3d_lane_masks/{name}.png'), cv2.IMREAD_UNCHANGED)
        assert mask.shape == tree.HW and set(np.unique(mask)) == {0, 1}
        row = np.flatnonzero(mask[130, :160])
        assert widths[0] <= len(row) <= widths[1] and row[0] <= 127.5 <= row[-1]
    assert (root / 'perception3d_lane_lists/val_gt.txt').read_text() == (
        '/images/100k/val/cccc-3.jpg /perception3d_lane_masks/val/cccc-3.png 0\n'
        '/images/100k/val/dddd-4.jpg /perception3d_lane_masks/val/dddd-4.png 1\n'
    )
    (test,) = read_pickle(root / 'perception3d_infos_test.pkl')['data_list']
    assert not test['labelled'] and 'lanes' not in test


def test_three_releases_say_the_same(tmp_path):
    write_json(tmp_path / 'labels/100k/val/a.json', tree.of_one_image('a', tree.labels()))
    found = [read_markings(annotation_source(tmp_path, 'val'))]
    write_json(
        tmp_path / 'labels/bdd100k_labels_images_val.json', [{'name': 'a.jpg', 'labels': tree.of_2018(tree.labels())}]
    )
    found.append(read_markings(annotation_source(tmp_path, 'val')))
    frames = {'frames': [{'name': 'a.jpg', 'labels': tree.labels()}], 'config': {}}
    write_json(tmp_path / 'labels/lane/polygons/lane_val.json', frames)
    found.append(read_markings(annotation_source(tmp_path, 'val')))
    assert [list(each) for each in found] == [['a']] * 3
    for first, *others in zip(*(each['a'] for each in found)):
        for other in others:
            assert (first.category, first.direction, first.style) == (other.category, other.direction, other.style)
            np.testing.assert_array_equal(first.points, other.points)
    assert [len(marking.points) for marking in found[0]['a']] == [2, 17, 2, 2]
    assert annotation_source(tmp_path, 'train') is None


def test_a_curve_has_two_control_points():
    vertices = np.array([[0.0, 0], [0, 3], [3, 3], [3, 0], [5, 5]])
    curve = flatten(vertices, 'LCCCL', '')
    np.testing.assert_array_equal(curve, flatten(vertices, 'CCCLL', ''))
    assert len(curve) == 18
    # The middle of a Bezier curve: an eighth of its ends, three eighths of its control points.
    np.testing.assert_allclose(curve[8], [1.5, 2.25])
    np.testing.assert_array_equal(curve[[0, 16, 17]], vertices[[0, 3, 4]])


def test_borders_are_paired_only_where_they_are_one_marking():
    line = [[0, 100], [10, 0]]
    near = [[8, 100], [14, 0]]

    def count(*others, **attributes):
        return len(centre_lines([_marking(line), *(_marking(other, **attributes) for other in others)]))

    assert count(near) == 1 and count(near[::-1]) == 1
    np.testing.assert_allclose(centre_lines([_marking(line), _marking(near[::-1])])[0], [[4, 100], [12, 0]])
    assert count(near, style='dashed') == count(near, category='road curb') == count(near, direction='vertical') == 2
    assert count([[60, 100], [70, 0]]) == 2  # The next lane.
    assert count([[11, -5], [16, -55]]) == 2  # The next dash of the same marking.
    assert count([[-40, 60], [60, 40]]) == 2  # It crosses.
    assert count([[3, 50]]) == 2  # A single point.
    # Of three lines the closest two.
    lines = centre_lines([_marking(line), _marking([[12, 100], [20, 0]]), _marking([[16, 100], [24, 0]])])
    np.testing.assert_allclose(lines[0], line)
    np.testing.assert_allclose(lines[1], [[14, 100], [22, 0]])
    wide = [[60, 100], [70, 0]]
    pair = [_marking(each, 'double yellow') for each in (line, wide)]
    assert len(centre_lines(pair)) == 1 and centre_lines([]) == []


def test_all_markings(tmp_path):
    root = tree.write_bdd100k_tree(tmp_path)
    entry = create_infos(root, all_markings=True, progress=False)['val']
    assert entry['lanes'] == {'lane': 3, 'no slot': 0} and '4 annotated lines became 3 lanes' in entry['notes'][0]
    assert '2 images are not 1280x720' in entry['notes'][-1] and 'such as one of 320x180' in entry['notes'][-1]


def _edit(root, change):
    path = root / 'labels/lane/polygons/lane_train.json'
    content = read_json(path)
    change(content)
    write_json(path, content)


@pytest.mark.parametrize(
    'change, fault',
    [
        (lambda c: c[0].pop('name'), r'lane_train\.json is not a list of images with name and labels'),
        (lambda c: c[0].update(labels=['lane']), 'bbbb-2.jpg: labels is not a list of labels'),
        (lambda c: c[0]['labels'][0].update(attributes=['solid']), 'bbbb-2.jpg, label 0: attributes is no table'),
        (lambda c: c[0].update(name='../x.jpg'), 'has a path as the name of an image'),
        (lambda c: c.append(c[0]), "has the images twice: 'bbbb-2.jpg'"),
        (lambda c: c[0].update(name='zzzz.jpg'), r'1 of 2 files .* are missing .*zzzz\.jpg'),
        (lambda c: c[0]['labels'][0]['poly2d'][0].update(types='L'), 'bbbb-2.jpg, label 0: 1 types for vertices'),
        (lambda c: c[0]['labels'][1]['poly2d'][0].update(types='LLCC'), "label 1: types are 'LLCC': a curve has two"),
        (lambda c: c[0]['labels'][1]['poly2d'][0].update(types='LXCC'), 'expected L .a vertex. and C'),
        (lambda c: c[0]['labels'][0].update(poly2d=[[1, 2]]), 'label 0: poly2d is neither a list of vertices'),
        (
            lambda c: c[0]['labels'][0]['poly2d'][0].update(vertices=[[1, float('nan')], [2, 3]]),
            'label 0: a vertex is not finite',
        ),
        (lambda c: c[0]['labels'][0]['attributes'].update(laneStyle='dotted'), "unknown laneStyle .* 'dotted'"),
        (
            lambda c: c[0]['labels'][0].update(category='lane', attributes={'laneTypes': 'white'}),
            "unknown lane type .*label 0.* 'white'",
        ),
    ],
)
def test_annotations_that_cannot_be_used(tmp_path, change, fault):
    root = tree.write_bdd100k_tree(tmp_path)
    _edit(root, change)
    with pytest.raises(InputError, match=fault):
        create_infos(root, progress=False)
    assert not (root / 'perception3d_infos_train.pkl').exists()


def test_trees_without_labels_or_images(tmp_path):
    with pytest.raises(InputError, match='unpack the 100K images'):
        create_infos(tmp_path, progress=False)
    (tmp_path / 'images/100k/train').mkdir(parents=True)
    with pytest.raises(InputError, match=re.escape('has neither labels/lane/polygons/lane_train.json')):
        create_infos(tmp_path, progress=False)
