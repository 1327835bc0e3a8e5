"""Site files `slurm/sites/<name>.yaml`: Slurm options, resources and report job of a cluster.

They are validated as strictly as experiment files.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from sam2ft.config.schema.arguments import did_you_mean
from sam2ft.config.schema.base import REQUIRED, ReadOnly, Section, plain, problem, problems
from sam2ft.config.schema.evaluation import PartialResources, RequestedResources
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.trust import refuse_untrusted
from sam2ft.config.yaml.loading import load_yaml
from sam2ft.config.yaml.problems import problems_of
from sam2ft.core.errors import ConfigError, Problem, ProblemsError
from sam2ft.core.files import canonical_json
from sam2ft.runs.plan_file import Resources
from sam2ft.runs.resources.resources import with_default_tasks

SITES = Path("slurm") / "sites"

Positive = Annotated[int, Field(ge=1)]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _module_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+/-]*", text):
        raise problem(f"found {text!r}; allowed: the name of a module, such as cuda/12.4 (other lines belong to setup)")
    return text


ModuleName = Annotated[str, AfterValidator(_module_name)]


class SlurmOptions(Section):
    """Slurm options of every job of this site."""

    partition: str | None = plain(None, "partition (queue) of trainings and evaluations; null: the cluster's default")
    account: str | None = plain(None, "account that is charged; null: your default account")
    qos: str | None = plain(None, "quality of service (QOS); null: that of your account")
    constraint: str | None = plain(None, "features that a node must have, as for sbatch --constraint; null: none")
    exclude: str | None = plain(None, "nodes that are not used, as for sbatch --exclude; null: none")
    reservation: str | None = plain(None, "reservation that jobs run in; null: none")
    gpu_option: Literal["gpus_per_node", "gres"] = plain(
        "gpus_per_node", "option of sbatch that requests GPUs; gres where a cluster takes only --gres=gpu:n"
    )
    # The largest GPU has less than 300 GB: a larger number is in MiB, with which everything would seem to fit.
    gpu_memory_gb: Annotated[float, Field(gt=0, le=1000)] | None = plain(
        None,
        "memory of the smallest GPU that a job may get, with which the plan compares a step; null: not compared",
        unit="GB",
    )
    wckey: str | None = plain(None, "workload key, where a cluster requires one; null: none")
    modules: tuple[ModuleName, ...] = plain((), "environment modules that each job loads, in this order")
    environment: ReadOnly[str] = plain({}, "environment variables of each job; values are used literally")
    setup: tuple[str, ...] = plain((), "shell lines at the start of each job, after modules and environment")
    python: str | None = plain(
        None, "shell command that starts Python in the job; null: the Python that submits the job"
    )
    container: str | None = plain(None, "command in front of Python, such as `apptainer exec --nv x.sif`; null: none")
    scratch: str | None = plain(
        None, "folder on the nodes for temporary files, made by each job (TMPDIR); null: as the cluster sets it"
    )
    mail: str | None = plain(None, "address for one mail when the report of a sweep has ended; null: no mail")
    max_parallel: Positive = plain(64, "largest number of jobs of an experiment that run at the same time", unit="jobs")
    max_restarts: Annotated[int, Field(ge=0)] = plain(
        20, "how often a job that was stopped is queued again", unit="restarts"
    )
    stop_lead_s: Positive = plain(
        180, "least time between the warning signal and the time limit, in which a run saves itself", unit="s"
    )

    @field_validator("environment")
    @classmethod
    def _are_variables(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        bad = {name: "allowed: letters, digits and underscores" for name in value if not _VARIABLE.fullmatch(name)}
        if bad:
            raise problems(bad)
        return value


class ReportResources(Section):
    """Resources of the job that writes tables and report; it uses one core and no GPU."""

    partition: str | None = plain(None, "partition of the report job; null: that of the trainings")
    qos: str | None = plain(None, "QOS of the report job; null: that of the trainings")
    cpus_per_task: Positive = plain(1, "CPU cores")
    mem_gb: Annotated[float, Field(gt=0)] = plain(4, "memory", unit="GB")
    hours: Annotated[float, Field(gt=0)] = plain(1, "time limit", unit="h")


class SiteName(Section):
    """Name and description of the site."""

    name: str = plain(REQUIRED, "name of the site: that of its file without .yaml")
    cluster_name: str | None = plain(
        None,
        "ClusterName of `scontrol show config`: on the cluster with this name the site is chosen without --site; null: "
        "it is not",
    )
    description: str = plain("", "free text")


class Site(Section):
    """One site file."""

    site: SiteName
    slurm: SlurmOptions = SlurmOptions()
    resources: PartialResources = Field(
        PartialResources(), description="resources of a training and an evaluation, where the experiment sets none"
    )
    report: ReportResources = ReportResources()

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.site.name

    def fill(self, experiment: Experiment) -> Resources:
        """Return the resources of a point: keys of the experiment, then of this site, then the schema's defaults."""
        return self.filled(experiment.resources)

    def filled(self, asked: RequestedResources) -> Resources:
        """The same as `fill`, given only the `resources` section of the experiment."""
        set_keys = asked.model_fields_set
        chosen = {
            name: value for name, value in self.resources.model_dump(exclude_none=True).items() if name not in set_keys
        }
        return with_default_tasks(asked.model_copy(update=chosen))


def load_site(name: str, folder: Path = SITES) -> Site:
    """Load the site file called `name`; its shell lines run in every job, so it must be trusted (config/trust).

    Raises:
        ConfigError: no such file; names the known sites.
        ProblemsError: all problems of the file.
        UserError: somebody else could have written the file.
    """
    path = folder / f"{name}.yaml"
    known = sorted(entry.stem for entry in folder.glob("*.yaml"))
    if name not in known and name != (alone := Path(name).name.removesuffix(".yaml")):
        raise ConfigError(
            f"site {name!r}: is a path; give the name of a file in {folder} without its ending"
            f"{f': {alone}' if alone in known else ''}; known: {', '.join(known) or 'none'}"
        )
    if name not in known:
        raise ConfigError(f"site {name!r}{did_you_mean(name, known)}: no {path}; known: {', '.join(known) or 'none'}")
    refuse_untrusted(path, "site file")
    document = load_yaml(path)
    try:
        # Through JSON: pydantic's strict mode accepts a list for a tuple only in JSON.
        site = Site.model_validate_json(_json_of(document.value))
    except ValidationError as error:
        raise ProblemsError(problems_of(error, document.value, Site, document.where)) from None
    if site.name != name:
        raise ProblemsError([Problem(document.where(("site", "name")), "site.name", f"is {site.name!r}, not {name!r}")])
    return site


def detect_site(cluster_name: str, folder: Path = SITES) -> Site:
    """Load the site whose `cluster_name` is the given one.

    Raises:
        ConfigError: no site has this cluster name; names the allowed values of --site.
    """
    known = sorted(entry.stem for entry in folder.glob("*.yaml"))
    for name in known:
        site = load_site(name, folder)
        if site.site.cluster_name == cluster_name:
            return site
    raise ConfigError(
        f"no file in {folder} has the cluster_name {cluster_name!r}; choose with --site: {', '.join(known) or 'none'}"
    )


def _json_of(value: object) -> str:
    """JSON in which whole numbers are integers; NaN and infinity stay, for the validation to name their keys."""
    try:
        return canonical_json(value)
    except ValueError:
        return json.dumps(value)
