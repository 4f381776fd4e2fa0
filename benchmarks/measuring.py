"""Time and memory of one call, on a CPU or a GPU, as it is, compiled or as a CUDA graph."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def timed(call: Call, device: torch.device, clock: str) -> float:
    now = CLOCKS[clock]
    synchronise(device)
    start = now()
    call()
    synchronise(device)
    return now() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_no_synchronisation(call: Call) -> None:
    call()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def compiled(call: Call) -> Call:
    return torch.compile(call, fullgraph=True)


def captured(call: Call) -> Call:
    """The call as a CUDA graph: one launch, no Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak_mib(call: Call, device: torch.device) -> float:
    """The most that one call holds at a time beyond what is there, MiB, as the allocator counts it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results = profiler.profiler.kineto_results
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    return max(itertools.accumulate((size for _, size in changes), initial=0)) / 2**20
