"""sbatch, squeue, sacct, scancel and scontrol of a Slurm that never starts a job: a queue in a file.

Installed on PATH under each name; what it keeps and what tests switch are files beside it. Ids are 100, 101, ... in the
order of the calls.
"""

import fcntl
import os
import sys
import time

here = os.path.dirname(os.path.abspath(sys.argv[0]))
program, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]


def note(name):
    """The text of a file beside the programs: a switch that a test sets, or what the programs keep."""
    try:
        with open(os.path.join(here, name)) as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def keep(name, text):
    with open(os.path.join(here, name), "a") as stream:
        stream.write(text)


def jobs():
    """(id, name, elements or 0 for a plain job, dependency) of each job that has not ended or been cancelled."""
    gone = set(note("gone").split())
    lines = [line.split("|") for line in note("queue").splitlines()]
    return [(job, name, int(count), depends) for job, name, count, depends in lines if job not in gone]


def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(1)


def submit():
    with open(arguments[-1]) as stream:
        script = stream.read()
    options = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in script.splitlines()
        if line.startswith("#SBATCH")
    )
    keep("started", "")
    time.sleep(float(note("slow") or 0))
    with open(os.path.join(here, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = 100 + note("queue").count("\n")
        calls = 1 + note("calls").count("\n")
        keep("calls", options["job-name"] + "\n")
        if (refusal := note("refuse").partition("|")) and refusal[0] == str(calls):
            fail(refusal[2].strip())
        count = int(options["array"].partition("%")[0].partition("-")[2]) + 1 if "array" in options else 0
        if count > int(note("max_array_size") or 1001):
            fail("sbatch: error: Batch job submission failed: Invalid job array specification")
        keep("queue", f"{job}|{options['job-name']}|{count}|{options.get('dependency', '')}\n")
        keep(f"script-{job}", script)
        keep("environment", "".join(f"{name}={value}\n" for name, value in os.environ.items()))
    if note("timeout").strip() == str(calls):
        fail("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    print(f"Submitted batch job {job}")


def queue():
    if note("no_queue"):
        fail("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    layout = arguments[arguments.index("-o") + 1]
    for job, name, count, depends in jobs():
        elements = [f"{job}_{k}" for k in range(count)] if count and "-r" in arguments else [job]
        for element in elements:
            known = {"%i": element, "%F": job, "%j": name, "%T": "PENDING", "%r": "Dependency" if depends else "None"}
            known |= {"%E": depends or "(null)", "%N": "", "%S": "N/A"}
            line = layout
            for code, value in known.items():
                line = line.replace(code, value)
            print(line)


def accounting():
    if not note("accounting"):
        fail("Slurm accounting storage is disabled")
    sys.stdout.write(note("accounting").strip() + "\n")


def control():
    keep("control", " ".join(arguments) + "\n")
    if arguments[:2] == ["show", "config"]:
        print(f"MaxArraySize = {note('max_array_size') or 1001}")


if program == "sbatch":
    submit()
elif program == "squeue":
    queue()
elif program == "sacct":
    accounting()
elif program == "scontrol":
    control()
elif program == "scancel":
    keep("gone", " ".join(word for word in arguments if word.isdigit()) + "\n")
