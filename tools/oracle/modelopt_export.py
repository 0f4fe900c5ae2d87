#!/usr/bin/env python3
"""What ModelOpt makes of a checkpoint, and the statistics that it made it from.
usage: modelopt_export.py CHECKPOINT OUT [--formats fp8,nvfp4,...] [--samples 8] [--tokens 48] [--seed 7]

Writes OUT/FORMAT/ (export_hf_checkpoint) with statistics.safetensors and search.json (AWQ's losses and exponents) in it.
ModelOpt simulates block formats (NVFP4, MX) with Triton kernels that need a GPU. Calibration by largest values never
runs them; the searches of NVFP4-AWQ and SVDQuant do: for those the kernel's arithmetic stands here in PyTorch
(nvfp4_scalar_qdq of kernels/quantization/common/nvfp4_quant.py).
"""
import argparse
import copy
import json
import shutil
import sys
import warnings
from pathlib import Path

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from modelopt.torch.quantization import model_calib, tensor_quant

from common import InputRecorder, canonical, copy_companions, load_model, run_samples, samples, save_statistics, statistics
from formats import MODELOPT

warnings.filterwarnings("ignore")


def simulate_block_format(inputs, block_size, amax, num_bits, exponent_bits, scale_num_bits, scale_exponent_bits):
    assert (num_bits, exponent_bits, scale_num_bits, scale_exponent_bits) == (4, 2, 8, 4), "only NVFP4 is simulated"
    x = inputs.float().reshape(*inputs.shape[:-1], -1, block_size)
    global_scale = amax.float().amax() / (6.0 * 448.0)
    scale = torch.clamp(x.abs().amax(-1, keepdim=True) / (6.0 * global_scale), max=448.0)
    scale = scale.to(torch.float8_e4m3fn).float() * global_scale
    safe = torch.where((scale == 0) | ~scale.isfinite(), torch.ones_like(scale), scale)
    magnitude = x.abs() / safe
    code = torch.full_like(x, 6.0)
    for bound, value, inclusive in ((5, 4, 1), (3.5, 3, 0), (2.5, 2, 1), (1.75, 1.5, 0), (1.25, 1, 1), (0.75, 0.5, 0), (0.25, 0, 1)):
        code = torch.where(magnitude <= bound if inclusive else magnitude < bound, torch.full_like(x, float(value)), code)
    y = torch.where(x >= 0, code * safe, -(code * safe))
    return torch.where(scale == 0, torch.zeros_like(y), y).reshape(inputs.shape).to(inputs.dtype)


tensor_quant.dynamic_block_quantize_op = simulate_block_format

# keep what the search found
searched = model_calib.awq_lite
model_calib.awq_lite = lambda model, loop, **more: searched(model, loop, **{**more, "debug": True})


def configuration(name):
    """The preset, or several joined; all of them leave the vision tower and the head alone."""
    if name == "mixed":
        config = copy.deepcopy(mtq.FP8_DEFAULT_CFG)
        for entry in mtq.NVFP4_MLP_ONLY_CFG["quant_cfg"]:
            if "mlp" in entry["quantizer_name"] and entry.get("cfg"):
                config["quant_cfg"].append(copy.deepcopy(entry))
        config["quant_cfg"].append({"quantizer_name": "*.layers.0.*", "enable": False})
        config["quant_cfg"].append({"quantizer_name": "*visual*", "enable": False})
        return config
    if ":" in name:
        name, method = name.split(":")
        return {**copy.deepcopy(getattr(mtq, name)), "algorithm": {"method": method}}
    first, *others = name.split("+")
    config = copy.deepcopy(getattr(mtq, first))
    for other in others:
        config["quant_cfg"] += copy.deepcopy(getattr(mtq, other)["quant_cfg"])
    return config


def cache_statistics(model, tensors):
    """Largest magnitudes of keys after RoPE and of values, as the quantizers of the cache saw them."""
    for name, module in model.named_modules():
        for part in ("k", "v"):
            quantizer = getattr(module, f"{part}_bmm_quantizer", None)
            if quantizer is not None and getattr(quantizer, "_amax", None) is not None:
                tensors[f"{canonical(name)}.{part}.absmax"] = quantizer._amax.reshape(-1)


def search_results(model, tensors):
    found = {}
    for name, module in model.named_modules():
        search = getattr(module, "awq_lite", None)
        if search is None or search.best_alpha is None:
            continue
        name = canonical(name)
        found[name] = dict(alpha=search.best_alpha, losses={f"{a:.1f}": loss for a, loss in search.loss.items()})
        tensors[name + ".input.abs_mean"] = search.act_scale
        tensors[name + ".weight.relative_mean"] = search.weight_scale
        tensors[name + ".input.awq_scale"] = search.best_scale
        delattr(module, "awq_lite")
    return found


def measured_again(model, tensors):
    """SVDQuant and awq_full measure the scaled inputs in a second run, through layers that are already split or scaled."""
    for name, module in model.named_modules():
        quantizer = getattr(module, "input_quantizer", None)
        if quantizer is not None and getattr(quantizer, "_amax", None) is not None and quantizer._amax.numel() == 1:
            tensors[canonical(name) + ".input.amax"] = quantizer._amax.reshape(1)


def clip_rows(recorder):
    """awq_full clips in a last run, through weights that are scaled and rounded: its inputs are a little different ones."""
    return {f"{name}.input.clip_rows": torch.cat(batches).float() for name, batches in recorder.inputs.items()}


def export(checkpoint, name, lists, out):
    model = load_model(checkpoint)
    recorder = InputRecorder(model)
    run_samples(model, lists)
    recorder.close()
    tensors = statistics(recorder)
    with torch.inference_mode(False), torch.no_grad():
        last = InputRecorder(model)
        mtq.quantize(model, configuration(MODELOPT[name][0]), lambda m: run_recorded(m, lists, last))
        last.close()
        cache_statistics(model, tensors)
        found = search_results(model, tensors)
        if "SVDQUANT" in MODELOPT[name][0] or "AWQ_FULL" in MODELOPT[name][0]:
            measured_again(model, tensors)
        if "awq_full" in MODELOPT[name][0]:
            tensors.update(clip_rows(last))
        shutil.rmtree(out, ignore_errors=True)
        export_hf_checkpoint(model, export_dir=out)
    copy_companions(checkpoint, out)
    save_statistics(tensors, out / "statistics.safetensors", made_by="modelopt_export.py", tokens=sum(map(len, lists)))
    (out / "search.json").write_text(json.dumps(found, indent=1))


def run_recorded(model, lists, recorder):
    """Of several runs the last one's inputs stay."""
    recorder.inputs.clear()
    recorder.cache.clear()
    for ids in lists:
        model(input_ids=torch.tensor([ids]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--formats", default=",".join(MODELOPT))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=7)
    a = parser.parse_args()
    lists = samples(a.checkpoint, a.samples, a.tokens, a.seed)
    failed = []
    for name in a.formats.split(","):
        try:
            export(a.checkpoint, name, lists, a.out / name)
            print(f"{name}: written")
        except Exception as error:  # a format that ModelOpt cannot do here is part of the result
            failed.append(name)
            shutil.rmtree(a.out / name, ignore_errors=True)
            print(f"{name}: ModelOpt fails: {type(error).__name__}: {str(error)[:200]}")
    sys.exit(len(failed) == len(a.formats.split(",")))


if __name__ == "__main__":
    main()
