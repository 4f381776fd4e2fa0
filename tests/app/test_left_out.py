"""``recipe=null``: a group of which none is chosen by default is left out by name, alone and in a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from harness.app import left_out
from harness.app.arguments import rewritten
from harness.app.arms import Arm
from harness.app.composition import composed, keys_without
from harness.app.entry import register_plugins
from harness.app.job import Job
from harness.app.naming import run_name
from harness.app.sweep import _rewrite_params
from harness.app.until_settled import UntilSettled
from harness.experiment.names import explained
from harness.inspect import setting
from harness.runs.identity import config_hash
from harness.runs.presets import PRESETS
from harness.runs.schema import ConfigError, folder, register
from tests.app.test_command_line import harness


def test_they_are_the_groups_that_are_null_by_default() -> None:
    defaults = OmegaConf.to_container(OmegaConf.load(folder("conf") / "config.yaml").defaults)
    null = [key for entry in defaults if isinstance(entry, dict) for key, option in entry.items() if option is None]
    assert sorted(null) == sorted(PRESETS)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("recipe=null", "recipe=none"),
        ("arm=Null", "experiment/arm=none"),
        ("recipe=null,ohem", "recipe=none,ohem"),
        ("recipe=choice(ohem, null)", "recipe=choice(ohem, none)"),
        ("recipe=null_2,not-null", "recipe=null_2,not-null"),
        ("sampler=null", "sampler='null'"),  # an unknown option then, which the usual line refuses
        ("rung=1,2", "experiment/rung='1','2'"),
        ("rung=1_coupled", "experiment/rung=1_coupled"),
        ("sampler@rpn.sampler=-3.5e1", "sampler@rpn.sampler='-3.5e1'"),
        ("hydra/launcher=true", "hydra/launcher='true'"),
        ("sampler={num: 3, pos_fraction: 1}", "sampler={num: 3, pos_fraction: 1}"),
        ("run.epochs=null", "run.epochs=null"),
        ("seed=0,1", "seed=0,1"),
    ],
)
def test_what_is_written_is_a_name_where_an_option_stands(written: str, read: str) -> None:
    assert rewritten([written]) == [read]


def test_options_of_an_own_group_are_names(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    assert rewritten(["teacher=1"]) == ["teacher=1"]
    assert rewritten(["teacher=1"], tmp_path) == ["teacher='1'"]


@pytest.mark.parametrize("group", ["recipe", "experiment", "arm", "rung"])
def test_it_is_as_if_nothing_had_been_given(group: str) -> None:
    plain, choices = composed(["detector=tiny_retinanet"])
    given = rewritten(["detector=tiny_retinanet", f"{group}=null"])
    config, left = composed(given)
    assert (config, left) == (plain, choices)
    resolved = [OmegaConf.to_container(one, resolve=True, throw_on_missing=False) for one in (plain, config)]
    assert config_hash(resolved[0], "d") == config_hash(resolved[1], "d")  # type: ignore[arg-type]
    assert run_name(left, given) == run_name(choices, ["detector=tiny_retinanet"])


def test_inspect_reads_overrides_as_a_run_does() -> None:
    seen = setting.composed(["recipe=null", "arm=ohem_quota"])
    assert seen.choices["experiment/arm"] == "ohem_quota"
    assert "recipe" not in seen.choices


def test_all_options_of_a_group_are_those_that_have_files() -> None:
    register()
    left_out.register()
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for group in PRESETS:
            assert "none" not in loader.get_group_options(group)


def test_it_is_an_arm_of_a_sweep(tmp_path: Path) -> None:
    done = harness(tmp_path, "-m", "recipe=null,ohem", "arm=null", "mode=check")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[2:4]] == [["none", "yes"], ["ohem", "yes"]]


def test_it_stands_in_the_params_of_a_sweep_file() -> None:
    config = OmegaConf.create({"hydra": {"sweeper": {"params": {"recipe": "null,ohem", "arm": None, "seed": "0,1"}}}})
    _rewrite_params(config)
    assert config.hydra.sweeper.params == {"recipe": "none,ohem", "arm": "none", "seed": "0,1"}


def test_the_baseline_of_a_sweep_file_goes_with_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    sweeper = UntilSettled(params={"recipe": "retinanet,atss", "seed": "range(3)"}, baseline="retinanet")
    assert sweeper._baseline_named([Arm("atss", (), {"recipe": "atss"})]) == "retinanet"
    assert sweeper._baseline_named([Arm("max_iou", (), {"assigner": "max_iou"})]) is None
    assert "baseline=retinanet of the sweep file is left out: recipe is not swept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "key", "says"),
    [
        (["hydra/launcher=joblib"], "hydra.launcher.n_job", "did you mean hydra.launcher.n_jobs?"),
        (["-cn", "ohem"], "hydra.launcher.n_job", "did you mean hydra.launcher.n_jobs?"),
        (["-cn", "ohem"], "hydra.sweeper.zzz", "; hydra.sweeper has _target_, alpha, baseline, budget_hours, "),
        ([], "hydra.zzz", "; hydra has callbacks, env, help, "),
        (["detector=tiny_retinanet"], "sampler.zzz", "; sampler has "),
        ([], "launcher", "launcher: there is no such key; there are "),
    ],
)
def test_a_key_that_does_not_exist_is_answered_from_its_own_node(arguments: list[str], key: str, says: str) -> None:
    register_plugins()
    error = ConfigCompositionException(f"Could not override '{key}'.")
    assert says in explained(error, lambda: keys_without(arguments))


def test_a_key_of_an_own_option_is_answered_from_that_option(tmp_path: Path) -> None:
    (tmp_path / "assigner").mkdir()
    (tmp_path / "assigner" / "nearest.yaml").write_text("_target_: mine.Nearest\nk: 9\n")
    register_plugins()
    error = ConfigCompositionException("Could not override 'assigner.kk'.")
    assert "did you mean assigner.k?" in explained(error, lambda: keys_without(["assigner=nearest"], tmp_path))


def test_an_own_option_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "none.yaml").write_text("# @package _global_\nseed: 3\n")
    job = Job(0, ("recipe=none",), {}, (str(tmp_path),), None)
    with pytest.raises(ConfigError, match=r"this leaves recipe out; the option .*none.yaml needs another"):
        job.check_choices()
