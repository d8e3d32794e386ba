name = 'tiny'
seeds = (0, 1)
metrics = ('centre_error',)
baseline = 'plain'
arms = {
    'plain': dict(config='plugin_config.py', extra={'epochs': 4}),
    'tuned': dict(
        config='plugin_config.py',
        options={'+load_from': '{plain}', 'train_cfg.max_epochs': 2},
        test_config='plugin_config.py',
        extra={'epochs': 4 + 2},
    ),
}
