"""bench/: the contenders, the tables made from measurements, and the parts run on a GPU."""

import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import require
from processes import completed

from nnxp import backends
from nnxp.backends import blas
from nnxp.benchmark import WORKLOADS, Entry, Result, Spread, Workload
from nnxp.benchmark.backend import entry
from nnxp.errors import InputError

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(1, str(BENCH))  # after tests/: both have a conftest

arguments, batch_sizes, ceilings, compare, contenders, gpu, graph_nodes, kernels, mnist, run_cli = (
    import_module(name)
    for name in ("arguments", "batch_sizes", "ceilings", "compare", "contenders", "gpu",
                 "graph_nodes", "kernels", "mnist", "run_cli")
)  # fmt: skip
assemble, gpu_report, markers, tables, writing = (
    import_module(f"report.{name}") for name in ("assemble", "gpu", "markers", "tables", "writing")
)
PEERS = import_module("peers").PEERS

MACHINE = {
    "date": "2026-01-31T12:00:00+00:00",
    "cpu": "A CPU",
    "cores": 2,
    "load": [0.5, 0.5, 0.5],
    "system": "Linux",
    "python": "3.11",
    "nnxp": "1.0",
    "gpus": [],
}


def result(name, *seconds, **more):
    ratios = [1e-4 / each for each in seconds]
    return Result(name, "tiny", 10, step_seconds=list(seconds), ratios=ratios, **more)


@pytest.fixture
def content():
    """Return a report on one workload, as it is read from JSON."""
    results = [
        result("nnxp[numpy]", 1e-4, 1e-4, 1e-4, floor_seconds=[5e-5, 5e-5, 4e-5]),
        result("nnxp[jax]", 5e-5, 4e-5, 5e-5, describe={"library": "jax", "version": "1.2"}),
        result("PyTorch", 3e-4, 2e-4, 3e-4, note="eager"),
        result("JAX jit + scan", 1e-4, 1e-4, 8e-5, verdict="not comparable"),
        result("Thinc", problem="ModuleNotFoundError: No module named 'thinc' | or so"),
    ]
    content = {
        "machine": MACHINE,
        "quick": False,
        "options": {"repeat": 3},
        "workloads": [asdict(WORKLOADS["tiny"])],
        "results": [each.to_dict() for each in results],
    }
    return json.loads(json.dumps(content))


def rows(text):
    """Return the cells of every row of every table, by the first cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first: rest for first, *rest in cells}


def test_ratios_are_medians_over_the_rounds(content):
    # By hand, nnxp[jax] and JAX jit + scan: 2, 2.5 and 1.6.
    best = "2.00 (goal 1.15; nnxp[jax] / JAX jit + scan)"
    found = rows(tables.markdown(content))["tiny"]
    assert found == [best, "**3.00** (goal 5)", "2.00 (goal 1.05)", "-", "-", "**2.00** (goal 1.9)"]


@pytest.mark.parametrize(
    ("ratio", "least", "shown"),
    [
        (0.94, True, "**0.94** (goal 1.05)"),
        (1.0451, True, "1.05 (goal 1.05)"),  # as it is shown
        (1.06, True, "1.06 (goal 1.05)"),
        (1.0549, False, "1.05 (goal 1.05)"),
        (1.06, False, "**1.06** (goal 1.05)"),
    ],
)
def test_a_goal_stands_beside_what_was_measured_and_bold_means_missed(ratio, least, shown):
    assert tables.beside_goal(Spread(ratio, ratio, ratio), 1.05, least) == shown


def test_every_goal_is_of_a_column_and_a_workload(content):
    (heading,) = [line for line in tables.markdown(content).splitlines() if "| workload |" in line]
    assert set(tables.GOALS) <= {cell.strip() for cell in heading.split("|")}
    for goals in tables.GOALS.values():
        assert set(goals) <= set(WORKLOADS)


def test_missing_libraries_are_named_once_below_the_tables(content):
    content["results"][-1]["missing"] = True
    text = tables.markdown(content)
    assert text.count("Thinc") == 1
    assert text.splitlines()[-1] == (
        "- Thinc was not measured: ModuleNotFoundError: No module named 'thinc' | or so"
    )


def test_a_machine_that_was_not_idle_and_variables_left_out_are_said(content):
    machine = MACHINE | {
        "busy_cores": 1.26, "removed": {"OPENBLAS_CORETYPE": "Haswell"}, "warning": None
    }  # fmt: skip
    text = tables.markdown(content | {"machine": machine})
    assert "**The machine was not idle: other programs used 1.3 of its 2 cores." in text
    assert "Left out, so that BLAS chooses its kernels: OPENBLAS_CORETYPE=Haswell" in text


def test_a_row_that_was_measured_again_keeps_its_ratios(content):
    first, second = result("nnxp[jax]", 1e-4, 1e-4), result("JAX jit + scan", 2e-4, 2e-4)
    second.ratios = [1.0, 1.0]  # its reference took 2e-4 in the rounds that were measured again
    results = [each.to_dict() for each in (first, second)]
    found = rows(tables.markdown(content | {"results": results}))
    assert found["tiny"][2] == "**1.00** (goal 1.05)"


def test_contenders_are_sorted_by_speed_and_the_missing_come_last(content):
    found = rows(tables.markdown(content))
    assert list(found)[3:] == ["nnxp[jax]", "nnxp[numpy]", "JAX jit + scan", "PyTorch", "Thinc"]
    assert found["nnxp[jax]"] == ["200k (200k to 250k)", "50.0 us", "2.00", ""]
    assert found["PyTorch"] == ["33.3k (33.3k to 50.0k)", "300 us", "0.33", "eager"]
    assert found["JAX jit + scan"][-1] == "loss not compared"
    problem = r"ModuleNotFoundError: No module named 'thinc' \| or so"
    assert found["Thinc"] == ["-", "-", "-", problem]


def test_disturbed_measurements_are_marked(content):
    results = [result("nnxp[numpy]", *[1e-4] * 3), result("PyTorch", 2e-4, 3e-2, 2e-4)]
    found = rows(tables.markdown(content | {"results": [each.to_dict() for each in results]}))
    assert found["tiny"][1] == "**2.00?** (goal 5)"
    assert found["PyTorch"][2:] == ["0.50?", "in doubt: rounds that differ 150.0-fold"]
    assert found["nnxp[numpy]"][-1] == ""


def test_the_report_names_machine_libraries_and_smoke_size(content):
    text = tables.markdown(content)
    assert text.startswith("A CPU, 2 cores, load 0.5, Linux, Python 3.11, nnxp 1.0, 2026-01-31;")
    assert "- nnxp[jax]: jax 1.2 on cpu" in text
    assert "mean nothing" not in text
    assert "mean nothing" in tables.markdown(content | {"quick": True})


@pytest.fixture
def on_gpu(content):
    """Return a report of bench/gpu.py that lacks something of each kind."""
    results = [
        result("nnxp[numpy]", *[4e-4] * 3),
        result("nnxp[cupy:eager]", *[5e-4] * 3),
        result("nnxp[cupy:graph]", *[5e-5] * 3, floor_seconds=[4e-5] * 3),
        result("nnxp[torch]", *[6e-5] * 3),
        result("PyTorch", *[3e-4] * 3),
        result("PyTorch CUDA graph", *[1e-4] * 3),
        result("JAX jit", problem="left out: 175 seconds were too few"),
    ]
    speed = {"median": 2.0, "low": 1.0, "high": 3.0}
    gpu = {
        "section": "gpu",
        "machine": MACHINE | {"gpus": ["NVIDIA H100 80GB HBM3, driver 580.1"]},
        "results": [each.to_dict() for each in results],
        "ceilings": [
            {"library": "cupy", "version": "14.2", "device": "cuda:0", "copy": speed,
             "float32": speed, "tf32": speed | {"median": 321.4}},
            {"library": "jax", "device": "cuda", "problem": "not installed"},
        ],
        "kernels": {
            "workload": "small",
            "contenders": [
                {"name": "nnxp[cupy:graph]", "kernels": 19.5, "copies": 0.0,
                 "counted": "by the nodes"},
                {"name": "JAX jit", "problem": "the profiler saw nothing"},
            ],
        },
        "sweep": sweep({1: (9, 1, 1), 4: (9, 10, 1), 16: (9, 8, 1), 64: (9, 10, None)}),
        "mnist": {
            "what": "MNIST, 784-128-10",
            "runs": [
                {"name": "nnxp[cupy]", "seconds": 1.5, "wall_seconds": 4.25, "accuracy": 0.978,
                 "warned": []},
                {"name": "nnxp[jax]", "problem": "out of memory"},
            ],
        },
        "pictures": {"h100.png": "Training"},
    }  # fmt: skip
    return content | json.loads(json.dumps(gpu))


def sweep(speeds):
    """Return a sweep of nnxp[numpy], nnxp[torch] and nnxp[jax]: samples/s by batch size."""
    names = ("nnxp[numpy]", "nnxp[torch]", "nnxp[jax]")
    points = [
        {
            "point": size,
            "results": [
                result(name, *([1 / speed] if speed else [])).to_dict()
                for name, speed in zip(names, row, strict=True)
            ],
        }
        for size, row in speeds.items()
    ]
    return {"axis": "batch-size", "points": points}


def test_the_goals_on_a_gpu_are_computed_from_measurements(on_gpu):
    goals = gpu_report.goals(on_gpu)[1:]
    assert [goal for _, goal, _ in goals] == ["1.0", "5.0", gpu_report.MNIST, "-", "-", "-"]
    assert {what: found for what, _, found in goals} == {
        "tiny: nnxp[cupy:graph] / best peer": "2.00 (PyTorch CUDA graph)",
        "tiny: nnxp[cupy:graph] / nnxp[cupy:eager]": "10.00",
        "MNIST, 784-128-10: nnxp[cupy]": "1.50 s, 4.25 s with start-up, accuracy 0.9780",
        "MNIST, 784-128-10: nnxp[jax]": "- (out of memory)",
        "nnxp[torch] outruns nnxp[numpy]": "from batch size 64 on",
        "nnxp[jax] outruns nnxp[numpy]": "never",
    }


def test_goals_without_measurements_are_dashes(on_gpu):
    rest = {key: on_gpu[key] for key in ("workloads", "machine", "options")}
    missing = [result("PyTorch", *[1e-4] * 3), result("nnxp[cupy:graph]", problem="no graphs")]
    found = gpu_report.goals(rest | {"results": [each.to_dict() for each in missing]})
    assert [row[2] for row in found[1:]] == ["-", "-"]


@pytest.mark.parametrize(
    ("speeds", "size"),
    [
        ({1: (9, 10, 1), 4: (9, 10, 1)}, 1),
        ({1: (9, 10, 1), 4: (9, 9, 1)}, None),
        ({1: (9, 1, 1), 4: (9, 10, 1), 16: (9, None, 1)}, 4),
        ({1: (9, 1, 1), 4: (None, 1, 1), 16: (9, 10, 1)}, 16),
    ],
)
def test_a_gpu_pays_from_the_size_above_which_it_is_always_faster(speeds, size):
    found = gpu_report.pays(json.loads(json.dumps(sweep(speeds))))
    assert found == {"nnxp[torch]": size, "nnxp[jax]": None}
    assert gpu_report.pays(None) == {}


def test_a_report_on_a_gpu_has_its_own_columns_and_tables(on_gpu):
    text = tables.markdown(on_gpu)
    found = rows(text)
    best = "2.00 (nnxp[cupy:graph] / PyTorch CUDA graph)"
    assert found["tiny"] == [best, "1.67", "-", "6.00", "8.00", "1.25"]
    assert found["cupy 14.2"] == ["cuda:0", "2", "2", "321", ""]
    assert found["jax"] == ["cuda", "-", "-", "-", "not installed"]
    assert "| nnxp[cupy:graph] | 19.5 | 0 | by the nodes |" in text
    assert "| JAX jit | - | - | the profiler saw nothing |" in text
    assert "| JAX jit | - | - | - | left out: 175 seconds were too few |" in text
    assert "![Training](results/h100.png)" in text
    assert "NVIDIA H100 80GB HBM3, driver 580.1" in text
    bare = {key: value for key, value in on_gpu.items() if key not in assemble.NAMES}
    assert "What the device can do" not in tables.markdown(bare)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_new_tables_replace_the_old_ones_and_nothing_else(kind, content, on_gpu, tmp_path):
    readme = (BENCH / "README.md").read_text("utf-8")
    written = content if kind == "cpu" else on_gpu
    once = writing.write_readme(written, tmp_path / "new").read_text("utf-8")
    begin, end = tables.MARKERS[kind]
    assert once.startswith(readme.split(begin)[0])
    assert once.endswith(readme.split(end)[1])
    assert tables.markdown(written) in once
    assert markers.insert(once, tables.markdown(written), begin, end) == once
    with pytest.raises(ValueError, match="found 0 places"):
        markers.insert("no markers", "", begin, end)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_readme_has_the_tables_of_a_stored_report(kind):
    begin, end = tables.MARKERS[kind]
    generated = (BENCH / "README.md").read_text("utf-8").split(begin)[1].split(end)[0].strip()
    others = (
        "accuracy-", "deformation", "estimators-", "fashion", "growth", "record", "scaling-",
        "streaming-",
    )  # fmt: skip
    paths = [p for p in (BENCH / "results").glob("*.json") if not p.name.startswith(others)]
    kept = [json.loads(path.read_text("utf-8")) for path in paths]
    known = [tables.markdown(each) for each in kept if tables.section(each) == kind]
    assert generated in (known or [tables.NOTHING])


def test_every_peer_is_listed_by_its_file_and_has_one_name():
    files = {path.stem for path in (BENCH / "peers").glob("*.py")} - {"__init__"}
    assert set(PEERS) == files
    for file, peer in PEERS.items():
        module, _, kind = peer.contender.partition(":")
        assert module == f"peers.{file}"
        source = (BENCH / "peers" / f"{file}.py").read_text("utf-8")
        assert f"class {kind}" in source
        assert f'    name = "{peer.name}"\n' in source


# --- contenders


def names(workload, backends, device, peers=PEERS):
    found = contenders.entries(WORKLOADS[workload], backends, list(peers), device)
    return {each.name: each.device for each in found}


def test_numpy_trains_on_the_host_and_leaves_out_workloads_for_gpus():
    on_gpu = names("wide", ["numpy", "cupy:graph"], "cuda", ["pytorch", "pytorch_cuda_graph"])
    assert on_gpu == {
        "nnxp[numpy]": "cpu",
        "nnxp[cupy:graph]": "cuda",
        "PyTorch": "cuda",
        "PyTorch CUDA graph": "cuda",
    }
    assert next(iter(on_gpu)) == "nnxp[numpy]"
    found = names("huge", ["numpy", "cupy:eager"], "cuda")
    assert next(iter(found)) == "nnxp[cupy:eager]"
    assert set(found.values()) == {"cuda"}
    assert list(names("huge", ["numpy"], "cpu", [])) == ["nnxp[numpy]"]


def test_a_cpu_has_no_graphs_and_the_loop_has_only_small_workloads():
    found = names("tiny", ["numpy"], "cpu")
    assert "PyTorch CUDA graph" not in found
    assert "per-sample loop" in found
    assert "per-sample loop" not in names("medium", ["numpy"], "cpu")


def test_the_command_line_chooses_the_contenders():
    parser = arguments.parser("Tests.", *contenders.OPTIONS)

    def entries(*words):
        return contenders.chosen_entries(parser.parse_args(words), WORKLOADS["tiny"])

    default = [each.name for each in entries("--device", "cuda", "--peers", "")]
    ours = ("numpy", "cupy:eager", "cupy:graph", "torch", "jax")
    assert default == [f"nnxp[{name}]" for name in ours]
    asked = [each.name for each in entries("--backends", "torch", "--peers", "jax_scan")]
    assert asked == ["nnxp[numpy]", "nnxp[torch]", "JAX jit + scan"]
    every = {each.name for each in entries()}
    assert {"JAX jit", "scikit-learn", "per-sample loop"} <= every
    with pytest.raises(InputError, match="unknown peer 'pytorhc': did you mean 'pytorch'"):
        entries("--peers", "pytorhc")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--peers", "pytorhc"], "batch_sizes: unknown peer 'pytorhc': did you mean 'pytorch'"),
        (["--repeat", "0"], "batch_sizes: repeat must be a whole number, 1 or more, not 0"),
        (["--workload", "smal"], "batch_sizes: unknown workload 'smal': did you mean 'small'"),
    ],
)
def test_a_wrong_option_ends_a_benchmark_with_one_line(words, says, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench/batch_sizes.py", *words])
    with pytest.raises(SystemExit, match=says) as caught:
        arguments.run(batch_sizes.main)
    assert "\n" not in str(caught.value)


def test_a_budget_leaves_out_workloads_and_keeps_finished_measurements(tmp_path, monkeypatch):
    clock, asked = [0.0], []

    def measure(workload, entries, **options):
        clock[0] += {"tiny": 40, "small": 30, "huge": 20}.get(workload.name, 25)
        asked.append((workload.name, options["together"], options.get("steps")))
        assert len(list(tmp_path.glob("*.json"))) == (len(asked) > 1)
        return [Result(each.name, workload.name, 10, step_seconds=[1.0]) for each in entries]

    monkeypatch.setattr(compare, "measure", measure)
    monkeypatch.setattr(compare.time, "monotonic", lambda: clock[0])
    words = ["--device", "cuda", "--together", "--budget", "100", "--output", str(tmp_path)]
    words += ["--workload", "tiny,huge,small,medium", "--peers", "pytorch"]
    monkeypatch.setattr(sys, "argv", ["compare", *words])
    assert compare.main() == 1
    # 40, then 60; 90 would be in time, and one more would not.
    assert asked == [("tiny", True, None), ("huge", True, 16), ("small", True, None)]
    (path,) = tmp_path.glob("*.json")
    found = [each for each in json.loads(path.read_text())["results"] if each["problem"]]
    assert {each["workload"] for each in found} == {"medium"}
    assert {each["problem"] for each in found} == {"left out: 100 seconds were too few"}
    assert "PyTorch" in {each["name"] for each in found}


# --- ceilings


def test_ceilings_are_measured_on_numpy():
    found = ceilings.measure("numpy", "cpu", ceilings.QUICK)
    assert found["device"] == "cpu"
    assert found["version"] == np.__version__
    for name in ("copy", "float32"):
        assert 0 < found[name]["low"] <= found[name]["median"] <= found[name]["high"]
    assert "tf32" not in found
    assert "problem" not in found


def test_ceilings_and_trainings_run_without_the_variables_that_force_kernels(monkeypatch):
    for name in blas.FORCING:
        monkeypatch.setenv(name, "Haswell" if "TYPE" in name else "262144")
    environments = []

    def start(command, *arguments, environment, **options):
        environments.append(environment)
        raise KeyboardInterrupt

    monkeypatch.setattr(
        arguments.os, "execve", lambda *given: start(given[1], environment=given[2])
    )
    monkeypatch.setattr(run_cli, "Process", start)
    monkeypatch.setattr(sys, "argv", ["bench/ceilings.py", "--quick"])
    with pytest.raises(KeyboardInterrupt):
        ceilings.main()
    with pytest.raises(KeyboardInterrupt):
        run_cli.train("digits", "numpy", "cpu", Path())
    assert [set(each) & set(blas.FORCING) for each in environments] == [set(), set()]


def test_a_rate_is_amount_over_time(monkeypatch):
    clock, done = [0.0], []

    def run():
        clock[0] += 0.5 if done else 9.0  # the first loads and compiles
        done.append(None)

    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: clock[0])
    size = ceilings.Size(megabytes=1, rows=8, turns=3, turn_seconds=2.0)
    found = ceilings.rate(backends.get("numpy"), size, run, 10.0)
    assert found == {"median": 20.0, "low": 20.0, "high": 20.0}
    assert len(done) == 2 + 3 * 5

    amounts = []
    monkeypatch.setattr(ceilings, "rate", lambda *arguments: amounts.append(arguments))
    ceilings.copy(backends.get("numpy"), size)
    ceilings.product(backends.get("numpy"), size)
    (*_, copies, gigabytes), (*_, multiplies, tera) = amounts
    assert copies().nbytes == 2**20
    assert gigabytes == 2 * 2**20 / 1e9
    assert multiplies().shape == (8, 8)
    assert tera == 2 * 8**3 / 1e12


def test_a_library_that_cannot_be_measured_gets_a_row_with_the_reason(
    capsys, tmp_path, monkeypatch
):
    words = ["--quick", "--libraries", "numpy,nunpy", "--output", str(tmp_path / "c.json")]
    monkeypatch.setattr(sys, "argv", ["ceilings", *words])
    assert ceilings.main() == 1
    found = json.loads((tmp_path / "c.json").read_text())
    assert found[1]["problem"].startswith("unknown backend 'nunpy'")
    assert "unknown backend 'nunpy'" in rows(capsys.readouterr().out)["nunpy"][-1]


def test_tf32_is_measured_by_a_backend_opened_with_tf32(monkeypatch):
    opened, asked = backends.get("numpy"), []  # stands in for one on CUDA
    monkeypatch.setattr(opened, "has_tf32", lambda: True)
    monkeypatch.setattr(backends, "get", lambda *_, **options: asked.append(options) or opened)
    found = ceilings.measure("numpy", "cpu", ceilings.QUICK)
    assert asked == [{}, {"tf32": True}]
    assert found["tf32"]["median"] > 0


# --- kernels


def test_kernels_and_copies_are_counted_per_step():
    seen = ["gemm", "relu", "Memcpy DtoD (Device -> Device)", "Memset (Device)"] * 4
    counted = {"kernels": 2.0, "copies": 2.0, "counted": "by PyTorch's profiler"}
    assert kernels.per_step(seen, 4) == counted
    assert kernels.per_step([], 4) == {"problem": "the profiler saw nothing"}


@pytest.mark.slow
def test_a_contender_that_cannot_be_counted_gets_a_row_with_the_reason(tmp_path, monkeypatch):
    entry = Entry("broken", "nowhere:Nobody")
    found = kernels.count_all([entry], Workload("t", (4, 3), 2, 2, 8), 60)
    assert found == [
        {"name": "broken", "problem": "ModuleNotFoundError: No module named 'nowhere'"}
    ]
    for code, problem in (
        ("import time; time.sleep(30)", "did not answer for 3 seconds"),
        ("raise SystemExit('no memory')", "died (exit status 1): no memory"),
        ("raise SystemExit(3)", "died (exit status 3)"),
    ):
        script = tmp_path / "script.py"
        script.write_text(code)
        monkeypatch.setattr(kernels, "__file__", str(script))
        (row,) = kernels.count_all([entry], Workload("t", (4, 3), 2, 2, 8), 3)
        assert row["problem"] == problem


class Driver:
    """Stands in for CUDA's driver: a graph of nodes of these types, of address 7."""

    def __init__(self, *types):
        self.types = types

    def cuGraphGetNodes(self, graph, nodes, size):
        if graph.value != 7:
            return 1
        for index in range(len(nodes or ())):
            nodes[index] = 100 + index
        size._obj.value = len(self.types)
        return 0

    def cuGraphNodeGetType(self, node, kind):
        kind._obj.value = self.types[node.value - 100]
        return 0


def test_the_driver_tells_the_types_of_nodes():
    graph = SimpleNamespace(graph=7)
    driver = Driver(0, 1, 0, 2, 10, 99)
    assert graph_nodes.count(graph, driver) == {
        "kernel": 2, "memcpy": 1, "memset": 1, "allocation": 1, "type 99": 1
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="cuGraphGetNodes of CUDA failed with status 1"):
        graph_nodes.count(SimpleNamespace(graph=8), driver)


def test_nodes_of_other_types_are_said(monkeypatch):
    monkeypatch.setattr(graph_nodes, "count", lambda types: Counter(types))
    found = kernels.of_graphs([{"kernel": 8, "memset": 1}, {"kernel": 4, "allocation": 2}], 4)
    assert found == {
        "kernels": 3.0,
        "copies": 0.25,
        "counted": "by the nodes of the CUDA graph of 4 steps, besides 2 of type allocation",
    }


def test_launched_graphs_of_cupy_are_counted_by_their_nodes():
    require("cupy")
    import cupy

    x, y = cupy.ones(5), cupy.ones(5)
    expected = x + 1
    stream = cupy.cuda.Stream(non_blocking=True)
    with graph_nodes.launches() as launched:
        with stream:
            stream.begin_capture()
            cupy.add(x, 1, y)
            y.data.copy_from_device_async(x.data, x.nbytes)
            x.data.memset_async(0, x.nbytes)
            cupy.add(x, expected, y)
            graph = stream.end_capture()
        assert launched == []
        graph.launch(stream)
        stream.synchronize()
    assert y.get().tolist() == [2.0] * 5
    assert [graph_nodes.count(each) for each in launched] == [
        {"kernel": 2, "memcpy": 1, "memset": 1}
    ]
    with stream:
        stream.begin_capture()
        assert type(stream.end_capture()) is cupy.cuda.Graph


def test_a_chunk_on_cupy_is_counted_without_pytorch(monkeypatch):
    require("cupy")
    monkeypatch.setattr(kernels, "gpu_work", None)
    workload = Workload("t", (4, 5, 3), 2, chunk=4, samples=16)
    per_step = []
    for chunk in (4, 8):
        found = kernels.count(entry("cupy:graph", "cuda"), replace(workload, chunk=chunk))
        assert found.pop("counted") == f"by the nodes of the CUDA graph of {chunk} steps"
        # Beside the steps, a graph copies the state and the loss into arrays of its own.
        assert 0 < found["copies"] * chunk <= 8
        per_step.append(found["kernels"])
    assert 10 < per_step[0] < 40
    assert per_step[1] == pytest.approx(per_step[0], abs=0.5)
    monkeypatch.undo()
    if find_spec("torch") is None:
        with pytest.raises(RuntimeError, match=r"no CUDA graph was launched, and PyTorch, whose"):
            kernels.count(entry("cupy:eager", "cuda"), workload)


# --- trainings by the command line


def test_data_in_mnists_shape_are_made(tmp_path):
    with np.load(mnist.made(tmp_path, 60)) as found:
        assert {name: found[name].shape for name in found} == {
            "x": (60, 784),
            "y": (60,),
            "x_test": (10, 784),
            "y_test": (10,),
        }


def test_a_training_is_described_by_its_seconds_and_warnings(tmp_path):
    found = {
        "history": [{"seconds": 1.0}, {"seconds": 0.5}],
        "wall_seconds": 3.0,
        "test": {"accuracy": 0.97},
        "output": ["x.py:3: RuntimeWarning: steps run eagerly", "  warn()"],
    }
    text = gpu_report.trained(mnist.summary("cupy", found))
    assert text == (
        "1.50 s, 3.00 s with start-up, accuracy 0.9700; x.py:3: RuntimeWarning: steps run eagerly"
    )
    assert gpu_report.trained(mnist.summary("cupy", {"problem": "no"})) == "- (no)"
    found = mnist.train("nowhere.csv", "numpy", "cuda", tmp_path)
    assert "nowhere.csv" in found["problem"]


# --- the parts on a GPU


def part(code, seconds=60.0, **environment):
    return gpu.Part("a part", seconds, [sys.executable, "-c", code], environment)


@pytest.mark.slow
def test_a_part_is_interrupted_at_its_time_limit(tmp_path):
    said = []
    assert gpu.run(part("import os; print(os.environ['X'])", X="1"), 60, said.append) is None
    assert said == ["1\n"]
    code = "print('no'); print(); raise SystemExit(3)"
    assert gpu.run(part(code), 60, said.append) == "exit status 3: no"
    ended = tmp_path / "ended"
    code = (
        "import time, pathlib, signal\n"
        # A shell that starts the tests in the background ignores SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: time.sleep(60)\n"
        f"except KeyboardInterrupt: pathlib.Path({str(ended)!r}).touch()"
    )
    start = time.monotonic()
    assert gpu.run(part(code), 2, said.append) == "took more than 2 seconds"
    assert time.monotonic() - start < 30
    assert ended.exists()


@pytest.mark.slow
def test_a_part_that_ignores_the_interrupt_is_killed_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "_PATIENCE", 0.5)
    ids = tmp_path / "ids"
    code = (
        "import os, pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(ids)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )
    assert gpu.run(part(code), 3, print) == "took more than 3 seconds"
    child = int(ids.read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the part's child still runs")


@pytest.mark.slow
def test_a_part_that_fails_does_not_stop_the_others():
    said = []
    todo = [part("raise SystemExit(1)"), part("print('here')"), part("import time; time.sleep(9)")]
    # The last part has what the others leave of four seconds, or nothing.
    failed = gpu.run_all(todo, 4, said.append)
    assert failed[0] == "a part: exit status 1"
    assert re.fullmatch(r"a part: (took more than \d seconds|there was no time left)", failed[1])
    assert len(failed) == 2
    assert "here\n" in said
    assert gpu.run_all(todo, 0.5, said.append) == ["a part: there was no time left"] * 3


def test_all_parts_fit_into_eight_minutes(tmp_path):
    todo = gpu.parts(tmp_path)
    assert sum(part.seconds for part in todo) <= gpu.SECONDS - gpu._LAST
    dry = gpu.parts(tmp_path, dry_run="cpu")
    assert {part.name for part in todo} - {"driver", "tests-cupy", "tests-others"} <= {
        part.name for part in dry
    }
    required = {part.name: part.environment.get("NNXP_REQUIRE") for part in todo}
    assert (required["tests-cupy"], required["tests-others"]) == ("cupy", "torch,jax")
    for each in dry:
        assert "cuda" not in each.command
        assert not any("cupy" in str(word) for word in each.command)
    for each in (*todo, *dry, *gpu.parts(tmp_path, "cuda", ["cupy"])):
        scripts = [word for word in each.command if str(word).startswith(("bench/", "tests/"))]
        assert all((BENCH.parent / script).exists() for script in scripts)


def test_parts_measure_only_the_libraries_that_are_there(tmp_path):
    for libraries, others in (["cupy"], "torch jax"), (["jax"], "cupy torch"), ([], "cupy jax"):
        todo = gpu.parts(tmp_path, libraries=libraries)
        words = " ".join(str(word) for part in todo for word in part.command)
        for other in others.split():
            assert other not in words.replace("--backends cupy:graph --peers ", "")
        assert ("tests-cupy" in {part.name for part in todo}) is ("cupy" in libraries)


def test_a_command_that_is_not_there_fails_as_a_part_does():
    absent = gpu.Part("driver", 5, ["nvidia-smi-of-nowhere"])
    problem = "nvidia-smi-of-nowhere cannot be started: No such file or directory"
    assert gpu.run(absent, 5, print) == problem


@pytest.mark.parametrize(
    ("gpus", "name", "doubt"),
    [
        (["NVIDIA H100, driver 580.1"], "NVIDIA H100", None),
        ([], "NVIDIA H100", "nvidia-smi names no GPU"),
        (["NVIDIA H100, driver 580.1"], "CUDA on a CPU", "an emulated CUDA has no times worth"),
    ],
)
def test_only_times_of_a_gpu_are_published(on_gpu, gpus, name, doubt):
    on_gpu["machine"]["gpus"] = gpus
    on_gpu["results"][1]["describe"]["gpu"] = name
    found = assemble.doubtful(on_gpu)
    assert found is None if doubt is None else found.startswith(doubt)


@pytest.mark.slow
def test_measurements_are_assembled(on_gpu, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    parts, output, published = tmp_path / "parts", tmp_path / "output", tmp_path / "published"
    for folder in (parts / "compared", output, published / "results"):
        folder.mkdir(parents=True)
    (published / "README.md").write_text((BENCH / "README.md").read_text("utf-8"))
    monkeypatch.setattr(writing, "BENCH", published)
    with pytest.raises(FileNotFoundError, match=r"bench/compare.py left no results"):
        assemble.assemble(parts, output, publish=False)
    separate = {name: on_gpu.pop(name) for name in assemble.NAMES}
    del on_gpu["pictures"], on_gpu["section"]
    (parts / "compared" / "h100.json").write_text(json.dumps(on_gpu))
    (parts / "compared" / "README.md").touch()
    for name, value in separate.items():
        (parts / f"{name}.json").write_text(json.dumps(value))

    text = assemble.assemble(parts, output, publish=False)
    stem = "nvidia-h100-80gb-hbm3-2026-01-31"
    names = {f"{stem}.json", f"{stem}.png", f"{stem}-batch-sizes.png", "README.md"}
    assert {path.name for path in output.iterdir()} == names
    assert "tiny: nnxp[cupy:graph] / best peer: 2.00 (PyTorch CUDA graph)" in text
    content = json.loads((output / f"{stem}.json").read_text())
    assert {name: content[name] for name in assemble.NAMES} == separate
    readme = (output / "README.md").read_text("utf-8")
    assert tables.markdown(content) in readme
    assert f"(results/{stem}-batch-sizes.png)" in readme
    assert not list((published / "results").iterdir())

    emulated = on_gpu | {"machine": on_gpu["machine"] | {"gpus": []}}
    (parts / "compared" / "h100.json").write_text(json.dumps(emulated))
    text = assemble.assemble(parts, tmp_path / "elsewhere", publish=True)
    assert "bench/ stays as it is: nvidia-smi names no GPU" in text
    assert not list((published / "results").iterdir())

    (parts / "compared" / "h100.json").write_text(json.dumps(on_gpu))
    (parts / "sweep.json").unlink()
    assemble.assemble(parts, output, publish=True)
    assert {path.name for path in (published / "results").iterdir()} == {
        f"{stem}.json",
        f"{stem}.png",
    }
    assert "NVIDIA H100" in (published / "README.md").read_text("utf-8")


def dry_run(folder, device, *arguments):
    """The report and the output of a dry run of `ci/gpu` that ends well and leaves bench/ alone."""
    pytest.importorskip("matplotlib")
    before = {path: path.stat().st_mtime_ns for path in BENCH.rglob("*.md")}
    environment = os.environ | {
        "NNXP_GPU_DRY_RUN": device,
        "OUT": str(folder / "out"),
        "PYTHON": sys.executable,
    }
    done = completed(
        ["bash", BENCH.parent / "ci" / "gpu", *arguments], env=environment, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "all is well" in done.stdout
    found = sorted(path.name for path in (folder / "out").iterdir())
    assert len(found) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in found)
    (path,) = (folder / "out").glob("*.json")
    content = json.loads(path.read_text())
    assert content["quick"] is True
    assert {"ceilings", "kernels", "sweep", "mnist"} <= content.keys()
    assert {each["verdict"] for each in content["results"]} <= {"reference", "equal"}
    assert (folder / "out" / "log.txt").read_text() in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in BENCH.rglob("*.md")}
    return content, done.stdout


@pytest.mark.slow
def test_a_dry_run_runs_all_parts_on_a_cpu(tmp_path):
    for library in ("torch", "jax"):
        require(library)
    dry_run(tmp_path, "cpu")


def test_a_dry_run_runs_all_parts_on_cupy(tmp_path):
    """On the emulated CUDA, or a GPU: what takes no time at smoke size."""
    require("cupy")
    content, printed = dry_run(tmp_path, "cuda", "--libraries", "cupy")
    (row,) = content["kernels"]["contenders"]
    assert row["name"] == "nnxp[cupy:graph]"
    assert row["kernels"] > 0
    assert re.search(r"\n\d+ passed.*\n== tests: ok", printed)
