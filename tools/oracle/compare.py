#!/usr/bin/env python3
"""Compares what Halftone writes with what the tools write, from the same statistics.
usage: compare.py modelopt|compressed-tensors CHECKPOINT ORACLE_OUT --halftone PROGRAM [--formats a,b] [--keep FOLDER]

For each format: quantizes CHECKPOINT with `halftone quantize --statistics`, then compares names, dtypes, shapes and bytes
of every tensor, quantization_config of config.json and hf_quant_config.json. Prints each difference; exit status 1 if
there is any. SVDQuant's factors are compared by their product, relative to its largest value; what remains of the weight
may be rounded to the neighbouring code where the noise of the singular vectors decides.
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
MOVED = 2e-4  # at most, of SVDQuant's remainders; 4e-5 is usual


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


def decoded(tensors, module):
    """NVFP4: values [rows, cols], and the distance between neighbouring codes at each."""
    codes = tensors[module + ".weight"]
    nibbles = torch.stack((codes & 15, codes >> 4), -1).flatten(1).long()
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    magnitude = table[nibbles & 7]
    scale = tensors[module + ".weight_scale"].float() * tensors[module + ".weight_scale_2"].float()
    scale = scale.repeat_interleave(magnitude.shape[1] // scale.shape[1], 1)
    spacing = torch.where(magnitude > 3, 2.0, torch.where(magnitude > 1.5, 1.0, 0.5))
    return torch.where(nibbles > 7, -magnitude, magnitude) * scale, spacing * scale


def compare_split(a, b):
    """SVDQuant: compares what the factors multiply to, then removes from both the factors and what remains of the weight
    where it differs by no more than the factors' own noise explains. Singular vectors are known to a few places of f32,
    and not at all where a row is zero; ModelOpt subtracts the product with that noise in it, so that a remainder near
    the middle of two codes may be rounded to either, and nothing can be said of the signs of a zero row's zeros."""
    lines, moved, total = [], 0, 0
    for name in [n for n in a if n.endswith("svdquant_lora_a") and n in b]:
        other, module = name[: -len("lora_a")] + "lora_b", name.split(".weight_quantizer")[0]
        left, right = (t.pop(other).double() @ t.pop(name).double() for t in (a, b))
        noise = PRODUCT_TOLERANCE * left.abs().max().item()
        if (left - right).abs().max() > noise:
            lines.append(f"{name}: products differ by {(left - right).abs().max() / left.abs().max():.2e} of the largest")
        (x, step_x), (y, step_y) = decoded(a, module), decoded(b, module)
        differs = (x - y).abs() > x.abs() * 2.0**-20
        far = (x - y).abs() > torch.maximum(step_x, step_y) * 1.0001
        moved, total = moved + int(differs.sum()), total + x.numel()
        if far.any():
            lines.append(f"{module}.weight: {int(far.sum())} remainders are more than one code apart")
        else:
            for part in (".weight", ".weight_scale"):
                a.pop(module + part), b.pop(module + part)
    if moved > total * MOVED:
        lines.append(f"{moved} of {total} remainders were rounded to the neighbouring code")
    if total:
        print(f"    low-rank parts: {moved} of {total} remainders were rounded to the neighbouring code")
    return lines


def compare_json(where, a, b):
    """Lines for fields that differ; keys that only Halftone writes for itself are no difference."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [k for k in [*a, *(k for k in b if k not in a)] if k != "written_by"]
        return [line for k in keys for line in compare_json(f"{where}.{k}", a.get(k, "absent"), b.get(k, "absent"))]
    return [] if a == b else [f"{where}: {json.dumps(a)[:300]} against {json.dumps(b)[:300]}"]


def last_words(run):
    """The error without the progress before it; for a crash its status."""
    text = " ".join(run.stderr.split())
    return text[text.index("error: ") :][:400] if "error: " in text else f"status {run.returncode}, {text[-200:]}"


def without_choices(config):
    """compressed-tensors' configuration without what may be said in many ways (which modules are meant: proven by loading
    the folder), what names the version that wrote it, and parts that are empty in every file of a quantized model."""
    left_out = ("ignore", "version", "sparsity_config", "transform_config", "moe_sparsity_config")
    config = {k: v for k, v in config.items() if k not in left_out}
    config["config_groups"] = {name: {k: v for k, v in group.items() if k != "targets"}
                               for name, group in config["config_groups"].items()}
    return config


def quantize(program, checkpoint, text, out, *more):
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(text)
    command = [program, "quantize", checkpoint, "--recipe", recipe, "-o", out, "--replace", *more]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def compare_folders(tool, oracle, ours):
    a, b = read_tensors(oracle), read_tensors(ours)
    lines = compare_split(a, b)
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
    parser.add_argument("--all", action="store_true", help="formats that the tool could not write as well")
    parser.add_argument("--keep", type=Path)
    a = parser.parse_args()
    table = MODELOPT if a.tool == "modelopt" else COMPRESSED
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        there = [name for name in table if a.all or (a.oracle / name).exists()]
        for name in a.formats.split(",") if a.formats else there:
            oracle, ours = a.oracle / name, (a.keep or Path(scratch)) / name
            ours.parent.mkdir(parents=True, exist_ok=True)
            statistics = oracle / "statistics.safetensors"
            if not statistics.exists():  # of the inputs alone
                statistics = next(a.oracle.glob("*/statistics.safetensors"), statistics)
            run = quantize(a.halftone, a.checkpoint, table[name][-1], ours, "--statistics", statistics)
            if run.returncode != 0:
                bad += 1
                print(f"{name}: halftone fails: {last_words(run)}")
                continue
            if not oracle.exists():
                print(f"{name}: only Halftone writes it")
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
