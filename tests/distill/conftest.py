from __future__ import annotations

import pytest
from mmengine.logging import MessageHub


@pytest.fixture(autouse=True)
def no_running_training():
    """Removes the progress of a training that ran in the same process: schedules of links would read it."""
    hub = MessageHub.get_current_instance()
    for name in ('iter', 'max_iters'):
        hub._runtime_info.pop(name, None)
