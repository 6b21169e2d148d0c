"""``python -m benchmarks.speed``."""

import subprocess
import sys


def test_help_names_the_options():
    done = subprocess.run([sys.executable, "-m", "benchmarks.speed", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--official" in done.stdout
