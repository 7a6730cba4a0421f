"""The cores of this machine: which there are, how they are shared, and how many threads numeric libraries start on them."""

import os

# Where numeric libraries are told how many threads to start.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def cores() -> list[int]:
    """The cores that this process may use; where the system does not tell, all that there are."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def threads() -> int:
    """Among how many threads TensorFlow splits its sums here: as many as it is told to, else one a core."""
    setting = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(setting) if setting.isdigit() and int(setting) else len(cores())


def shares(count: int) -> list[list[int]]:
    """The cores of `count` workers: equal shares; where there are more workers than cores, some have one together."""
    mine = cores()
    return [mine[worker::count] or [mine[worker % len(mine)]] for worker in range(count)]


def memory() -> int:
    """The memory of this machine in bytes; 0 where the system does not tell."""
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else 0
