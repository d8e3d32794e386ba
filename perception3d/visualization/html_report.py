"""A report of sequences as one HTML file: pictures with a slider, counts over time, metrics; it loads nothing else.

The pictures are inside the file, and its rules for the browser (content security policy) forbid every other source, so
that it works offline and can be sent to others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import cv2
import numpy as np

from perception3d.checks import InputError
from perception3d.files import write_bytes
from perception3d.visualization.layout import resize

_WIDEST_PX = 1280
_LARGEST_PNG = 300_000
_QUALITY = 90
"""Of JPEG, for pictures with camera images, whose PNG would be larger than that many bytes."""

SUFFIXES = ('.html', '.htm')


@dataclass(frozen=True)
class ReportFrame:
    """A frame of a report.

    Attributes:
        token: of the sample.
        scene: the sequence that it belongs to.
        picture: an encoded PNG or JPEG.
        time_s: seconds, or None.
        counts: what -> how many, such as ground truth, predictions, tracks.
    """

    token: str
    scene: str
    picture: bytes
    time_s: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def encode_picture(picture: np.ndarray) -> bytes:
    """Returns a picture (H, W, 3) uint8 BGR for a report: at most 1280 pixels wide, PNG, or JPEG if that is large."""
    if picture.shape[1] > _WIDEST_PX:
        picture = resize(picture, _WIDEST_PX / picture.shape[1])
    _, png = cv2.imencode('.png', picture)
    if len(png) <= _LARGEST_PNG:
        return png.tobytes()
    _, jpeg = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return jpeg.tobytes()


def require_html_name(path: str | Path) -> Path:
    """Returns `path`; InputError unless it ends as an HTML file does."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f'{path} is not the name of a report: expected a name that ends in .html')
    return Path(path)


def write_report(path: str | Path, title: str, frames: Sequence[ReportFrame], metrics: Mapping[str, float]) -> None:
    """Writes a report whole.

    Args:
        path: ends in .html.
        title: on top of the page.
        frames: of each scene in the order in which they are shown.
        metrics: name -> value, of all frames.

    Raises:
        InputError: another suffix, or there is no frame.
    """
    path = require_html_name(path)
    if not frames:
        raise InputError(f'{path}: there is no frame to show')
    write_bytes(path, report_page(title, frames, metrics).encode())


def report_page(title: str, frames: Sequence[ReportFrame], metrics: Mapping[str, float]) -> str:
    """Returns the page of a report; see `write_report`."""
    scenes: dict[str, list[ReportFrame]] = {}
    for frame in frames:
        scenes.setdefault(frame.scene or 'frames', []).append(frame)
    content = [
        {
            'name': name,
            'frames': [
                {'token': f.token, 'time': f.time_s, 'counts': dict(f.counts), 'picture': _data_url(f.picture)}
                for f in shown
            ],
        }
        for name, shown in scenes.items()
    ]
    # A text that ends a script may not stand in it.
    data = json.dumps(content).replace('<', '\\u003c')
    parts = {
        'title': escape(title),
        'rules': _RULES,
        'words': f'{len(frames)} frames of {len(scenes)} {"scene" if len(scenes) == 1 else "scenes"}',
        'options': ''.join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(scenes)),
        'table': _table(metrics),
        'data': data,
    }
    return _PAGE.format(style=_STYLE, script=_SCRIPT, **parts)


def _data_url(picture: bytes) -> str:
    kind = 'png' if picture.startswith(b'\x89PNG') else 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(picture).decode()}'


def _table(metrics: Mapping[str, float]) -> str:
    rows = ''.join(
        f'<tr><td>{escape(name)}</td><td>{"-" if value != value else f"{value:.4g}"}</td></tr>'
        for name, value in metrics.items()
    )
    return f'<table id="metrics"><tr><th>metric</th><th>value</th></tr>{rows}</table>' if rows else '<p>No metrics.</p>'


_RULES = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser may load: pictures, style and script of the file itself."""

_STYLE = """
body { background: #14171d; color: #dfe3ea; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 1.2em auto; max-width: 1280px; padding: 0 1em; }
h1 { font-size: 1.3em; } p, label { color: #9aa3b2; }
img { width: 100%; display: block; background: #000; }
nav { display: flex; gap: .8em; align-items: center; margin: .6em 0; }
nav input[type=range] { flex: 1; }
svg { width: 100%; height: 120px; background: #1b1f27; }
table { border-collapse: collapse; margin-top: 1em; }
td, th { padding: .15em 1em .15em 0; text-align: left; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
"""

_SCRIPT = """
const scenes = JSON.parse(document.getElementById('data').textContent);
const get = id => document.getElementById(id), colors = ['#9aa3b2', '#ff4650', '#32ebc3', '#40a0ff', '#ffe132'];
let scene = 0, frame = 0, timer = null;
function chart() {
  const frames = scenes[scene].frames, names = [...new Set(frames.flatMap(f => Object.keys(f.counts)))];
  const most = Math.max(1, ...frames.flatMap(f => Object.values(f.counts)));
  const x = k => frames.length > 1 ? 1000 * k / (frames.length - 1) : 500, y = n => 112 - 104 * n / most;
  get('chart').innerHTML = names.map((name, i) =>
    `<polyline fill="none" vector-effect="non-scaling-stroke" stroke="${colors[i % colors.length]}"` +
    ` points="${frames.map((f, k) => `${x(k)},${y(f.counts[name] || 0)}`).join(' ')}"/>`).join('') +
    `<line y1="0" y2="120" x1="${x(frame)}" x2="${x(frame)}" stroke="#fff" vector-effect="non-scaling-stroke"/>`;
  get('names').replaceChildren(...names.map((name, i) => {
    const span = document.createElement('span');
    span.style.color = colors[i % colors.length];
    span.textContent = `${name}: ${frames[frame].counts[name] || 0} `;
    return span;
  }));
}
function show() {
  const frames = scenes[scene].frames, shown = frames[frame];
  get('slider').max = frames.length - 1;
  get('slider').value = frame;
  get('picture').src = shown.picture;
  const time = shown.time === null ? '' : `, ${shown.time.toFixed(3)} s`;
  get('words').textContent = `frame ${frame + 1} of ${frames.length}, ${shown.token}${time}`;
  chart();
}
function play() {
  if (timer) { clearInterval(timer); timer = null; } else {
    timer = setInterval(() => { frame = (frame + 1) % scenes[scene].frames.length; show(); }, 250);
  }
  get('play').textContent = timer ? 'stop' : 'play';
}
get('scene').onchange = event => { scene = Number(event.target.value); frame = 0; show(); };
get('slider').oninput = event => { frame = Number(event.target.value); show(); };
get('play').onclick = play;
document.onkeydown = event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step || event.target.id === 'slider') return;
  const last = scenes[scene].frames.length - 1;
  frame = Math.min(last, Math.max(0, frame + step));
  show();
};
show();
document.body.dataset.ready = scenes.length;
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{rules}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{words}. Arrow keys change the frame.</p>
<nav><label>scene <select id="scene">{options}</select></label><button id="play">play</button>
<input type="range" id="slider" min="0" value="0" aria-label="frame"></nav>
<img id="picture" alt="bird's eye view of the frame">
<p id="words"></p>
<svg id="chart" viewBox="0 0 1000 120" preserveAspectRatio="none" aria-label="counts of each frame"></svg>
<p id="names"></p>
{table}
<noscript><p>The slider needs JavaScript.</p></noscript>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
