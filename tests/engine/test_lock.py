"""A run's folder belongs to one process at a time, and to none once that is dead."""

import subprocess
import sys
import threading

from corrloss.engine.lock import exclusive

HOLD = """
import sys, time
from pathlib import Path
from corrloss.engine.lock import exclusive
with exclusive(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_waits_and_goes_on_when_the_first_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    said, entered = [], threading.Event()

    def wait_for_it():
        with exclusive(tmp_path, said.append):
            entered.set()

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    try:
        assert not entered.wait(0.5)
        assert "another process is at work" in said[0] and str(tmp_path) in said[0]
        holder.kill()
        assert entered.wait(10)
    finally:
        holder.kill()
        waiting.join()


def test_a_free_folder_is_taken_without_a_word(tmp_path):
    said = []
    with exclusive(tmp_path / "new", said.append):
        assert (tmp_path / "new").is_dir()
    assert said == []
