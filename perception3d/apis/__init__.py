"""What the tools call: configs, runners, checkpoints, inference."""
