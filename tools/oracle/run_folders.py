#!/usr/bin/env python3
"""Runs quantized folders with Halftone's engine and with the tools themselves, and compares logits.
usage: run_folders.py SOURCE FOLDER... --logits build/release/tests/parity/write_logits [--texts 6] [--tokens 40]

SOURCE is the checkpoint that the folders were made from. compressed-tensors' folders are loaded by transformers (f32, on the
CPU), and so are bitsandbytes'. ModelOpt's, which transformers does not load, are decoded here: what the exporter's codes and scales stand for is put
into SOURCE's model in f32, and inputs are rounded before each layer. Prints for each folder the largest difference of a
logit as a share of the largest logit, the share of tokens whose logits are all within 1e-4, and the mean KL divergence.

Where inputs stay as they are, all tokens must be within 1e-4 (docs/numerics.md, parity). Where they are quantized, programs
that add in another order put an input near the middle of two codes on different sides now and then, a whole step apart, and
what reads it later in the text differs: the tool run twice, the second time with the noise of f32 sums on every layer,
does the same, and its figures are printed beside. Bound: at least half of the tokens are within 1e-4, or no fewer than of
the tool and itself. Exit status 1 if a folder misses its bound.
"""
import functools
import json
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch
from compressed_tensors.compressors.mxfp6 import base as mxfp6
from compressed_tensors.compressors.nvfp4 import base as nvfp4
from modelopt_decode import load_modelopt
from transformers import AutoModelForImageTextToText

from common import compare_folders


nvfp4.unpack_fp4_from_uint8 = functools.partial(nvfp4.unpack_fp4_from_uint8, dtype=torch.float32)
mxfp6.unpack_fp6_from_uint8 = functools.partial(mxfp6.unpack_fp6_from_uint8, dtype=torch.float32)


def load_by_transformers(folder):
    model, info = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[key]:
            raise ValueError(f"transformers: {key}: {sorted(info[key])[:3]}")
    # scales in f32 before the weights are decoded, as before the first forward pass they are: else codes times scales are
    # rounded to the scales' dtype, and layers run in it
    torch.nn.Module.float(model)
    for hook in list(model._forward_pre_hooks.values()):
        hook(model, ())
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # bitsandbytes decodes to the dtype of the file and multiplies in its own
            module.compute_dtype = module.weight.quant_state.dtype = torch.float32
    return torch.nn.Module.float(model).eval()


def load_any(folder, source):
    modelopt = json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == "modelopt"
    return load_modelopt(folder, source) if modelopt else load_by_transformers(folder)


def logits_of(model, texts):
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0, :-1].float() for ids in texts]


def halftone_logits(program, folder, texts, vocabulary):
    with tempfile.TemporaryDirectory() as scratch:
        tokens, out = Path(scratch) / "tokens.json", Path(scratch) / "logits"
        tokens.write_text(json.dumps(texts))
        run = subprocess.run([program, str(folder), tokens, out], capture_output=True, text=True)
        if run.returncode:
            raise ValueError(f"halftone: {run.stderr.strip()}")
        values = torch.from_numpy(numpy.fromfile(out, dtype="<f4").reshape(-1, vocabulary))
    return list(values.split([len(ids) - 1 for ids in texts]))


def quantized_inputs(config):
    if config["quant_method"] == "modelopt":
        return config.get("quant_algo") not in ("fp8_pb_wo", "W8A16", "W4A16_AWQ", "W4A16_NVFP4")
    return any(group.get("input_activations") for group in config.get("config_groups", {}).values())


NEAR = 1e-4
ORDER_OF_SUMS = 1.5e-7  # of single layers, Halftone against the tool: root mean square of the difference by that of the outputs


def difference(a, b):
    """The largest, the share of tokens that are near, the KL divergence."""
    by_token = (a - b).abs().amax(-1) / b.abs().max()
    kl = torch.nn.functional.kl_div(a.log_softmax(-1), b.log_softmax(-1), log_target=True, reduction="batchmean")
    return by_token.max().item(), (by_token <= NEAR).float().mean().item(), kl.item()


def shown(d):
    return f"largest {d[0]:.1e}, {d[1]:.0%} of the tokens within {NEAR:.0e}, KL {d[2]:.1e}"


def disturbed(model, texts):
    """With noise on the output of every layer, as large as two f32 programs differ there (run_linears.py)."""
    generator = torch.Generator().manual_seed(1)

    def add_noise(_module, _inputs, output):
        return output * (1 + ORDER_OF_SUMS * torch.randn(output.shape, generator=generator))

    handles = [m.register_forward_hook(add_noise) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    logits = torch.cat(logits_of(model, texts))
    for handle in handles:
        handle.remove()
    return logits


def compare(folder, source, program, texts):
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    model = load_any(folder, source)
    theirs = torch.cat(logits_of(model, texts))
    ours = difference(torch.cat(halftone_logits(program, folder, texts, theirs.shape[1])), theirs)
    if quantized_inputs(config):
        itself = difference(disturbed(model, texts), theirs)
        good = ours[1] >= min(0.5, itself[1])
        print(f"{folder.name}: {shown(ours)}; the tool and itself: {shown(itself)}" + ("" if good else "  <-- misses"), flush=True)
    else:
        good = ours[1] == 1
        print(f"{folder.name}: {shown(ours)}" + ("" if good else "  <-- misses"), flush=True)
    return good


if __name__ == "__main__":
    compare_folders("logits", compare, texts=6)
