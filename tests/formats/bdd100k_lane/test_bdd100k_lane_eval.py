"""BDD100K's lane table against its own test case and a slow version, pixel scores, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from perception3d.checks import InputError
from perception3d.formats.bdd100k_lane.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.bdd100k_lane.evaluation.pixels import pixel_scores
from perception3d.formats.bdd100k_lane.evaluation.table import image_scores, mean_table
from perception3d.formats.bdd100k_lane.files import TASKS, attribute_of_byte

DATA = Path(__file__).parents[2] / 'data' / 'bdd100k_lane'
# The table in tests/eval/lane_test.py of bdd100k, its rows in their order.
OFFICIAL = [
    [70.53328267, 80.9831119, 100.0], [100.0, 100.0, 100.0],
    [70.53328267, 80.9831119, 100.0], [100.0, 100.0, 100.0],
    [99.82147748, 100.0, 100.0], [100.0, 100.0, 100.0], [100.0, 100.0, 100.0], [75.33066961, 79.34917317, 100.0],
    [71.02916505, 86.25984707, 100.0], [100.0, 100.0, 100.0], [96.43828133, 100.0, 100.0], [94.79621737, 100.0, 100.0],
    [85.26664133, 90.49155595, 100.0], [85.26664133, 90.49155595, 100.0], [92.17697636, 95.70112753, 100.0],
    [87.57008634, 92.22807981, 100.0],
]  # fmt: skip


def _rows(table: dict) -> np.ndarray:
    distances = ('1.0', '2.0', '5.0')
    classes = [[table[task][d][name] for d in distances] for task, names in TASKS.items() for name in names]
    means = [[table[task][d]['avg'] for d in distances] for task in TASKS]
    return np.array([*classes, *means, [table['total'][d] for d in distances]])


def _save(folder: Path, name: str, image: np.ndarray) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)


def test_table_of_the_official_test_case():
    table, text = evaluate_folders(DATA / 'gts', DATA / 'res', progress=False)
    assert table.keys() == {'direction', 'style', 'category', 'total'}
    np.testing.assert_allclose(_rows(table), OFFICIAL, rtol=0, atol=5e-9)
    # The bits that the official tool gives; its own test rounds.
    assert table['total']['1.0'].hex() == '0x1.5e47c4b6c39c9p+6'
    assert table['category']['2.0']['avg'].hex() == '0x1.7ecdf46021c60p+6'
    assert 'single yellow' in text and '87.57' in text


def _slow_scores(truth: np.ndarray, predicted: np.ndarray, distance: int) -> list[float]:
    """The F-scores by the distances of all pairs of pixels."""
    scores = []
    for task, names in TASKS.items():
        for value in range(len(names)):
            points = [np.argwhere(attribute_of_byte(task)[image] == value) for image in (truth, predicted)]
            shares = []
            for own, other in (points, points[::-1]):
                near = ((own[:, None] - other[None]) ** 2).sum(-1) <= distance**2
                shares.append(near.any(1).mean() if len(own) else 1.0)
            recall, precision = shares
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return scores


@pytest.mark.parametrize('hw', [(24, 31), (3, 2), (1, 9)])
def test_scores_are_those_of_all_pairs_of_pixels(hw):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        images = [np.where(rng.random(hw) < [0.1, 0.02, 1][seed % 3], rng.integers(0, 256, hw), 255) for _ in range(2)]
        truth, predicted = (image.astype(np.uint8) for image in images)
        if seed == 7:
            predicted[:] = 255
        slow = np.array([_slow_scores(truth, predicted, distance) for distance in (1, 2, 5)]).T
        np.testing.assert_array_equal(image_scores(truth, predicted), slow)


def test_a_class_of_neither_image_scores_one_and_of_one_image_zero():
    truth = np.full((9, 9), 255, np.uint8)
    scores = image_scores(truth, truth)
    assert (scores == 1).all()
    predicted = truth.copy()
    predicted[4] = 6  # Parallel, solid, single white.
    for scores in (image_scores(truth, predicted), image_scores(predicted, truth)):
        assert scores.sum() == 9 * 3 and (scores[[0, 2, 10]] == 0).all()


def test_background_is_bit_three_and_high_bits_mean_nothing():
    assert {task: attribute_of_byte(task)[0b110110].item() for task in TASKS} == {
        'direction': 1, 'style': 1, 'category': 6,
    }  # fmt: skip
    assert all(attribute_of_byte(task)[[8, 255, 0b1000]].tolist() == [-1, -1, -1] for task in TASKS)
    assert attribute_of_byte('category')[0b11000101] == 5


def test_a_missing_prediction_counts_as_zeros(tmp_path):
    truth = np.full((20, 30), 255, np.uint8)
    truth[5:8] = 0
    for name in ('a.png', 'sub/b.png'):
        _save(tmp_path / 'gt', name, truth)
    _save(tmp_path / 'pred', 'other/a.png', truth)
    _save(tmp_path / 'pred', 'c.png', truth)
    table, text = evaluate_folders(
        tmp_path / 'gt', tmp_path / 'pred', EvaluationOptions(pixel=True, jobs=1), progress=False
    )
    zeros = [image_scores(truth, truth), image_scores(truth, np.zeros_like(truth))]
    assert {**mean_table(zeros), 'pixel': table['pixel'], 'notes': table['notes']} == table
    assert table['category']['1.0']['crosswalk'] == pytest.approx(50 * (1 + 2 * 5 / 20 / (1 + 5 / 20)))
    # For the pixels it is an image in which no lane was found.
    assert table['pixel'] == {'accuracy': 0.5, 'iou': 0.5}
    assert '1 of 2 images have no prediction' in text


def test_pixel_scores_of_the_paper():
    truth, predicted = np.zeros((2, 4, 5), bool)
    truth[1], predicted[1, :3], predicted[2] = True, True, True
    assert pixel_scores(truth, predicted) == (3 / 5, 3 / 10)
    assert pixel_scores(predicted & False, predicted) == (0.0, 0.0)
    assert pixel_scores(truth, predicted & False) == (0.0, 0.0)


def test_masks_of_lane_or_not(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2] = 1
    _save(tmp_path / 'gt', 'a.png', mask)
    _save(tmp_path / 'gt', 'b.png', mask * 0)
    _save(tmp_path / 'pred', 'a.png', np.roll(mask, 2, 0) * 255 | mask * 255)
    scores, _ = evaluate_folders(tmp_path / 'gt', tmp_path / 'pred', EvaluationOptions(binary=True), progress=False)
    # An image without lanes scores 0 and stays in the mean.
    assert scores['pixel'] == {'accuracy': 0.5, 'iou': 0.25} and scores.keys() == {'pixel', 'notes'}
    # Read as bytes the background would be a crosswalk: a note says so.
    _, text = evaluate_folders(tmp_path / 'gt', tmp_path / 'pred', progress=False)
    assert text.count('give --binary') == 2


@pytest.mark.parametrize(
    'image, fault',
    [
        (np.zeros((5, 6), np.uint8), r'pred/a\.png is 6 x 5 pixels, but .*gt/a\.png 8 x 6'),
        (np.zeros((6, 8, 3), np.uint8), r'pred/a\.png is a picture of mode RGB: expected one channel of 8 bits'),
        (np.zeros((6, 8), np.uint16), r'pred/a\.png is a picture of mode I;16'),
        (None, r'pred/a\.png is not a readable PNG'),
    ],
)
def test_files_that_cannot_be_scored(tmp_path, image, fault):
    _save(tmp_path / 'gt', 'a.png', np.full((6, 8), 255, np.uint8))
    (tmp_path / 'pred').mkdir()
    if image is None:
        whole = cv2.imencode('.png', np.random.default_rng(0).integers(0, 99, (6, 8)).astype(np.uint8))[1].tobytes()
        (tmp_path / 'pred' / 'a.png').write_bytes(whole[: len(whole) // 2])
    else:
        _save(tmp_path / 'pred', 'a.png', image)
    with pytest.raises(InputError, match=fault):
        evaluate_folders(tmp_path / 'gt', tmp_path / 'pred', progress=False)


def test_folders_without_pngs(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match=r'empty holds no \.png files'):
        evaluate_folders(DATA / 'gts', tmp_path / 'empty', progress=False)
    with pytest.raises(InputError, match='missing does not exist: give --gt the folder of label PNGs'):
        evaluate_folders(tmp_path / 'missing', tmp_path / 'empty', progress=False)
    _save(tmp_path / 'empty', 'other.png', np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match='has no prediction of any of the .* images, such as'):
        evaluate_folders(DATA / 'gts', tmp_path / 'empty', progress=False)


def test_a_palette_is_read_by_its_indices(tmp_path):
    image = Image.fromarray(np.full((4, 4), 6, np.uint8)).convert('P')
    image.putpalette([255, 0, 0] * 256)
    (tmp_path / 'gt').mkdir()
    image.save(tmp_path / 'gt' / 'a.png')
    _save(tmp_path / 'pred', 'a.png', np.full((4, 4), 6, np.uint8))
    table, _ = evaluate_folders(tmp_path / 'gt', tmp_path / 'pred', progress=False)
    assert table['total']['1.0'] == 100
