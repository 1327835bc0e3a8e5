"""Slurm accounting of a devcluster: slurmdbd, and a MariaDB of its own that listens on a socket only."""

import shutil

from daemons import ask, run, start, start_in_background, wait
from settings import CLUSTER, Settings

ACCOUNT = "devcluster"


def start_accounting(settings: Settings) -> None:
    """Start both, and register the cluster, an account and this user in slurmdbd. Idempotent."""
    _make_database(settings)
    places = (
        f"--datadir={settings.database}",
        f"--socket={settings.database_socket}",
        f"--pid-file={settings.folder}/run/mariadbd.pid",
    )
    # Small sizes. A commit need not reach the disk: the data is temporary. slurmdbd requires the lock timeout.
    sizes = (
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=16M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-lock-wait-timeout=900",
        "--performance-schema=OFF",
    )
    command = ("mariadbd", "--no-defaults", "--user=root", "--skip-networking", *places, *sizes)
    start_in_background(settings, "mariadbd", command)
    wait(settings, "socket of MariaDB", settings.database_socket.exists)
    start(settings, "slurmdbd", ("slurmdbd",))
    wait(settings, "answer of slurmdbd", lambda: ask(settings, ("sacctmgr", "-n", "-P", "show", "cluster")) is not None)
    _register(settings)


def _make_database(settings: Settings) -> None:
    """Create the data folder; it gets its name only when it is complete."""
    if settings.database.is_dir():
        return
    making = settings.database.with_name("making")
    shutil.rmtree(making, ignore_errors=True)
    making.parent.mkdir(exist_ok=True)
    with (settings.logs / "mariadb-install-db.out").open("w") as log:
        options = ("--no-defaults", "--user=root", "--skip-test-db", "--innodb-log-file-size=16M")
        run(("mariadb-install-db", *options, f"--datadir={making}"), settings.environment(), output=log)
    making.rename(settings.database)


def _register(settings: Settings) -> None:
    """Register cluster, account and user: jobs of an unknown cluster are not recorded."""
    things = {
        "cluster": (CLUSTER,),
        "account": (ACCOUNT, f"Cluster={CLUSTER}", "Description=devcluster", "Organization=sam2ft"),
        "user": ("root", f"Cluster={CLUSTER}", f"Account={ACCOUNT}"),
    }
    for kind, words in things.items():
        known = (ask(settings, ("sacctmgr", "-n", "-P", "show", kind, f"{words[0]}", "format=" + kind)) or "").split()
        if kind == "user":
            where = (f"user={words[0]}", f"account={ACCOUNT}", "format=user")
            known = (ask(settings, ("sacctmgr", "-n", "-P", "show", "assoc", *where)) or "").split()
        if words[0] not in known:
            added = ask(settings, ("sacctmgr", "-i", "-Q", "add", kind, *words))
            wait(settings, f"{kind} {words[0]} in accounting", lambda added=added: added is not None)  # type: ignore[misc]
