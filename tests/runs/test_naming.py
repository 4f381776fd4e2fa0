"""What a user types, what runs are called, and which names are refused with the nearest one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from harness.app.arguments import rewritten
from harness.app.check_table import matrix
from harness.app.entry import register_plugins
from harness.app.help_page import SWEEPING, page
from harness.app.naming import LONGEST, job_label, named_first, run_name
from harness.app.run_end import Stopped
from harness.app.runner import check
from harness.app.sweep_record import SweepRecord, varied_keys
from harness.experiment.own_code import code_of
from harness.runs import schema
from harness.runs.presets import PRESETS
from harness.runs.records import write_json
from tests.runs.conftest import Composed

SOURCES = [str(schema.folder("conf"))]

PATHS = (
    "with blank",
    "a,b",
    "a=b",
    "a(b)",
    "100%",
    "Käfer-数据",
    "it's",
    'a"b',
    "a\\b",
    'a\\"b',
    "a#b",
    "a{b}",
    "a[1]",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_read_as_it_is_typed(path: str) -> None:
    (argument,) = rewritten([f"data.root={path}"])
    assert OverridesParser.create().parse_override(argument).value() == path


def test_what_means_something_to_hydra_stays() -> None:
    kept = ["--cfg", "job", "sampler=random,ohem", "data.root='a b'", "data.root=${oc.env:HOME}", "area_ranges={a: 1}"]
    assert rewritten(kept) == kept
    assert rewritten(["-m", "data.root=a,b"]) == ["-m", "data.root=a,b"]
    assert rewritten(["arm=ohem_paper", "-q"])[-1] == "experiment/arm=ohem_paper"
    assert "run.progress=off" in rewritten(["arm=ohem_paper", "-q"])


WRONG = {
    "+smapler=ohem": "smapler: there is no such key; did you mean sampler?",
    "+run.iters=100": "run.iters: there is no such key; did you mean run.iterations?",
    "+run.seed=3": "run.seed: there is no such key; did you mean seed?",
    "+data.foo=1": "data.foo: there is no such key; data has ",
    "+detector.num_clases=91": "detector.num_clases: there is no such key",
    "+detector.num_classes=91": "detector.num_classes: the harness sets it",
    "+rpn.sampler.numm=1": "rpn.sampler.numm: there is no such key; did you mean rpn.sampler.num?",
    "loss.classification=focal": "choose its option with loss/classification=focal",
    "rpn.sampler=ohem": "choose its option with sampler@rpn.sampler=ohem",
    "data.augment=mosaic_mixup": "choose its option with augment@data.augment=mosaic_mixup",
    "detector.min_size=nonsense": "detector.min_size='nonsense' must be a whole number",
    "detector.anchor_sizes=[8,16]": "detector: .* cannot be built with these values",
    "assigner=hungarian": "set sampler.add_gt_as_proposals=false",
    "sampler._target_=no_such_module.Sampler": "No module named 'no_such_module'; put its folder on PYTHONPATH",
    "data.cache_dir=${nothing}": "data.cache_dir: Interpolation key .nothing. not found; a value with",
    "area_ranges.small=[5,1]": "area_ranges.small must be two areas",
    "tracker.project='a:b'": "tracker.project='a:b' must have 1 to 128 characters",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_nobody_reads_or_can_build_is_refused(override: str, composed: Composed) -> None:
    with pytest.raises(Stopped, match=WRONG[override]):
        check(composed(override), SOURCES)


def test_a_text_that_no_file_could_hold_is_refused(composed: Composed) -> None:
    """As a folder is called whose name is not UTF-8."""
    for key in ("data.cache_dir", "run.root"):
        config = composed()
        OmegaConf.update(config, key, "caf\udce9")
        with pytest.raises(Stopped, match=rf"^{key}='caf\\udce9' must be a text that UTF-8 can hold$"):
            check(config, SOURCES)


def test_another_class_over_an_option_names_what_it_does_not_take(composed: Composed) -> None:
    typed = ["optimizer=sgd", "optimizer._target_=torch.optim.Adagrad", "optimizer.weight_decay=0"]
    says = r"^optimizer\._target_=torch\.optim\.Adagrad takes no momentum, .*; remove it with '~optimizer\.momentum'$"
    with pytest.raises(Stopped, match=says):
        check(composed(*typed), SOURCES, overrides=typed)
    again = [*typed, "~optimizer.momentum"]
    assert "momentum" not in check(composed(*again), SOURCES, overrides=again).plain["optimizer"]


def test_what_an_option_leaves_null_asks_nothing_of_another_class(composed: Composed) -> None:
    typed = ["optimizer=adamw", "optimizer._target_=torch.optim.RMSprop"]
    assert "fused" not in check(composed(*typed), SOURCES, overrides=typed).plain["optimizer"]
    fused = [*typed, "optimizer.fused=true"]
    with pytest.raises(Stopped, match=r"^optimizer\.fused: there is no such key; optimizer has lr, "):
        check(composed(*fused), SOURCES, overrides=fused)


def test_names_of_weights_are_refused_without_a_download(composed: Composed) -> None:
    small = "detector=fasterrcnn_mobilenet_v3_large_320_fpn"
    with pytest.raises(Stopped, match=r"detector\.weights_backbone='DEFALT' must be null or one of DEFAULT, IMAGENET"):
        check(composed(small, "detector.weights_backbone=DEFALT"), SOURCES)


def test_own_code_is_part_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    config = OmegaConf.create({"sampler": {"_target_": "own_sampler.Own"}, "loss": {"_target_": "harness.Loss"}})
    source = "from own_part import SCALE\nclass Own:\n    scale = SCALE\n"

    def hashed(module: str, part: str) -> dict[str, str]:
        (tmp_path / "own_sampler.py").write_text(module)
        (tmp_path / "own_part.py").write_text(part)
        for name in ("own_sampler", "own_part"):
            sys.modules.pop(name, None)
        return code_of(config)

    first = hashed(source, "SCALE = 1\n")
    assert list(first) == ["own_sampler.Own"]
    assert hashed(source, "SCALE = 1\n") == first
    assert hashed(source + "# edited\n", "SCALE = 1\n") != first
    assert hashed(source, "SCALE = 2  # what it imports counts\n") != first


def test_other_weights_in_a_file_of_the_same_name_are_another_run(composed: Composed, tmp_path: Path) -> None:
    file = tmp_path / "pretrained.pt"
    config = composed("detector=fasterrcnn_mobilenet_v3_large_320_fpn", f"detector.weights={file}")

    def hashed(content: bytes) -> str:
        file.write_bytes(content)
        return check(config, SOURCES).hash_on("data")

    first = hashed(b"first")
    assert hashed(b"second, longer") != first
    assert hashed(b"first") == first
    named = check(composed("detector=fasterrcnn_mobilenet_v3_large_320_fpn", "detector.weights=DEFAULT"), SOURCES)
    assert named.plain["code"] == {}  # torchvision's own: the environment's version says what they are


def test_a_run_is_named_by_what_differs() -> None:
    choices = {"data": "shapes", "detector": "tiny_rcnn", "sampler": "ohem", "assigner": "atss"}
    name = run_name(
        choices, ["sampler=ohem", "assigner=atss", "sampler.num=64", "seed=3", "run.root=/x", "run.threads=1"]
    )
    assert name == "shapes-tiny_rcnn-ohem-atss-num=64"
    assert run_name({**choices, "experiment/arm": "ohem_paper"}, []) == "shapes-tiny_rcnn-ohem_paper"
    assert len(run_name(choices, [f"data.key{i}=value" for i in range(30)])) <= LONGEST
    assert run_name(choices, ["sampler.num=64", "sampler.num=8"]) == "shapes-tiny_rcnn-ohem-num=8"
    assert run_name(choices, ["optimizer.lr=a/b c?"]) == "shapes-tiny_rcnn-ohem-lr=a_b_c"


def test_a_long_name_keeps_what_the_sweep_varies() -> None:
    choices = {"data": "shapes_sparse", "detector": "fasterrcnn_mobilenet_v3_large_320_fpn", "sampler": "ohem"}
    constant = [f"detector.some_long_key_{i}=with_a_long_value" for i in range(9)]
    jobs = [[*constant, f"sampler.num={num}", "optimizer.lr=0.001"] for num in (64, 128)]
    names = [run_name(choices, named_first(job, ["sampler.num"])) for job in jobs]
    assert all(len(name) <= LONGEST for name in names)
    assert ["num=64" in names[0], "num=128" in names[1]] == [True, True]
    assert names[0] == run_name(choices, named_first(jobs[0], ["sampler.num"]))

    alike = [f"data.classes=[{'cat,' * 40}{last}]" for last in ("dog", "cow")]
    long = [run_name(choices, named_first([*constant, text], ["data.classes"])) for text in alike]
    assert long[0] != long[1]
    assert all(len(name) <= LONGEST and "classes=" in name for name in long)
    presets = dict.fromkeys(PRESETS, "an_option_of_thirty_characters")
    first, second = (run_name({**choices, **presets, "recipe": f"{'recipe' * 5}{i}"}, []) for i in (1, 2))
    assert first != second
    assert len(first) <= LONGEST
    short = ["sampler.num=64", "optimizer.lr=0.1"]
    assert named_first(short, None) == short


def test_a_job_of_a_sweep_is_called_by_what_varies(tmp_path: Path) -> None:
    jobs = [["run.threads=1", "sampler=random", "seed=0"], ["run.threads=1", "sampler=ohem", "seed=0"]]
    assert varied_keys(jobs) == ["sampler"]
    assert job_label(jobs[1], ["sampler"]) == "sampler=ohem"
    first, second = SweepRecord.begin(tmp_path, jobs), SweepRecord.begin(tmp_path, jobs)
    (tmp_path / "sub" / "folder").mkdir(parents=True)
    write_json(tmp_path / "sub" / "folder" / "outcome-0.json", {"number": 0, "sweep": second.token, "state": "done"})
    assert [one["number"] for one in second.outcomes()] == [0]
    assert first.outcomes() == []  # a folder that is used again: each sweep has its own jobs


def test_the_matrix_fits_the_terminal() -> None:
    jobs = [
        {
            "overrides": [f"assigner=a{a}", f"detector=d{d}", "run=smoke"],
            "state": "done" if a else "refused",
            "reason": "x",
        }
        for a in range(3)
        for d in range(9)
    ]
    table = matrix(jobs, width=40).splitlines()
    assert max(map(len, table)) <= 40
    assert "18 of 27 combinations can work" in table
    assert table[-1] == "(1) x"


def test_the_help_names_the_other_commands_and_own_options(tmp_path: Path) -> None:
    (tmp_path / "sampler").mkdir()
    (tmp_path / "sampler" / "mine.yaml").write_text("_target_: own.Sampler\n")
    text = page(tmp_path)
    for word in ("-cn", "augment@data.augment=", "sampler@rpn.sampler=", "harness.report", "mine", "harness.dashboard"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 105
    assert "loss=" not in text  # one option alone is no choice


def test_the_help_names_the_launchers_and_sweepers_that_hydra_finds() -> None:
    register_plugins()
    for group, names in SWEEPING.items():
        assert f"{group + '=':<24}{', '.join(names)}" in page()
        for name in names:
            assert ConfigStore.instance().load(f"{group}/{name}.yaml")
