"""`python -m benchmarks [NAME ...]`: run the benchmarks and print one line per result.

Exits 0 whether targets are met or missed: the figures are for people to judge, and machines differ.
"""

import argparse
import importlib
import os
import platform
from importlib.metadata import version

NAMES = (
    "candle_to_decision",
    "ensemble_forward",
    "backtest_speed",
    "environment_speed",
    "footprint",
    "durability",
    "training_speed",
    "training_latency",
)
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Run what the command line names, everything without a name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="one short round each: shows that they run, not how fast")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in NAMES]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    # The number of threads is fixed when NumPy is imported, so nothing above imports it.
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    print(machine())
    for name in arguments.names or NAMES:
        for result in importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick):
            print(result.format(), flush=True)


def machine() -> str:
    """Return what the figures were measured on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "stable-baselines3", "pandas"))
    settings = "".join(f", {name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith("OPENBLAS_"))
    cores = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return f"{_processor()}, {cores}, Python {platform.python_version()}, {libraries}{settings}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a line at a time
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
