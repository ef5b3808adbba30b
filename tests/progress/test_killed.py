"""A real process, killed: what it recorded of its progress is shown, at most about a second old."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from holdfast import Status, Store

PROGRAM = Path(__file__).with_name("moving_program.py")
STEPS = 120  # of at least 20 ms


def test_after_kill_9_the_last_recorded_value_is_shown(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, str(PROGRAM), str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = 0
        for line in process.stdout:
            printed = int(line)
            if printed >= STEPS:
                process.kill()
                break
        printed += sum(1 for _ in process.stdout)
        process.wait()
    assert process.returncode == -9
    state = Store(str(tmp_path)).state_sync("it")
    assert state.status is Status.CRASHED
    assert state.root is not None
    assert 1 <= state.root.progress["steps"].n <= printed + 1
    assert [message.content for message in state.root.messages] == ["moving"]
