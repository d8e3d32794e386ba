"""Mistakes in an experiment file are found before anything runs; digests change with what an arm computes."""

from __future__ import annotations

import hashlib
import json

import pytest

from perception3d.checks import InputError
from perception3d.experiment.plan import read_experiment
from perception3d.experiment.records import fingerprints

HEAD = 'seeds = (0,)\nmetrics = ("score",)\n'


ARM = 'arms = {"a": dict(config="config.py"), "b": dict(config="config.py", options={"model.width": 4})}\n'


@pytest.mark.parametrize(
    'text, message',
    [
        (HEAD, 'arms is missing'),
        (HEAD + 'arms = {}', 'arms is empty'),
        (HEAD + 'arms = [', 'does not run as an experiment: SyntaxError'),
        (HEAD + 'arms = lost', "does not run as an experiment: NameError: name 'lost'"),
        (HEAD + ARM + 'metric = 1', "unknown key 'metric': did you mean 'metrics'"),
        (HEAD + ARM + 'scale = 0', 'scale = 0: expected a number above 0'),
        (HEAD + ARM + 'unscaled = ("scor",)', "unscaled: unknown metric 'scor': did you mean 'score'"),
        (HEAD + ARM + 'name = "a/b"', "name = 'a/b': expected a file name"),
        (HEAD + ARM + 'metrics = "score"', "metrics is 'score': expected a tuple of names"),
        (HEAD + ARM + 'seeds = 3', 'seeds is 3: expected a tuple of integers'),
        (HEAD + ARM + 'seeds = (1, 2, 1)', 'a seed appears twice'),
        (HEAD + ARM + 'baseline = "aa"', "baseline: unknown arm 'aa': did you mean 'a'"),
        (HEAD + ARM + 'options = {"randomness.seed": 3}', 'name the seeds in `seeds`'),
        (HEAD + ARM + 'prepare = ["echo"]', 'prepare is .* expected a list of commands'),
        (HEAD + ARM + 'prepare = [["echo", "{a}"]]', 'only {out} is known before the cells run'),
        (HEAD + ARM + 'prepare = [["tools/none.py"]]', 'neither .*tools/none.py nor .* exists'),
        (
            HEAD + 'arms = {"a": dict(config="config.py"), "a": dict(config="b.py")}',
            "line 3: the key 'a' appears twice",
        ),
        (HEAD + 'arms = {"out": dict(config="config.py")}', "arm 'out': expected a name"),
        (HEAD + 'arms = {"a": dict()}', "arm 'a': config is missing"),
        (HEAD + 'arms = {"a": dict(config="confg.py")}', "arm 'a': .*confg.py does not exist"),
        (HEAD + 'arms = {"a": dict(config="config.py", test_config="none.py")}', 'none.py does not exist'),
        (HEAD + 'arms = {"a": dict(config="config.py", option={})}', "unknown key 'option': did you mean 'options'"),
        (HEAD + 'arms = {"a": dict(config="config.py", options={"model.widht": 3})}', "arm 'a': .* did you mean model"),
        (
            HEAD + 'arms = {"a": dict(config="config.py", options={"teacher": set})}',
            'cannot be given on a command line',
        ),
        (HEAD + 'arms = {"a": dict(config="config.py", extra={"x": []})}', 'expected a number or a text'),
        (HEAD + 'arms = {"ab": dict(config="config.py", needs=["abc"])}', "unknown arm 'abc': did you mean 'ab'"),
        (
            HEAD + 'arms = {"ab": dict(config="config.py", options={"teacher": "{abc}"})}',
            'in braces: unknown',
        ),
        (HEAD + 'arms = {"a": dict(config="config.py"), "b": dict(config="config.py")}', "'a' and 'b' are the same"),
        (
            HEAD + 'arms = {"a": dict(config="config.py", needs=["b"]), "b": dict(config="config.py", needs=["a"])}',
            'arms need each other: a -> b -> a',
        ),
        (
            HEAD + 'arms = {"a": dict(config="config.py", seeds=(1, 2)), "b": dict(config="config.py", needs=["a"])}',
            "arm 'b' with seed 0 needs 'a', which has seeds .1, 2.",
        ),
    ],
)
def test_mistakes_in_the_file_are_found_before_anything_runs(lab, text, message):
    lab.write(text, head='')
    with pytest.raises(InputError, match=message) as caught:
        lab.run()
    assert str(lab.folder / 'exam.py') in str(caught.value) or 'option' in str(caught.value)
    assert not lab.out.exists()


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'only': ['aa']}, "unknown arm 'aa': did you mean 'a'"),
        ({'redo': ['c']}, "unknown arm 'c'"),
        ({'seeds': [3]}, "unknown seed '3'"),
        ({'seeds': [2], 'only': ['b']}, 'no cell has both'),
        ({'seeds': [2], 'redo': ['b']}, '--redo b: these arms have no seed of --seeds'),
    ],
)
def test_unknown_arms_and_seeds_are_named(lab, settings, message):
    lab.write('arms = {"a": dict(config="config.py"), "b": dict(config="config.py", seeds=[0], needs=["a"])}')
    with pytest.raises(InputError, match=message):
        lab.run(**settings)


def test_one_process_has_the_digest_that_it_always_had(lab):
    experiment = read_experiment(lab.folder / 'exam.py')
    assert fingerprints(experiment) == fingerprints(experiment, 1) != fingerprints(experiment, 2)
    model = {'type': 'A', 'width': 3, 'teacher': None}
    config = {'model': model, 'teacher': None, 'default_scope': 'mmdet3d', 'score': [1.0, 2.0, 4.0]}
    text = json.dumps({'train': config, 'test': config, 'needs': []}, sort_keys=True)
    assert fingerprints(experiment) == {'a': hashlib.sha256(text.encode()).hexdigest()[:16]}


def test_the_digest_knows_the_test_and_what_an_arm_is_made_from(lab):
    text = """
arms = {{
    'a': dict(config='config.py', options={{'model.width': {}}}),
    'b': dict(
        config='config.py',
        options={{'teacher': '{{a}}'}},
        test_config='config.py',
        test_options={{'model.width': {}}},
    ),
}}"""
    found = []
    for numbers in ((4, 4), (5, 4), (4, 5), (4, 4)):
        lab.write(text.format(*numbers))
        found.append(fingerprints(read_experiment(lab.folder / 'exam.py')))
    first, other_teacher, other_test, again = found
    assert first == again
    assert other_teacher['a'] != first['a'] and other_teacher['b'] != first['b']
    assert other_test['a'] == first['a'] and other_test['b'] != first['b']
