"""Files for GitHub, pre-commit and Docker, which do not run here: their syntax, and that what they name exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import perception3d

ROOT = Path(__file__).resolve().parents[1]
FORMS = [path for path in sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml')) if path.stem != 'config']
YAML = sorted([*ROOT.glob('.github/**/*.yml'), ROOT / '.pre-commit-config.yaml', ROOT / 'CITATION.cff'])


def _read(path: Path):
    return yaml.safe_load(path.read_text())


def _make_targets() -> set[str]:
    (phony,) = re.findall(r'^\.PHONY: (help .*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    return set(phony.split())


def _pythons() -> list[str]:
    (versions,) = re.findall(r"^versions='(.*)'$", (ROOT / 'requirements/choose_python.sh').read_text(), re.MULTILINE)
    return sorted(versions.split(), key=lambda version: int(version.partition('.')[2]))


def _pin(package: str) -> str:
    (version,) = re.findall(rf'^{package}==(\S+)$', (ROOT / 'requirements/dev.txt').read_text(), re.MULTILINE)
    return version


def _calls_of_make(text: str) -> list[str]:
    return re.findall(r'^make ([a-z-]+)', text, re.MULTILINE)


@pytest.mark.parametrize('path', YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_files_are_mappings(path):
    assert isinstance(_read(path), dict)


def test_the_citation_is_of_this_version():
    citation = _read(ROOT / 'CITATION.cff')
    assert {'cff-version', 'message', 'title', 'authors'} <= citation.keys()
    assert (citation['version'], citation['license']) == (perception3d.__version__, 'Apache-2.0')


def test_pre_commit_takes_the_pinned_ruff_and_the_mypy_of_the_environment():
    repositories = {entry['repo']: entry for entry in _read(ROOT / '.pre-commit-config.yaml')['repos']}
    ruff = repositories['https://github.com/astral-sh/ruff-pre-commit']
    assert ruff['rev'] == f'v{_pin("ruff")}'
    assert [hook['id'] for hook in ruff['hooks']] == ['ruff-check', 'ruff-format']
    assert all('rev' in entry for name, entry in repositories.items() if name != 'local')


def test_no_file_is_larger_than_pre_commit_lets_in():
    (hooks,) = (entry['hooks'] for entry in _read(ROOT / '.pre-commit-config.yaml')['repos'] if 'v6' in str(entry))
    (limit,) = (hook['args'][0] for hook in hooks if hook['id'] == 'check-added-large-files')
    largest = max(path.stat().st_size for path in (ROOT / 'perception3d').rglob('*') if path.is_file())
    assert largest <= int(limit.removeprefix('--maxkb=')) * 1024


def test_the_workflow_calls_make_on_every_supported_python():
    workflow = _read(ROOT / '.github/workflows/ci.yml')
    jobs = workflow['jobs']
    assert jobs['quick']['strategy']['matrix']['python'] == _pythons()
    steps = [step for job in jobs.values() for step in job['steps']]
    assert all(('uses' in step) != ('run' in step) for step in steps)
    targets = [target for step in steps for target in _calls_of_make(step.get('run', ''))]
    assert {'setup', 'lint', 'test-fast', 'test'} == set(targets) <= _make_targets()
    # YAML 1.1 reads the key `on` as true.
    assert {'push', 'pull_request'} == workflow[True].keys()


@pytest.mark.parametrize('path', FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_github_asks_for(path):
    form = _read(path)
    assert {'name', 'description', 'body'} <= form.keys()
    fields = form['body']
    assert all(field['type'] in {'textarea', 'input', 'dropdown', 'checkboxes'} for field in fields)
    assert all(field['attributes']['label'] for field in fields)
    names = [field['id'] for field in fields]
    assert len(names) == len(set(names))
    named = re.findall(r'(?:docs|tools)/\w+\.\w+', path.read_text())
    assert all((ROOT / name).is_file() for name in named)


def test_the_container_runs_the_demo_on_a_supported_python():
    text = (ROOT / 'Dockerfile').read_text()
    (image,) = re.findall(r'^FROM python:([\d.]+)-slim$', text, re.MULTILINE)
    assert image in _pythons() and f'PYTHON=python{image}' in text
    steps = re.findall(r'^RUN (.*)', text, re.MULTILINE)
    (command,) = re.findall(r'^CMD (.*)', text, re.MULTILINE)
    assert _calls_of_make('\n'.join([*steps, ' '.join(json.loads(command))])) == ['setup', 'demo']
    assert {'setup', 'demo'} <= _make_targets()


def test_the_image_gets_no_data_and_no_environment():
    left_out = (ROOT / '.dockerignore').read_text().splitlines()
    assert {'.git', '.venv', 'data/*', 'work_dirs'} <= set(left_out)
