"""Installation of Slurm and MariaDB with apt-get, without starting or enabling services of the system."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemons import run

# MariaDB without its service, its system user and its data folder: server-core has the programs, client-core one
# program that mariadb-server-core needs.
PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server-core", "mariadb-client-core")
PROGRAMS = (
    "munged",
    "mariadbd",
    "mariadb-install-db",
    "my_print_defaults",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "sbatch",
    "squeue",
    "srun",
    "sacctmgr",
)
POLICY = Path("/usr/sbin/policy-rc.d")
UNITS = Path("/etc/systemd/system")


def missing_programs() -> list[str]:
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=search) is None]


def install() -> None:
    """Install what is missing. Services that the packages would start or enable stay off."""
    if shutil.which("apt-get") is None:
        sys.exit(f"devcluster: apt-get not found; install {', '.join(missing_programs())} yourself")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    run(["apt-get", "update", "-qq"], env)
    enabled = _enabled()
    with _no_service_starts():
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], env)
    for link in sorted(_enabled() - enabled):
        link.unlink()
    if missing := missing_programs():
        sys.exit(f"devcluster: {', '.join(missing)} not found after installing {' '.join(PACKAGES)}")


def _enabled() -> set[Path]:
    """Links by which systemd starts units at boot."""
    return set(UNITS.glob("*.wants/*"))


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid maintainer scripts to start services (Debian's policy-rc.d); an existing policy is restored afterwards."""
    ours = "#!/bin/sh\n# of a devcluster's installation, may be removed\nexit 101\n"
    kept = POLICY.with_name("policy-rc.d.devcluster")
    if POLICY.exists() and POLICY.read_text(encoding="utf-8") != ours:
        POLICY.rename(kept)
    POLICY.write_text(ours, encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
        if kept.exists():
            kept.rename(POLICY)
