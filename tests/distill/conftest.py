from __future__ import annotations

import pytest
from mmengine.logging import MessageHub


@pytest.fixture(autouse=True)
def no_running_training():
    """What a training in the same process left behind would tell the schedules of links a step."""
    hub = MessageHub.get_current_instance()
    for name in ('iter', 'max_iters'):
        hub._runtime_info.pop(name, None)
