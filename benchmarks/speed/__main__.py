"""``python -m benchmarks.speed``."""

import tyro

from benchmarks.speed.native import SpeedConfig, main

if __name__ == "__main__":
    main(tyro.cli(SpeedConfig))
