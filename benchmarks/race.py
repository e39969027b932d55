"""Contenders against each other: a single-threaded process each, taking turns, A B C A B C, on one core."""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

TURN_SECONDS = 0.8  # a turn takes whole steps, at least this long


def race(case_name: str, contenders: list, rounds: int) -> list[dict]:
    """One row per contender and round: images, cpu_seconds, wall_seconds, peak_mib of its process so far."""
    from cases import CASES

    context, rows, lanes = get_context("spawn"), [], []
    for contender in contenders:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, CASES[case_name], contender), daemon=True)
        process.start()
        there.close()
        lanes.append((contender, here, process))
    try:
        for _, here, _ in lanes:
            here.recv()
        for turn in range(rounds):
            for contender, here, _ in lanes:
                here.send(True)
                about = {"case": case_name, "loop": contender.loop, "precision": contender.precision}
                off = "+".join(contender.off)
                rows.append({**about, "off": off, "in_memory": contender.images, "round": turn, **here.recv()})
    finally:
        for _, here, process in lanes:
            here.close()
            process.join()
    return rows


def serve(connection: Connection, case, contender) -> None:
    """In a process of its own: get warm, then take a turn whenever asked."""
    import torch

    from kdlib.training import process

    torch.set_num_threads(1)
    if contender.prepared:
        process.prepare_process()
    if hasattr(os, "sched_setaffinity"):  # all on one core, where they take turns anyway
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    steps = contender.steps(case)
    seconds = turn(steps, 1)["cpu_seconds"]
    if seconds < TURN_SECONDS:  # the first step also pays for what is set up once
        seconds = turn(steps, 1)["cpu_seconds"]
    count = math.ceil(TURN_SECONDS / max(seconds, 1e-3))
    connection.send("warm")
    try:
        while connection.recv():
            connection.send(turn(steps, count))
    except EOFError:
        steps.close()


def turn(steps, count: int) -> dict[str, float]:
    """Seconds of `count` steps: of this process on the core, and on the clock. On a quiet machine they are the same."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = sum(next(steps) for _ in range(count))
    return {
        "images": images,
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }
