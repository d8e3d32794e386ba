"""The few hooks, loops and launchers that mmengine lacks."""
