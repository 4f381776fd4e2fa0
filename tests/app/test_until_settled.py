"""The adaptive sweep: its arms, its rounds, its end, and that a killed one ends as if it had not been killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from harness.app.arms import arms_of, baseline_of, partners_of, seeds_of
from harness.app.job import Outcome
from harness.app.rounds import Job, Ledger, run_rounds
from harness.app.sweep import report_options
from harness.app.until_settled import UntilSettledConfig
from harness.runs.records import State
from harness.runs.schema import ConfigError
from harness.statistics import Standing, compare
from tests.app.test_command_line import ROOT
from tests.processes import harness
from tests.runs.conftest import SMALL

# --- arms ---


def parsed(*overrides: str) -> list:
    return OverridesParser.create().parse_overrides(list(overrides))


def test_arms_are_all_combinations_but_the_seed() -> None:
    arms = arms_of(parsed("sampler=random,ohem", "run=smoke", "sampler.num=range(8,24,8)", "seed=3,4", "run=default"))
    assert [arm.label for arm in arms] == [
        "sampler=random sampler.num=8",
        "sampler=random sampler.num=16",
        "sampler=ohem sampler.num=8",
        "sampler=ohem sampler.num=16",
    ]
    assert arms[0].overrides == ("sampler=random", "run=default", "sampler.num=8")
    assert [arm.label for arm in arms_of(parsed("+x=choice(a,b)"))] == ["a", "b"]
    assert [arm.label for arm in arms_of(parsed("sampler=random,ohem", "sampler=all,ohem"))] == ["all", "ohem"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sampler=random", "seed=0,1"], "at least two arms"),
        (["sampler.num=interval(1,3)"], "needs single values"),
    ],
)
def test_what_cannot_be_an_arm(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        arms_of(parsed(*overrides))


def test_seeds() -> None:
    assert seeds_of(parsed("sampler=a,b"), 3) == [0, 1, 2]
    assert seeds_of(parsed("seed=100"), 3) == [100, 101, 102]
    assert seeds_of(parsed("seed=range(5,9)"), 3) == [5, 6, 7]
    assert seeds_of(parsed("seed=9,7"), 3) == [9, 7]
    for wrong, says in (("seed=a,b", "whole numbers"), ("seed=1,1", "given twice")):
        with pytest.raises(ConfigError, match=says):
            seeds_of(parsed(wrong), 3)


RANDOM = {"sampler": "random"}


def test_every_arm_meets_the_baseline_that_agrees_with_it_in_the_rest() -> None:
    arms = arms_of(parsed("sampler=ohem,random", "loss=l1,giou"))
    assert baseline_of(arms, None) == baseline_of(arms, "random") == baseline_of(arms, "sampler=random") == RANDOM
    assert baseline_of(arms, "random,loss=giou") == {**RANDOM, "loss": "giou"}
    assert partners_of(arms, RANDOM) == {
        "sampler=ohem loss=l1": "sampler=random loss=l1",
        "sampler=ohem loss=giou": "sampler=random loss=giou",
        "sampler=random loss=giou": "sampler=random loss=l1",
    }
    assert baseline_of(arms_of(parsed("assigner=atss,max_iou")), None) == {"assigner": "atss"}
    with pytest.raises(ConfigError, match=r"baseline=all: no arm has this value; sampler is one of ohem, random; loss"):
        baseline_of(arms, "all")
    with pytest.raises(ConfigError, match="several keys have this value"):
        baseline_of(arms_of(parsed("a=x,y", "b=x,z")), "x")


# --- rounds, with runs that are but numbers ---

Rule = Callable[[str, int], float | str]  # (arm, seed) -> mAP, or why it failed


def write_outcome(ledger: Ledger, job: Job, value: float | str | None) -> None:
    run = ledger.folder / f"run-{job[0]}-{job[1]}"
    run.mkdir(parents=True, exist_ok=True)
    failed = isinstance(value, str)
    state, number = State.FAILED if failed else State.DONE, ledger.launched
    outcome = Outcome(state, str(value) if failed else "", str(run), number=number)
    outcome.write(ledger.folder / str(number))
    result = {"metrics": {"map": value}, "cost": {"train_seconds": 3000, "eval_seconds": 600}}
    (run / "result.json").write_text(json.dumps(result))


def play(
    folder: Path, arms: Sequence[str], rule: Rule, stop_after: int | None = None, **settings: object
) -> tuple[Standing, list[list[Job]], Ledger]:
    """A sweep whose runs take no time; with ``stop_after`` it dies in its last round, with half of the jobs done."""
    chosen = UntilSettledConfig(**settings)  # type: ignore[arg-type]
    ledger = Ledger(folder, chosen.metric)
    rounds: list[list[Job]] = []

    def launch(jobs: Sequence[Job]) -> None:
        rounds.append(list(jobs))
        for job in jobs:
            write_outcome(ledger, job, rule(*job))
            ledger.read([job], [None])

    partners = {} if chosen.goal == "best" else dict.fromkeys(arms[1:], arms[0])
    standing = run_rounds(arms, list(range(chosen.max_seeds)), partners, launch, ledger, chosen, parallel_jobs=2)
    return standing, rounds, ledger


def noisy(**levels: float) -> Rule:
    def rule(arm: str, seed: int) -> float:
        shared, own = (np.random.default_rng([seed, *key]).normal() for key in ((), arm.encode()))
        return 0.5 + levels[arm] + 0.03 * shared + 0.01 * own

    return rule


def test_rounds_add_seeds_to_what_is_open_and_stop_when_nothing_is(tmp_path: Path, capsys) -> None:
    rule = noisy(random=0.0, clear=0.2, faint=0.02, bad=-0.2)
    standing, rounds, ledger = play(tmp_path, ["random", "clear", "faint", "bad"], rule, max_seeds=30)
    assert standing.verdicts == {"clear": "better", "faint": "better", "bad": "worse"}
    assert standing.need_seeds == ()
    assert len(rounds[0]) == 4 * 3
    assert {arm for arm, _ in rounds[1]} == {"random", "clear", "faint", "bad"}  # three seeds show nothing yet
    assert rounds[-1] == [("random", seed := rounds[-1][0][1]), ("faint", seed)]
    assert len(ledger.done) == len({job for jobs in rounds for job in jobs}) == sum(map(len, rounds))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(rounds) + 2
    assert said[1].startswith("harness: round 2: seed 3 for random, clear, faint, bad (4 runs), because clear is open")
    assert said[-2] == "harness: random: baseline; clear: better; faint: better; bad: worse"
    assert said[-1].startswith(f"harness: settled; {len(ledger.done)} runs, ")
    assert "30 seeds for each of 4 arms would be 120 runs" in said[-1]


def test_the_sweep_and_the_library_agree(tmp_path: Path) -> None:
    standing, _, ledger = play(tmp_path, ["random", "a", "b"], noisy(random=0.0, a=0.01, b=0.0), max_seeds=8)
    found = {one.name: one.verdict for one in compare(ledger.scores, "random")}
    assert standing.verdicts == found


def test_a_race_drops_what_is_worse_and_ends_with_the_best(tmp_path: Path, capsys) -> None:
    rule = noisy(a=0.0, b=0.1, c=0.13, d=-0.2)
    standing, rounds, _ = play(tmp_path, ["a", "b", "c", "d"], rule, goal="best", max_seeds=40)
    assert standing.verdicts == {"a": "worse", "b": "worse", "c": "best", "d": "worse"}
    assert {arm for arm, _ in rounds[-1]} == {"b", "c"}
    assert "because c leads and b may still be as good" in capsys.readouterr().err


def test_a_race_can_end_with_arms_that_are_the_same(tmp_path: Path) -> None:
    rule = noisy(a=0.0, b=0.0, c=-0.3)
    standing, _, _ = play(tmp_path, ["a", "b", "c"], rule, goal="best", margin=0.02, max_seeds=40)
    assert sorted(standing.verdicts.values()) == ["best", "same within ±margin", "worse"]
    assert standing.verdicts["c"] == "worse"


@pytest.mark.parametrize("goal", ["baseline", "best"])
def test_arms_in_which_nothing_was_learned_do_not_settle_a_sweep(tmp_path: Path, capsys, goal: str) -> None:
    rule = lambda arm, seed: 0.001 + 0.0001 * seed * len(arm)  # noqa: E731
    standing, rounds, _ = play(tmp_path / "all", ["random", "a"], rule, goal=goal)
    assert set(standing.verdicts.values()) == {"nothing learned"}
    assert len(rounds) == 1, "further seeds of an untrained detector show nothing"
    assert "stopped: nothing was learned; train longer (run.iterations)" in capsys.readouterr().err
    some = noisy(random=-0.5, a=-0.5, b=0.2)
    learned = lambda arm, seed: max(some(arm, seed), 0) / (10 if arm != "b" else 1)  # noqa: E731
    standing, rounds, _ = play(tmp_path / "some", ["random", "a", "b"], learned, goal=goal)
    if goal == "baseline":
        assert standing.verdicts == {"a": "nothing learned", "b": "better"}
        assert {arm for arm, _ in rounds[-1]} == {"random", "b"}
        assert "stopped: nothing was learned by a; train longer" in capsys.readouterr().err
    else:
        assert standing.verdicts == {"a": "worse", "random": "worse", "b": "best"}


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hydra.sweeper.metric=map: no such metric"):
        play(tmp_path, ["random", "a"], lambda arm, seed: {"delta_ap": {}})  # type: ignore[arg-type,return-value]


def test_failing_arms_are_left_out_and_not_tried_again(tmp_path: Path, capsys) -> None:
    good = noisy(random=0.0, a=0.1, broken=0.0, late=0.0)

    def rule(arm: str, seed: int) -> float | str:
        return "out of memory" if arm == "broken" or (arm == "late" and seed == 1) else good(arm, seed)

    standing, rounds, ledger = play(tmp_path, ["random", "a", "broken", "late"], rule)
    assert standing.verdicts == {"a": "better", "late": "open"}
    assert all(arm in ("random", "a") for jobs in rounds[1:] for arm, _ in jobs)
    assert ledger.failed == {"broken": "seed 0: failed: out of memory", "late": "seed 1: failed: out of memory"}
    said = capsys.readouterr().err
    assert "broken: left out (seed 0: failed: out of memory)" in said


def test_a_failing_baseline_ends_the_sweep(tmp_path: Path, capsys) -> None:
    standing, rounds, _ = play(tmp_path, ["random", "a"], lambda arm, seed: "no" if arm == "random" else 0.5)
    assert (standing.verdicts, len(rounds)) == ({}, 1)
    assert "stopped: the failed arms leave nothing to compare" in capsys.readouterr().err


def test_the_ends_that_leave_something_open(tmp_path: Path, capsys) -> None:
    rule = noisy(random=0.0, a=0.001)
    _, rounds, _ = play(tmp_path / "seeds", ["random", "a"], rule, max_seeds=5, seeds_per_round=4)
    assert [len(jobs) for jobs in rounds] == [6, 4]
    assert "stopped at 5 seeds with 1 comparison open; 10 runs, 10 hours" in capsys.readouterr().err
    _, rounds, _ = play(tmp_path / "hours", ["random", "a"], rule, budget_hours=9, seeds_per_round=1)
    assert [len(jobs) for jobs in rounds] == [6, 2]
    assert "8 of 9 hours are used and the next round of 2 runs needs about 2" in capsys.readouterr().err


def test_undefined_scores_and_unknown_metrics(tmp_path: Path) -> None:
    _, _, ledger = play(tmp_path / "a", ["random", "a"], lambda arm, seed: None if arm == "a" else 0.5)  # type: ignore[return-value]
    assert ledger.failed == {"a": "seed 0: map is undefined"}
    with pytest.raises(ConfigError, match=r"hydra.sweeper.metric=map51: no such metric; there are map"):
        play(tmp_path / "b", ["random", "a"], lambda arm, seed: 0.5, metric="map51")


# --- on the command line ---

TINY = [*SMALL, "run.iterations=2", "hydra/sweeper=until_settled"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sampler=ohem"], "at least two arms"),
        (["sampler=ohem,random", "hydra.sweeper.first_seeds=0"], "hydra.sweeper.first_seeds=0 must be at least 1"),
        (["sampler=ohem,random", "hydra.sweeper.goal=win"], "hydra.sweeper.goal"),
        (["sampler=ohem,random", "hydra.sweeper.baseline=all"], "no arm has this value"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = harness(tmp_path, "-m", *TINY, *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert says in line


def without_costs(table: str) -> list[str]:
    """The rows of the printed table up to the columns of cost, which no two runs share."""
    rows = [line.split("train s")[0] for line in table.splitlines() if line.startswith(("method", "random", "ohem"))]
    width = len(rows[0])
    return [row[:width] for row in rows]


def test_the_report_at_the_end_asks_what_the_sweep_asked() -> None:
    settings = UntilSettledConfig(baseline="sampler=random", margin=0.01, metric="map50")
    adaptive = OmegaConf.create({"hydra": {"sweeper": OmegaConf.structured(settings)}})
    assert report_options(adaptive) == {
        "baseline": "sampler=random",
        "margin": 0.01,
        "metric": "map50",
        "alpha": 0.05,
        "goal": "baseline",
    }
    assert report_options(OmegaConf.create({"hydra": {"sweeper": {"params": None}}})) == {}


def test_one_round_from_the_command_line_to_the_table(tmp_path: Path) -> None:
    arguments = ["hydra.sweeper.first_seeds=1", "hydra.sweeper.max_seeds=1", "seed=7"]
    done = harness(tmp_path, "-m", *TINY, *arguments, f"data.cache_dir={tmp_path}", "sampler=ohem,random")
    assert done.returncode == 0, done.stderr
    assert "round 1: seed 7 for ohem, random (2 runs), because every arm gets its first 1 seed" in done.stderr
    assert "ohem: nothing learned; random: baseline" in done.stderr, "two iterations are not enough"
    assert "stopped: nothing was learned; train longer" in done.stderr
    assert "nothing learned" in done.stdout
    assert "ohem" in done.stdout
    assert sorted(path.name.split("-")[2] for path in (tmp_path / "results" / "runs").glob("*-s7-*")) == [
        "ohem",
        "random",
    ]


def finished(root: Path) -> dict[Path, int]:
    """The results of runs that say done, with the time of writing; a kill can fall between a result and that word."""
    states = {path.parent: json.loads(path.read_text())["state"] for path in root.glob("runs/*/status.json")}
    results = [run / "result.json" for run, state in states.items() if state == "done"]
    return {path: path.stat().st_mtime_ns for path in results}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_killed_sweep_ends_with_the_same_table(tmp_path: Path, launcher: str) -> None:
    """kill -9 of the whole process group in the middle of the rounds; finished runs are not repeated."""
    learned = ["run.iterations=40", "hydra.sweeper.metric=ar_100"]  # enough for a further round
    sweep = ["-m", *TINY, *learned, f"hydra/launcher={launcher}", "hydra.sweeper.max_seeds=4", "sampler=random,ohem"]
    sweep += [f"data.cache_dir={tmp_path / 'cache'}"] + ["hydra.launcher.n_jobs=2"] * (launcher == "joblib")
    whole = harness(tmp_path / "..", *sweep, f"run.root={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    root = tmp_path / "killed"
    command = [sys.executable, "-m", "harness", *sweep, f"run.root={root}"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while len(finished(root)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = finished(root)
    assert 4 <= len(first) < 8
    again = harness(tmp_path, *sweep, f"run.root={root}")
    assert again.returncode == 0, again.stderr
    assert without_costs(again.stdout) == without_costs(whole.stdout)
    assert finished(root).items() >= first.items()
    rounds = [[line for line in done.stderr.splitlines() if " round " in line] for done in (whole, again)]
    assert rounds[0] == rounds[1]
    assert len(rounds[0]) >= 2
