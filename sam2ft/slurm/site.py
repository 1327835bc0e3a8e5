"""Site files `slurm/sites/<name>.yaml`: Slurm options, resources and report job of a cluster.

They are validated as strictly as experiment files.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from sam2ft.config.schema.base import ReadOnly, Section, problem, problems
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

    partition: str | None = Field(None, description="queue; the cluster's default when absent")
    account: str | None = Field(None, description="account that is charged")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="node features, as for sbatch --constraint")
    exclude: str | None = Field(None, description="nodes that are not used, as for sbatch --exclude")
    reservation: str | None = Field(None, description="reservation that jobs run in")
    gpu_option: Literal["gpus_per_node", "gres"] = Field("gpus_per_node", description="how GPUs are requested")
    # The largest GPU has less than 300 GB: a larger number is in MiB, with which everything would seem to fit.
    gpu_memory_gb: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="memory of the smallest GPU that a job may get, GB; checked by a plan"
    )
    wckey: str | None = Field(None, description="workload key, where the site needs one")
    modules: tuple[ModuleName, ...] = Field((), description="environment modules that each job loads, in this order")
    environment: ReadOnly[str] = Field({}, description="variables of each job, values as they are (no shell)")
    setup: tuple[str, ...] = Field((), description="shell lines before the job, after modules and environment")
    python: str | None = Field(None, description="shell command that starts Python in the job; default this one")
    container: str | None = Field(None, description="command in front of Python, such as `apptainer exec --nv x.sif`")
    scratch: str | None = Field(None, description="folder on the nodes for temporary files; becomes TMPDIR")
    mail: str | None = Field(None, description="address of Slurm's mail when the report has ended; no other mail")
    max_parallel: Positive = Field(64, description="elements of an array that run at once")
    max_restarts: Annotated[int, Field(ge=0)] = Field(20, description="requeues of one task")
    stop_lead_s: Positive = Field(180, description="seconds between the warning signal and the time limit, at least")

    @field_validator("environment")
    @classmethod
    def _are_variables(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        bad = {name: "allowed: letters, digits and underscores" for name in value if not _VARIABLE.fullmatch(name)}
        if bad:
            raise problems(bad)
        return value


class ReportResources(Section):
    """Resources of the job that writes tables and report; it uses one core and no GPU."""

    partition: str | None = Field(None, description="queue, where that of the points accepts GPU jobs only")
    qos: str | None = Field(None, description="quality of service, where it differs from the points'")
    cpus_per_task: Positive = Field(1, description="cores")
    mem_gb: Annotated[float, Field(gt=0)] = Field(4, description="memory, GB")
    hours: Annotated[float, Field(gt=0)] = Field(1, description="time limit, hours")


class SiteName(Section):
    """Name and description of the site."""

    name: str = Field(description="equal to the file's name")
    cluster_name: str | None = Field(None, description="ClusterName of `scontrol show config`")
    description: str = Field("", description="free text")


class Site(Section):
    """One site file."""

    site: SiteName
    slurm: SlurmOptions = SlurmOptions()
    resources: PartialResources = PartialResources()
    """Resources of a point, for the keys that its experiment does not set."""
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
        raise ConfigError(f"site {name!r}: no {path}; known: {', '.join(known) or 'none'}")
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
