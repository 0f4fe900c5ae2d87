#!/usr/bin/env python3
"""Takes checkpoints of many shapes, dtypes and seeds through ModelOpt, compressed-tensors and Halftone, and compares.
usage: sweep.py FOLDER --halftone PROGRAM [--cases a,b] [--tools modelopt,compressed-tensors] [--again]

Each case is a folder of FOLDER: checkpoint, modelopt, compressed-tensors, and the logs of both comparisons. What is there
is taken as it is, unless --again. Prints a table of how many formats were equal, differed, were refused by both sides, by
Halftone alone or by the tool alone; the last lines say what differed. Exit status 1 if anything did, or if Halftone ended
other than by an error that names a tensor or a module.
"""
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DEMO = HERE / "../../demo/model"

# name: arguments of make_tiny.py, or none for the demo model
CASES = {
    "demo": None,
    "bf16": "--seed 1",
    "bf16_again": "--seed 11 --outlier 3000 --faint",
    "mha_f16_tied_sharded": "--seed 2 --hidden 256 --inter 512 --heads 4 --kv 4 --dtype float16 --tied --shard-kib 300 --outlier 1",
    "gqa_f32_sharded": "--seed 3 --hidden 256 --inter 384 --heads 4 --kv 2 --dtype float32 --shard-kib 500",
    "f32_faint": "--seed 4 --hidden 128 --inter 256 --heads 2 --kv 2 --dtype float32 --faint --outlier 500",
    "f16_faint": "--seed 5 --hidden 128 --inter 128 --heads 2 --kv 1 --dtype float16 --faint --layers 1 --outlier 1",
    "of_64": "--seed 6 --hidden 192 --inter 320 --heads 3 --kv 1",
    "of_32": "--seed 7 --hidden 160 --inter 96 --heads 2 --kv 1 --tied",
    "of_8": "--seed 8 --hidden 72 --inter 200 --heads 3 --kv 1",
    "of_4": "--seed 9 --hidden 36 --inter 100 --heads 3 --kv 3 --dtype float32",
    "odd_rows": "--seed 10 --hidden 128 --inter 129 --heads 2 --kv 1",
    "one_row": "--seed 12 --hidden 64 --inter 1 --heads 2 --kv 1",
    "nan": "--seed 13 --nan",
    "f16_of_64_sharded": "--seed 21 --hidden 192 --inter 320 --heads 3 --kv 1 --dtype float16 --shard-kib 200 --outlier 2",
    "three_layers_tied": "--seed 22 --hidden 320 --inter 448 --heads 5 --kv 5 --layers 3 --vocab 333 --tied --shard-kib 400",
    "wide_heads": "--seed 23 --hidden 384 --inter 640 --heads 3 --kv 1 --vocab 517 --outlier 200",
    "plain_f32_tied": "--seed 24 --hidden 256 --inter 768 --heads 8 --kv 2 --dtype float32 --tied --plain",
}


def run(*command, log):
    with open(log, "w") as out:
        # tiny matrices: threads would only wait for one another
        return subprocess.run([sys.executable, *map(str, command)], stdout=out, stderr=subprocess.STDOUT,
                              env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode


def prepare(case, folder, again):
    checkpoint = folder / "checkpoint"
    if CASES[case] is None:
        return DEMO
    if again or not checkpoint.exists():
        shutil.rmtree(checkpoint, ignore_errors=True)
        if run(HERE / "make_tiny.py", checkpoint, *CASES[case].split(), log=folder / "make.log"):
            sys.exit(f"{case}: make_tiny.py fails, see {folder / 'make.log'}")
    return checkpoint


def verdicts(log, failures):
    """Counts of one tool's comparison, and the lines that say what differed."""
    refused = {line.split(":")[0]: line for line in failures.read_text().splitlines() if " fails: " in line}
    counts, shown, name = dict.fromkeys(("equal", "differ", "both refuse", "Halftone refuses", "tool refuses"), 0), [], None
    for line in log.read_text().splitlines():
        if line.startswith(" "):
            if name:
                shown.append(line)
            continue
        name, _, text = line.partition(": ")
        if "halftone fails" in text:
            counts["both refuse" if name in refused else "Halftone refuses"] += 1
            # an error names its place; a signal or an empty message is a crash
            if "error: " not in text:
                counts["differ"] += 1
            shown.append("  " + line + (f"\n      and {refused[name]}" if name in refused else ""))
            name = None
        elif name in refused:
            counts["tool refuses"] += 1
            shown.append("  " + refused[name])
            name = None
        elif text.endswith("equal"):
            counts["equal"] += 1
            name = None
        else:
            counts["differ"] += 1
            shown.append("  " + line)
    return counts, shown


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--halftone", required=True)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--tools", default="modelopt,compressed-tensors")
    parser.add_argument("--again", action="store_true")
    a = parser.parse_args()
    bad, details = 0, []
    for case in a.cases.split(","):
        folder = a.folder / case
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = prepare(case, folder, a.again)
        for tool in a.tools.split(","):
            out, failures = folder / tool, folder / f"{tool}.export.log"
            if a.again or not out.exists():
                run(HERE / f"{tool.replace('-', '_')}_export.py", checkpoint, out, log=failures)
            log = folder / f"{tool}.log"
            run(HERE / "compare.py", tool, checkpoint, out, "--halftone", a.halftone, "--all", log=log)
            counts, shown = verdicts(log, failures)
            bad += counts["differ"]
            print(f"{case}, {tool}: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n), flush=True)
            details += [f"{case}, {tool}:", *shown] if shown else []
    print(*details, sep="\n")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
