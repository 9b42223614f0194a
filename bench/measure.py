"""measure.py - the protocol: every call between two bursts of the same moment (one alone stands behind another runner's call, and a processor that has
just multiplied for 150 ms is 1 to 2 % slower than one that has waited for memory), all runners of a case in turn, medians, results checked.

One thread is timed in its own processor time, as attn-bench does, so that other programs on the machine do not count; more by the clock.
"""
import dataclasses
import os
import statistics
import time

import numpy as np

import cases
import llamacpp
import ours
import peers

SETTLE_S = 0.03         # until the workers of an idle pool have stopped spinning: they would halve the burst
ROUNDS, SHORT_ROUNDS, SHORT_S = 7, 21, 0.02
OTHERS = 0.3           # of a call's own time that other threads may work, for one thread
BURSTS = 3             # before and behind each call: a millisecond alone is easily disturbed
COMPILES = 3            # by the clock; the quickest counts, as other programs only add to it
CLOCK_S = 1e-4         # what reading the clocks may seem to cost
PATIENCE_S, FEWEST = 2.0, 5  # a runner that has taken so long in all is not called again, once it has been called so often

PEERS = {
    "sdpa": ("PyTorch SDPA", peers.sdpa),
    "flex32": ("FlexAttention, blocks of 32", peers.flex(32)),
    "flex64": ("FlexAttention, blocks of 64", peers.flex(64)),
    "flex128": ("FlexAttention", peers.flex(128)),
    "ortgqa": ("ONNX Runtime GQA", peers.ort_gqa),
    "ortmha": ("ONNX Runtime MHA", peers.ort_mha),
    "llamacpp": ("llama.cpp", llamacpp.flash_attention),
}


@dataclasses.dataclass
class Row:
    case: str
    threads: int
    runner: str          # ours, or a peer
    status: str = "ok"   # ok; absent, unsupported, wrong, failed, with the reason behind it
    ms: float = 0.0
    burst: float = 0.0   # GFLOP/s, or for decoding GB/s of a read
    share: float = 0.0   # of the burst
    ratio: float = 0.0   # this runner's time over ours, each against its own bursts
    error: float = 0.0   # largest difference from float64
    first_s: float = 0.0 # making the mask, compiling, and the first call
    calls: int = 0
    note: str = ""
    busy: float = 0.0    # share of the machine's cores that other programs had meanwhile


def work_of(case, pairs):
    """Operations, or for decoding bytes of K and V."""
    if case.decode:
        return 2.0 * pairs * case.kv_heads / case.q_heads * case.dim * (4 if case.dtype == "f32" else 2)
    return 4.0 * pairs * case.dim


class Ours:
    def __init__(self, library, folder):
        self.library, self.folder = library, folder

    def build(self, case, data, tensors, threads):
        compiled = []
        for _ in range(COMPILES):
            start = time.perf_counter()
            path = self.library.compile(case, self.folder)
            compiled.append(time.perf_counter() - start)
        kernel = ours.Kernel(self.library, path, case, data, tensors, threads)
        stats = kernel.stats()
        call = peers.Call(kernel.run, lambda: kernel.out, stats.kernel.decode(), min(compiled), kernel)
        call.pairs = stats.pairs_visible
        return call


class Others:
    """How much of the machine other programs use: with one thread that is left out of the times, with more it spoils them."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        with open("/proc/stat", encoding="ascii") as f:
            ticks = [int(x) for x in f.readline().split()[1:9]]  # user nice system idle iowait irq softirq steal
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return busy - time.process_time(), time.perf_counter()

    def share(self):
        busy, now = self.now()
        return max(0.0, busy - self.start[0]) / (now - self.start[1]) / os.cpu_count()


class Clock:
    """Seconds of calls, and whether they were this thread's alone."""

    def __init__(self, threads):
        self.now = time.thread_time if threads == 1 else time.perf_counter
        self.alone = threads == 1

    def time(self, run):
        """Seconds, and those that other threads of the process worked meanwhile."""
        process, start = time.process_time(), self.now()
        run()
        seconds = self.now() - start
        return seconds, time.process_time() - process - seconds if self.alone else 0.0


def prepare(build, case, data, tensors, threads, row):
    """A checked call, or None with the reason in the row."""
    try:
        start = time.perf_counter()
        call = build(case, data, tensors, threads)
        call.run()
        row.first_s, row.note = time.perf_counter() - start, call.note
        row.error = cases.error_of(case, data, call.result())
        if not row.error <= cases.tolerance(case):
            row.status = f"wrong: differs by {row.error:.2g} from float64"
            return None
        return call
    except peers.Absent as e:
        row.status = f"absent: {e}"
    except peers.Unsupported as e:
        row.status = f"unsupported: {e}"
    except ours.OursError:
        raise
    except Exception as e:  # a peer that fails is a result, and must not stop the table
        row.status = f"failed: {type(e).__name__}: {(str(e).splitlines() or [''])[0][:120]}"
    return None


def measure(library, folder, case, threads, names):
    """Rows of ours and of the named peers."""
    data = cases.make_data(case)
    tensors = [ours.stored(x, case.dtype) for x in (data.q, data.k, data.v)]
    builds = {"ours": Ours(library, folder).build, **{n: PEERS[n][1] for n in names}}
    rows = {n: Row(f"{case.file}/{case.name}", threads, n) for n in builds}
    calls = {}
    for n, build in builds.items():
        call = prepare(build, case, data, tensors, threads, rows[n])
        if call:
            calls[n] = call
    if "ours" not in calls:
        return list(rows.values())
    rows["ours"].first_s = calls["ours"].setup_s
    burst = lambda: library.read_burst(*visible_bytes(case, tensors), threads) if case.decode else library.flops_burst(case.dtype, threads)
    machine = Others()
    times, bursts, others = take_turns(calls, burst, threads)
    for row in rows.values():
        row.busy = machine.share()
    for n in list(calls):
        if statistics.median(others[n]) > OTHERS * statistics.median(times[n]) + CLOCK_S:
            rows[n].status = "failed: works in other threads though it was given one"
            del times[n]
    fill(rows, times, bursts, work_of(case, calls["ours"].pairs))
    calls["ours"].keep.close()
    return list(rows.values())


def visible_bytes(case, tensors):
    """As much of K and V as the query of a decoding case sees."""
    see = np.broadcast_to(cases.visible(case, 0, 0, np.int64(case.k - 1), np.arange(case.k), {}), case.k)
    n = case.batch * case.kv_heads * int(see.sum()) * case.dim
    return tensors[1].reshape(-1)[:n], tensors[2].reshape(-1)[:n]


def take_turns(calls, burst, threads, rounds=None):
    """Seconds of the calls, of other threads meanwhile, and the bursts around them; in turn, so that a bad minute is everyone's.
    Without `rounds`, as many as fit the first call, and slow ones are called less often."""
    clock = Clock(threads)
    times, bursts, others = ({n: [] for n in calls} for _ in range(3))
    fixed, first = rounds, next(iter(calls.values()))
    rounds = fixed or (SHORT_ROUNDS if clock.time(first.run)[0] < SHORT_S else ROUNDS)

    def settled_burst():
        if threads > 1:
            time.sleep(SETTLE_S)
        return statistics.median(burst() for _ in range(BURSTS))

    before = settled_burst()
    for n in [n for _ in range(rounds) for n in calls]:
        if not fixed and len(times[n]) >= FEWEST and sum(times[n]) > PATIENCE_S:
            continue
        seconds, elsewhere = clock.time(calls[n].run)
        after = settled_burst()
        times[n].append(seconds), others[n].append(elsewhere), bursts[n].append((before + after) / 2)
        before = after
    return times, bursts, others


def fill(rows, times, bursts, work):
    """Medians, and ratios of medians: each time in units of its own bursts."""
    units = {n: statistics.median(t) * statistics.median(bursts[n]) for n, t in times.items()}
    for n, t in times.items():
        row = rows[n]
        row.ms, row.burst, row.calls = 1e3 * statistics.median(t), 1e-9 * statistics.median(bursts[n]), len(t)
        row.share, row.ratio = work / units[n], units[n] / units["ours"]
