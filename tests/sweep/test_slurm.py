"""Trials as jobs of SLURM, whose commands are stood in for: jobs are processes here."""

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from isolux.confs.errors import ConfError
from isolux.sweep import slurm_engine
from isolux.sweep.attempt import Attempt
from isolux.sweep.run import choose_engine
from isolux.sweep.slurm_engine import SlurmEngine
from isolux.sweep.spec import SweepSpec, read_spec

pytest.importorskip("submitit", reason="submitit is not installed: isolux[cluster]")

# Jobs have numbers that count up; the script of each one runs at once, in the background.
SBATCH = """#!/bin/sh
cd "$(dirname "$0")"
number=$(( $(cat number) + 1 )); echo $number > number
cp "$1" script_$number.sh
if [ -f full ]; then echo "Submitted batch job $number"; exit; fi
SLURM_JOB_ID=$number SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 \\
SLURM_LOCALID=0 nohup setsid sh script_$number.sh > job_$number.txt 2>&1 < /dev/null &
echo "Submitted batch job $number"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do
  case "$1" in --output|--error) shift 2 ;; *) shift ;; esac
done
echo $$ > "$(dirname "$0")/pid_$SLURM_JOB_ID"
"$@"
rm -f "$(dirname "$0")/pid_$SLURM_JOB_ID"
"""
NUMBERS = itertools.count(100, 100)
SACCT = """#!/bin/sh
cd "$(dirname "$0")"
echo "JobID|State|NodeList"
for job in script_*.sh; do
  number=${job#script_}; number=${number%.sh}
  state=RUNNING
  if [ ! -f pid_$number ] && [ -f job_$number.txt ]; then state=COMPLETED; fi
  if [ -f full ]; then state=PENDING; fi
  if [ -f killed_$number ]; then state=NODE_FAIL; fi
  echo "$number|$state|here"
done
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the commands that stand in."""
    folder = tmp_path / "slurm commands"
    folder.mkdir()
    # Never the same twice in a process: submitit remembers the jobs that have ended.
    (folder / "number").write_text(str(next(NUMBERS)))
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "scancel").write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/cancelled"\n')
    (folder / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def on_slurm(spec: SweepSpec, trials: int) -> Any:
    return choose_engine(spec, trials, slurm=True)


@pytest.mark.filterwarnings("default")  # submitit's own
def test_a_sweep_of_jobs(bench: Any, slurm: Path) -> None:
    bench.plan({"a_resolution-32": ["kill", "good"], "b_resolution-16": ["mistake"]})
    found = bench.run(
        "slurm.partition=gpu", "resources.memory=3.5", "minutes=30", engine=on_slurm
    )
    states = [item["state"] for item in found.values()]
    assert states == ["done", "done", "mistake", "done"]
    assert found["a_resolution-32"]["attempts"] == 2
    assert "a_resolution-32 1 resume" in bench.starts()
    script = min(slurm.glob("script_*")).read_text()
    for line in (
        "--partition=gpu",
        "--mem=3584M",
        "--cpus-per-task=1",
        "--time=40",
        "--job-name=isolux",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "--account" not in script


@pytest.mark.filterwarnings("default")
def test_a_job_that_slurm_ended_is_tried_again(
    bench: Any, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is killed, as on a node that fails, and leaves no result."""
    monkeypatch.setattr(slurm_engine, "_ASK", 0.3)
    (slurm / "srun").write_text(
        SRUN.replace(
            '"$@"', '"$@"; test $? = 0 || touch "$(dirname "$0")/killed_$SLURM_JOB_ID"'
        )
    )
    bench.plan({"a_resolution-16": ["kill worker", "good"]})
    found = bench.run(engine=on_slurm)
    assert found["a_resolution-16"]["attempts"] == 2
    assert [item["state"] for item in found.values()] == ["done"] * 4
    assert "a_resolution-16 1 resume" in bench.starts()


@pytest.mark.filterwarnings("default")
def test_a_job_that_is_refused(bench: Any, slurm: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified' >&2; exit 1\n")
    with pytest.raises(ConfError, match=r"sbatch refused the job.*invalid partition"):
        bench.run(engine=on_slurm)
    assert bench.starts() == []


def test_shares_of_a_gpu(bench: Any, slurm: Path) -> None:
    spec = read_spec(bench.spec, ["resources.gpus=0.5"])
    with pytest.raises(ConfError, match="whole ones"):
        on_slurm(spec, 1)


@pytest.mark.filterwarnings("default")
def test_asked_to_stop_while_the_cluster_is_full(
    bench: Any, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that have not begun are cancelled, not waited for."""
    (slurm / "full").touch()
    real = SlurmEngine.submit

    def submit(engine: SlurmEngine, attempt: Attempt) -> None:
        real(engine, attempt)
        if attempt.name == "b_resolution-32":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SlurmEngine, "submit", submit)
    with pytest.raises(KeyboardInterrupt):
        bench.run(engine=on_slurm)
    assert len((slurm / "cancelled").read_text().split()) == 4
    trials = json.loads((bench.out / "sweep.json").read_text())["trials"]
    assert {item["state"] for item in trials} == {"interrupted"}
    assert {item["reason"] for item in trials} == {"stopped before it began"}
