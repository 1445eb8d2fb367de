"""Cores and memory follow the limits of control groups, as containers and services see them."""

import os
from pathlib import Path

import pytest

from mien.machine import usable_cores, usable_memory

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB = 1024**2
V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def machine(root: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    """A folder that looks like a Linux machine to a process in one control group."""
    known = {
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": f"23 1 8:1 / / rw - ext4 /dev/sda rw\n{mounts}",
        **files,
    }
    for name, text in known.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert (usable_cores(tmp_path), usable_memory(tmp_path)) == (CORES, MEMORY)


@pytest.mark.parametrize(("quota", "cores"), [
    ("100000 100000", 1), ("50000 100000", 1), ("1000 100000", 1), ("max 100000", CORES),
    (f"{CORES * 200_000} 100000", CORES), ("", CORES), ("nonsense", CORES), ("0 0", CORES),
])  # fmt: skip
def test_the_quota_of_a_container(tmp_path: Path, quota: str, cores: int) -> None:
    """As `docker run --cpus` sets it: the container sees its own group as the root."""
    root = machine(tmp_path, "0::/\n", V2_MOUNT, {"sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert usable_cores(root) == cores


@pytest.mark.skipif(CORES < 2, reason="on one core every quota gives one")
def test_a_part_of_a_core_counts_as_one(tmp_path: Path) -> None:
    assert usable_cores(machine(tmp_path, "0::/\n", V2_MOUNT, {"sys/fs/cgroup/cpu.max": "110000 100000"})) == 2


def test_the_lowest_limit_of_the_enclosing_groups_counts(tmp_path: Path) -> None:
    """As systemd nests them: the limit may be on the slice."""
    group = "sys/fs/cgroup/mien.slice/mien.service"
    files = {
        f"{group}/worker/cpu.max": "max 100000", f"{group}/worker/memory.max": "max",
        f"{group}/cpu.max": "400000 100000", f"{group}/memory.max": f"{64 * MIB}",
        "sys/fs/cgroup/mien.slice/cpu.max": "100000 100000", "sys/fs/cgroup/mien.slice/memory.max": f"{128 * MIB}",
        "sys/fs/cgroup/other.slice/cpu.max": "1000 100000", "sys/fs/cgroup/other.slice/memory.max": "1",
    }  # fmt: skip
    root = machine(tmp_path, "0::/mien.slice/mien.service/worker\n", V2_MOUNT, files)
    assert (usable_cores(root), usable_memory(root)) == (1, 64 * MIB)


V1_MOUNTS = (
    "33 31 0:31 {shown} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {shown} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


@pytest.mark.parametrize(("cgroup", "shown", "folder"), [
    ("4:memory:/\n2:cpuacct,cpu:/\n", "/", ""),
    ("4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n", "/docker/ab", ""),  # the host's paths, the container's mounts
    ("4:memory:/a/b\n2:cpu,cpuacct:/a/b\n0::/\n", "/", "/a"),
    ("4:memory:/../../x\n2:cpu,cpuacct:/../../x\n", "/", ""),
])  # fmt: skip
def test_the_first_version_of_control_groups(tmp_path: Path, cgroup: str, shown: str, folder: str) -> None:
    files = {
        f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_quota_us": "100000\n",
        f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_period_us": "100000\n",
        f"sys/fs/cgroup/memory{folder}/memory.limit_in_bytes": f"{32 * MIB}\n",
    }
    root = machine(tmp_path, cgroup, V1_MOUNTS.format(shown=shown), files)
    assert (usable_cores(root), usable_memory(root)) == (1, 32 * MIB)


def test_no_limit_in_the_first_version(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }  # fmt: skip
    root = machine(tmp_path, "4:memory:/\n2:cpu,cpuacct:/\n", V1_MOUNTS.format(shown="/"), files)
    assert (usable_cores(root), usable_memory(root)) == (CORES, MEMORY)


def test_a_folder_with_a_space(tmp_path: Path) -> None:
    mounts = V2_MOUNT.replace("/sys/fs/cgroup", "/sys/c\\040group")
    assert usable_cores(machine(tmp_path, "0::/\n", mounts, {"sys/c group/cpu.max": "100000 100000"})) == 1
