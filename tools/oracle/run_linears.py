#!/usr/bin/env python3
"""Runs every quantized layer alone on the tool's own inputs, in the tool and in Halftone, and compares outputs.
usage: run_linears.py SOURCE FOLDER... --linears build/release/tests/parity/run_linears [--texts 2] [--tokens 40]

Whole models whose inputs are quantized drift apart, since an input near the middle of two codes falls to either side
(run_folders.py). With the same input, one layer has nothing to drift: all its codes must be equal, and outputs differ by the
order of summation alone. Models are loaded as run_folders.py loads them. Prints for each folder how far the worst output
of any layer is off, as a share of the layer's largest. Bound: 1e-5, some roundings of sums of hundreds of products in f32;
one input of hundreds that got the neighbouring code is a hundred times as much. Exit status 1 if a folder misses it.
"""
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from common import canonical, compare_folders, read_tensors
from run_folders import load_any, logits_of

BOUND = 1e-5


class Calls:
    """Inputs and outputs of the layers of a model that a folder holds quantized, by their names in the folder."""

    def __init__(self, model, folder):
        stored = {canonical(n.removesuffix(".weight")): n.removesuffix(".weight") for n in self.weights(folder)}
        self.inputs, self.outputs = {}, {}
        for name, module in model.named_modules():
            if canonical(name) in stored:
                module.register_forward_hook(self.hook(stored[canonical(name)]))

    @staticmethod
    def weights(folder):
        for name, tensor in read_tensors(folder).items():
            for part in (".weight", ".weight_packed", ".qweight"):
                if name.endswith(part) and ".layers." in name and tensor.dtype not in (torch.bfloat16, torch.float32, torch.float16):
                    yield name.removesuffix(part) + ".weight"

    def hook(self, name):
        def keep(_module, inputs, output):
            self.inputs.setdefault(name, []).append(inputs[0].detach().float().flatten(0, -2))
            self.outputs.setdefault(name, []).append(output.detach().float().flatten(0, -2))

        return keep


def halftone_outputs(program, folder, inputs):
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "inputs.safetensors"
        save_file({name: torch.cat(x).contiguous() for name, x in inputs.items()}, file)
        run = subprocess.run([program, str(folder), file, Path(scratch) / "out"], capture_output=True, text=True)
        if run.returncode:
            raise ValueError(f"halftone: {run.stderr.strip()}")
        return load_file(Path(scratch) / "out/model.safetensors")


def compare(folder, source, program, texts):
    model = load_any(folder, source)
    calls = Calls(model, folder)
    logits_of(model, texts)
    ours = halftone_outputs(program, folder, calls.inputs)
    worst, values = (0, "none"), 0
    for name, outputs in calls.outputs.items():
        theirs = torch.cat(outputs)
        values += theirs.numel()
        off = (ours[name] - theirs).abs().max().item() / theirs.abs().max().item()
        worst = max(worst, (off, name)) if off == off else (float("inf"), name)
    good = len(ours) > 0 and worst[0] <= BOUND
    print(f"{folder.name}: {len(ours)} layers, {values} outputs, largest difference {worst[0]:.1e} ({worst[1]})"
          + ("" if good else "  <-- misses"), flush=True)
    return good


if __name__ == "__main__":
    compare_folders("linears", compare, texts=2)
