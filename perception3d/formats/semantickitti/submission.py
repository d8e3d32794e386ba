"""Submissions to SemanticKITTI's server: label files by sequence, and one zip archive of them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.files import write_bytes, write_whole
from perception3d.formats.semantickitti.files import label_encoding, split_name
from perception3d.outputs import require_name

ARCHIVE = 'submission.zip'


def write_prediction(folder: str | Path, frame_id: str, labels: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Writes `sequences/08/predictions/000123.label` of the frame '08_000123' below a folder: the benchmark's ids.

    Raises:
        InputError: the frame id is another, or there are classes that the benchmark does not have.
    """
    write_bytes(Path(folder) / _name(frame_id), label_encoding(tuple(classes)).encode(labels))


def write_archive(folder: str | Path, frame_ids: Iterable[str]) -> Path:
    """Writes the files of these frames below a folder into `submission.zip` there, and returns its path.

    The archive has entries for its directories, which `validate_submission.py` of semantic-kitti-api asks for.
    """
    names = sorted(_name(frame_id) for frame_id in set(frame_ids))
    folders = sorted({f'{parent}/' for name in names for parent in Path(name).parents if parent != Path('.')})
    path = Path(folder) / ARCHIVE
    with write_whole(path) as temporary, zipfile.ZipFile(temporary, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in folders:
            archive.writestr(zipfile.ZipInfo(name), b'')
        for name in names:
            archive.write(Path(folder) / name, name)
    return path


def _name(frame_id: str) -> str:
    sequence, scan = split_name(frame_id)
    if not sequence.isdigit() or not scan.isdigit():
        raise InputError(f'frame {frame_id} is not a scan of SemanticKITTI: expected SEQUENCE_SCAN, such as 08_000123')
    return f'sequences/{require_name(sequence, "sequence")}/predictions/{require_name(scan, "scan")}.label'
