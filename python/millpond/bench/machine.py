"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time


def processor() -> str:
    """The processor's name, or the architecture where the kernel tells no name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.machine()


def millpond_version() -> str:
    """The installed version."""
    try:
        return importlib.metadata.version("millpond")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


PEERS = ("numpy", "mpire", "joblib", "loky", "ray")


def peer_versions() -> str:
    """The versions of what is measured beside, where it is installed."""
    found = []
    for package in PEERS:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def machine() -> dict[str, str]:
    """Facts in the order in which they are printed."""
    build = "debug" if hasattr(sys, "gettotalrefcount") else "release"
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "memory": f"{memory_gib:.1f} GiB",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()) + " (1, 5, 15 minutes)",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.python_compiler()}, {build}",
        "millpond": millpond_version(),
        "peers": peer_versions(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
