"""The child process of a training: `python -m lib.training_child SERVER_PID JOB.json`.

It ends with the server, also where that is killed while this one still imports: the watch starts first.
"""

from __future__ import annotations

import os
import sys
import threading
import time


def end_with(server: int) -> None:
    """End this process as soon as its parent is not the server any more."""

    def watch() -> None:
        while os.getppid() == server:
            time.sleep(0.5)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    from lib.retraining import run_job

    sys.exit(run_job(sys.argv[2]))
