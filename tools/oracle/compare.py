#!/usr/bin/env python3
"""Compares what Halftone writes with what the tools write, from the same statistics.
usage: compare.py modelopt|compressed-tensors CHECKPOINT ORACLE_OUT --halftone PROGRAM [--formats a,b] [--keep FOLDER]

For each format: quantizes CHECKPOINT with `halftone quantize --statistics`, then compares names, dtypes, shapes and bytes
of every tensor, quantization_config of config.json and hf_quant_config.json. Prints each difference; exit status 1 if
there is any. SVDQuant's factors are compared by their product, relative to its largest value.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import read_tensors
from formats import COMPRESSED, MODELOPT

SHOWN = 6
PRODUCT_TOLERANCE = 2.0**-7  # two factors in bf16, each rounded by up to 2^-9


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.reshape(-1)


def compare_tensor(name, a, b):
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{name}: {a.dtype} {list(a.shape)} against {b.dtype} {list(b.shape)}"
    different = int((bits(a) != bits(b)).sum())
    if different == 0:
        return None
    flat = (bits(a) != bits(b)).nonzero()[0].item() // a.element_size()
    values = a.reshape(-1)[flat].float().item(), b.reshape(-1)[flat].float().item()
    return f"{name}: {different} of {bits(a).numel()} bytes differ, first at element {flat}: {values[0]:.9g} against {values[1]:.9g}"


def compare_products(a, b):
    """Removes SVDQuant's factors from both and compares what they multiply to."""
    lines = []
    for name in [n for n in a if n.endswith("svdquant_lora_a") and n in b]:
        other = name[: -len("lora_a")] + "lora_b"
        left, right = (t.pop(other).double() @ t.pop(name).double() for t in (a, b))
        error = ((left - right).abs().max() / left.abs().max().clamp_min(1e-30)).item()
        if error > PRODUCT_TOLERANCE:
            lines.append(f"{name}: products differ by {error:.2e} of the largest")
    return lines


def compare_json(where, a, b):
    """Lines for fields that differ; keys that only Halftone writes for itself are no difference."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [k for k in [*a, *(k for k in b if k not in a)] if k != "written_by"]
        return [line for k in keys for line in compare_json(f"{where}.{k}", a.get(k, "absent"), b.get(k, "absent"))]
    return [] if a == b else [f"{where}: {json.dumps(a)[:300]} against {json.dumps(b)[:300]}"]


def without_choices(config):
    """compressed-tensors' configuration without what may be said in many ways (which modules are meant: proven by loading
    the folder), what names the version that wrote it, and parts that are empty in every file of a quantized model."""
    left_out = ("ignore", "version", "sparsity_config", "transform_config", "moe_sparsity_config")
    config = {k: v for k, v in config.items() if k not in left_out}
    config["config_groups"] = {name: {k: v for k, v in group.items() if k != "targets"}
                               for name, group in config["config_groups"].items()}
    return config


def quantize(program, checkpoint, text, statistics, out):
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(text)
    command = [program, "quantize", checkpoint, "--recipe", recipe, "--statistics", statistics, "-o", out, "--replace"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def compare_folders(tool, oracle, ours):
    a, b = read_tensors(oracle), read_tensors(ours)
    if tool == "compressed-tensors":
        quantized = {n.rsplit(".", 1)[0] for n in a}
        b = {n: t for n, t in b.items() if n.rsplit(".", 1)[0] in quantized and not n.endswith(".bias")}
    lines = compare_products(a, b)
    lines += [f"{n}: only {tool} writes it" for n in a if n not in b] + [f"{n}: only Halftone writes it" for n in b if n not in a]
    lines += [line for n in a if n in b and (line := compare_tensor(n, a[n], b[n]))]
    ours_config = json.loads((ours / "config.json").read_text())["quantization_config"]
    if tool == "modelopt":
        config = json.loads((oracle / "config.json").read_text())["quantization_config"]
        lines += compare_json("quantization_config", config, ours_config)
        hf = [json.loads((f / "hf_quant_config.json").read_text()) for f in (oracle, ours)]
        lines += compare_json("hf_quant_config", *hf)
    else:
        config = json.loads((oracle / "config.json").read_text())["quantization_config"]
        lines += compare_json("quantization_config", *(without_choices(c) for c in (config, ours_config)))
    return len(a), lines


def compare_search(oracle, ours):
    search = oracle / "search.json"
    if not search.exists():
        return []
    found = json.loads(search.read_text())
    report = {l["module"]: l for l in json.loads((ours / "quantization_report.json").read_text())["layers"]}
    lines = []
    for name, result in found.items():
        layer = report.get(name) or report.get(name.replace("model.layers", "model.language_model.layers"))
        if abs(layer.get("alpha", -1) - result["alpha"]) > 1e-3:
            lines.append(f"{name}: alpha {result['alpha']:.1f} against {layer.get('alpha')}; losses {result['losses']}")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=["modelopt", "compressed-tensors"])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("oracle", type=Path)
    parser.add_argument("--halftone", required=True)
    parser.add_argument("--formats")
    parser.add_argument("--keep", type=Path)
    a = parser.parse_args()
    table = MODELOPT if a.tool == "modelopt" else COMPRESSED
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in a.formats.split(",") if a.formats else [n for n in table if (a.oracle / n).exists()]:
            oracle, ours = a.oracle / name, (a.keep or Path(scratch)) / name
            ours.parent.mkdir(parents=True, exist_ok=True)
            run = quantize(a.halftone, a.checkpoint, table[name][-1], oracle / "statistics.safetensors", ours)
            if run.returncode != 0:
                bad += 1
                print(f"{name}: halftone fails: {run.stderr.strip()[:400]}")
                continue
            count, lines = compare_folders(a.tool, oracle, ours)
            lines += compare_search(oracle, ours)
            bad += bool(lines)
            print(f"{name}: {count} tensors, " + ("equal" if not lines else f"{len(lines)} differences"))
            for line in lines[:SHOWN]:
                print("   ", line)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
