"""Check of a site file on the cluster (`make site-check`), line by line, without submitting work."""

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.evaluation import RequestedResources
from sam2ft.core.errors import DONE, USER_CAN_FIX, UserError
from sam2ft.runs.layout import RUNS
from sam2ft.runs.plan_file import Resources
from sam2ft.runs.resources.resources import evaluation_resources, resources_text
from sam2ft.slurm.answers import answer_of, run_program
from sam2ft.slurm.batch_script import python_command, report_resources, site_lines
from sam2ft.slurm.gpu_check import gpu_finding, read_gpu_facts
from sam2ft.slurm.limits import limit_problems, try_submission
from sam2ft.slurm.partitions import ClusterLimits, read_limits
from sam2ft.slurm.queue import slurm_is_installed
from sam2ft.slurm.site import SITES, Site, load_site

CheckResult = Literal["ok", "problem", "unknown"]
WORDS: dict[CheckResult, str] = {"ok": "ok", "problem": "problem", "unknown": "could not be checked"}
_TIMEOUT_S = 120
_NETWORK_FILES = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "smb", "cifs", "afs", "panfs", "pvfs", "wekafs")


@dataclass(frozen=True)
class Finding:
    """One line of the site check."""

    subject: str
    result: CheckResult
    text: str

    def to_json(self) -> dict[str, str]:
        return {"subject": self.subject, "verdict": self.result, "text": self.text}


def show_site_check(name: str, experiment: Path | None, overrides: Sequence[str], *, as_json: bool = False) -> int:
    """Print every finding of the check as soon as it is known; returns the exit code, 2 when there is a problem.

    Args:
        experiment: experiment file whose resources are checked too.

    Raises:
        ProblemsError: the experiment cannot be loaded.
    """
    found = []
    for finding in check_site(name, experiment, overrides):
        found.append(finding)
        if not as_json:
            print(f"{WORDS[finding.result]:<21} {finding.subject}: {finding.text}", flush=True)
    if as_json:
        print(json.dumps([finding.to_json() for finding in found], indent=2))
    counts = {result: sum(finding.result == result for finding in found) for result in WORDS}
    summary = ", ".join(f"{count} {WORDS[result]}" for result, count in counts.items() if count)
    print(f"site {name}: {summary}", file=sys.stderr)
    return USER_CAN_FIX if counts["problem"] else DONE


def check_site(name: str, experiment: Path | None = None, overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield every finding; checks that need an earlier one are left out where that failed."""
    try:
        site = load_site(name)
    except UserError as error:
        yield Finding("file", "problem", str(error))
        return
    yield Finding("file", "ok", f"{SITES / name}.yaml is valid")
    classes = resource_classes(site, experiment, overrides)
    if slurm_is_installed():
        yield from _on_slurm(site, classes)
    else:
        yield Finding("Slurm", "unknown", "no sbatch and squeue on this machine; run this on a login node")
    yield from _on_this_machine(site, with_gpus=any(asked.gpus_per_node for asked in classes.values()))


def resource_classes(site: Site, experiment: Path | None, overrides: Sequence[str]) -> dict[str, Resources]:
    """Return name -> resources to check: those of the experiment's points, else the defaults of site and schema."""
    if experiment is None:
        # Resources of an experiment without a `resources` section: the schema's defaults, filled by the site.
        return {"points": site.filled(RequestedResources())}
    found: dict[str, Resources] = {}
    for point in load_experiment(experiment, overrides).points:
        asked = site.fill(point.experiment)
        for stage, resources in (("train", asked), ("eval", evaluation_resources(point.experiment, asked))):
            if resources not in found.values():
                found[f"{stage} of {point.name}"] = resources
    return found


# --- Slurm ------------------------------------------------------------------------------------------------------------


def _on_slurm(site: Site, classes: dict[str, Resources]) -> Iterator[Finding]:
    try:
        limits = read_limits()
    except UserError as error:
        yield Finding("Slurm", "problem", str(error))
        return
    yield _cluster_name(site, limits)
    for what, partition in (
        ("points", site.slurm.partition),
        ("report", site.report.partition or site.slurm.partition),
    ):
        yield _partition(what, partition, limits)
    yield from _associations(site, limits)
    for name, resources in classes.items():
        yield from _class(name, resources, site, limits)
    answer = try_submission(report_resources(site), site, report=True)
    yield Finding("report job", _result(answer.accepted), answer.text)


def _cluster_name(site: Site, limits: ClusterLimits) -> Finding:
    configured, found = site.site.cluster_name, limits.cluster_name
    if configured is None:
        return Finding("cluster", "ok", f"is {found}; with `cluster_name: {found}` it is found without SITE=")
    if configured != found:
        return Finding("cluster", "problem", f"site.cluster_name is {configured!r}, this Slurm is {found!r}")
    return Finding("cluster", "ok", f"is {found}")


def _partition(what: str, name: str | None, limits: ClusterLimits) -> Finding:
    partition, subject = limits.partition(name), f"partition of {what}"
    if partition is None:
        known = ", ".join(sorted(limits.partitions)) or "none"
        return Finding(subject, "problem", f"{name or 'none given, and no default'}; known: {known}")
    if partition.state != "UP":
        return Finding(subject, "problem", f"{partition.name} is {partition.state}")
    most = "no time limit" if partition.max_time_min is None else f"at most {partition.max_time_min / 60:g} h"
    gpus = sum(kind.count * kind.gpus for kind in partition.nodes)
    has = f", {gpus} GPUs" if gpus else ""
    return Finding(subject, "ok", f"{partition.name} is up: {partition.num_nodes} nodes{has}, {most}")


def _associations(site: Site, limits: ClusterLimits) -> Iterator[Finding]:
    """Whether account and quality of service exist in the accounting; unknown on clusters without accounting."""
    slurm = site.slurm
    for subject, value, command in (
        ("account", slurm.account, ["associations", "where", f"account={slurm.account}", "format=account"]),
        ("qos", slurm.qos, ["qos", "where", f"name={slurm.qos}", "format=name"]),
        ("qos of report", site.report.qos, ["qos", "where", f"name={site.report.qos}", "format=name"]),
    ):
        if value is None:
            continue
        if not limits.accounting or shutil.which("sacctmgr") is None:
            yield Finding(subject, "unknown", f"{value}: this Slurm has no accounting database")
            continue
        answer = answer_of("sacctmgr", "-n", "-P", "show", *command, timeout_s=_TIMEOUT_S)
        if answer is None:
            yield Finding(subject, "unknown", f"{value}: sacctmgr does not answer")
        elif value in answer.split():
            yield Finding(subject, "ok", f"{value} exists")
        else:
            yield Finding(subject, "problem", f"{value}: does not exist in the accounting")


def _class(name: str, resources: Resources, site: Site, limits: ClusterLimits) -> Iterator[Finding]:
    subject = f"{name} ({resources_text(resources)})"
    problems = limit_problems(resources, site, limits)
    for problem in problems:
        yield Finding(subject, "problem", problem)
    if resources.hours * 3600 <= 2 * site.slurm.stop_lead_s:
        lead = f"slurm.stop_lead_s {site.slurm.stop_lead_s}"
        yield Finding(subject, "problem", f"{lead} is half of its time limit or more; a run would hardly make progress")
    answer = try_submission(resources, site)
    # sbatch does not report a time over the limit, and it repeats problems that were found above.
    if answer.accepted is not False or not problems:
        yield Finding(subject, _result(answer.accepted), answer.text)


def _result(accepted: bool | None) -> CheckResult:
    return "unknown" if accepted is None else "ok" if accepted else "problem"


# --- this machine -----------------------------------------------------------------------------------------------------


def _on_this_machine(site: Site, *, with_gpus: bool) -> Iterator[Finding]:
    for check in (_shared_folder, _container, _scratch):
        yield check(site)
    yield from _python(site, with_gpus=with_gpus)
    if site.slurm.mail is not None:
        is_one = re.fullmatch(r"[^@\s,]+@[^@\s,]+|[A-Za-z0-9._-]+", site.slurm.mail) is not None
        text = site.slurm.mail if is_one else f"{site.slurm.mail!r} is neither a mail address nor a user name"
        yield Finding("mail", "ok" if is_one else "problem", text)


def _shared_folder(_site: Site) -> Finding:
    """Whether the folder of the runs can be written, and is on a network file system, which nodes may see."""
    folder = RUNS if RUNS.is_dir() else Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("runs", "problem", f"{folder.absolute()}: cannot be written ({error.strerror})")
    kind = (answer_of("stat", "-f", "-c", "%T", str(folder.absolute()), timeout_s=_TIMEOUT_S) or "").strip()
    free = shutil.disk_usage(folder).free / 2**30
    if kind.startswith(_NETWORK_FILES):
        return Finding("runs", "ok", f"{folder.absolute()} can be written, on {kind}, {free:.0f} GB free")
    text = f"{folder.absolute()} can be written, {free:.0f} GB free; the nodes may not see it: file system type"
    return Finding("runs", "unknown", f"{text} {kind or 'unknown'}, not a known network file system")


def _container(site: Site) -> Finding:
    if site.slurm.container is None:
        return Finding("container", "ok", "none")
    try:
        words = shlex.split(site.slurm.container)
    except ValueError:
        words = []
    if not words:
        return Finding("container", "problem", f"{site.slurm.container!r} is not a command")
    images = [word for word in words[1:] if word.endswith((".sif", ".sqsh", ".img")) and "$" not in word]
    missing = [image for image in images if not Path(image).exists()]
    if missing:
        return Finding("container", "problem", f"{missing[0]}: no such image")
    if shutil.which(words[0]) is None:
        loaded = " (modules may provide it on the nodes)" if site.slurm.modules or site.slurm.setup else ""
        return Finding(
            "container", "unknown" if loaded else "problem", f"{words[0]}: no such command on this machine{loaded}"
        )
    return Finding("container", "ok", f"{shutil.which(words[0])}{', ' + images[0] if images else ''}")


def _scratch(site: Site) -> Finding:
    scratch = site.slurm.scratch
    if scratch is None:
        return Finding("scratch", "ok", "none; temporary files go where the nodes put them")
    expanded = os.path.expandvars(scratch)
    if "$" in expanded:
        return Finding("scratch", "unknown", f"{scratch} is defined only inside a job")
    parent = next((place for place in (Path(expanded), *Path(expanded).parents) if place.exists()), Path("/"))
    if os.access(parent, os.W_OK):
        return Finding("scratch", "ok", f"{expanded} can be created on this machine; not checked on the nodes")
    return Finding("scratch", "unknown", f"{expanded} cannot be created on this machine; it may exist on the nodes")


def _python(site: Site, *, with_gpus: bool) -> Iterator[Finding]:
    """Start the job's Python on this machine, after the job's shell lines, and import what a job imports.

    Where points ask for GPUs, the driver and the GPUs that it finds are a line, too.
    """
    python = python_command(site, sys.executable)
    code = "import sam2ft.jobs.job; from sam2ft.slurm.gpu_check import show_gpu_facts; show_gpu_facts()"
    # The scratch folder exists only inside a job.
    bare = site.model_copy(update={"slurm": site.slurm.model_copy(update={"scratch": None})})
    lines = [*site_lines(bare, report_resources(site)), f"{python} -c {shlex.quote(code)}"]
    try:
        done = run_program(["bash", "-lc", "\n".join(lines)], timeout_s=_TIMEOUT_S)
    except UserError:
        yield Finding("python", "unknown", f"{python} did not answer within {_TIMEOUT_S} s")
        return
    facts = read_gpu_facts(done.stdout)
    if done.returncode == 0 and facts is not None:
        yield Finding("python", "ok", f"{python} imports sam2ft from {facts.package}")
        if with_gpus:
            yield Finding("GPU driver", *gpu_finding(facts))
        return
    message = (done.stderr.strip().splitlines() or ["no message"])[-1]
    # A module or a container of the nodes may not work on a login node.
    only_there = bool(site.slurm.modules or site.slurm.container or site.slurm.setup)
    hint = "; it may work on the nodes, with their modules and container" if only_there else ""
    yield Finding("python", "unknown" if only_there else "problem", f"{python}: {message}{hint}")
