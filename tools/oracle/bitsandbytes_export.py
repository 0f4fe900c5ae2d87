#!/usr/bin/env python3
"""What bitsandbytes makes of a checkpoint, through transformers, on the CPU.
usage: bitsandbytes_export.py CHECKPOINT OUT [--skip model.visual,lm_head] [--compare FOLDER]

Writes OUT as save_pretrained does: NF4 with double quantization, for --skip none of all linear layers but the head.
The 8-bit codes of the scales come from bitsandbytes' kernel in PyTorch, which takes the nearest value as its GPU kernels
do; its CPU library takes a neighbour for about one in a hundred.

With --compare, FOLDER (of `halftone quantize --recipe nf4`) is held against it: all bytes are equal, but for the mean of the
scales, which the tool sums in f32 in the order of the processor's vectors. It is within two places of f32, and so are
the differences to it; an 8-bit code of one may be the neighbour for one in a thousand. Prints what differs; exit status
1 if anything does by more.
"""
import argparse
import json
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from common import canonical, copy_companions, read_tensors

STATE = ".weight.quant_state.bitsandbytes__nf4"
PLACES = 2.0**-22
NEIGHBOURS = 0.001


def nearest_blockwise(x, code=None, absmax=None, out=None, blocksize=4096, nested=False):
    """bnb.quantize_blockwise without the library of the CPU."""
    code = bnb.create_dynamic_map() if code is None else code
    kernel = torch.ops.bitsandbytes.quantize_blockwise.default._op_dk
    codes, absmax = kernel(torch._C.DispatchKey.CompositeExplicitAutograd, x, code, blocksize)
    return codes, bnb.QuantState(absmax=absmax, code=code, blocksize=blocksize, dtype=x.dtype)


def export(checkpoint, out, skip):
    bnb.quantize_blockwise = nearest_blockwise
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                bnb_4bit_compute_dtype=torch.float32, llm_int8_skip_modules=skip)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, quantization_config=config, dtype="auto", device_map="cpu")
    model.save_pretrained(out)
    copy_companions(checkpoint, out)


def state_of(tensor):
    return json.loads(bytes(tensor.tolist()))


def compare_state(name, a, b):
    a, b = state_of(a), state_of(b)
    means = a.pop("nested_offset"), b.pop("nested_offset")
    lines = [f"{name}: {a} against {b}"] if a != b else []
    if abs(means[0] - means[1]) > PLACES * abs(means[0]):
        lines.append(f"{name}: means {means[0]} and {means[1]}")
    return lines


def compare(theirs, ours):
    lines, moved, codes = [], 0, 0
    for name in sorted(set(theirs) | set(ours)):
        a, b = theirs.get(name), ours.get(name)
        if a is None or b is None or a.dtype != b.dtype or (a.shape != b.shape and not name.endswith(STATE)):
            lines.append(f"{name}: {a if a is None else (a.dtype, a.shape)} against {b if b is None else (b.dtype, b.shape)}")
        elif name.endswith(STATE):
            lines += compare_state(name, a, b)
        elif name.endswith(".absmax"):
            apart = (a.int() - b.int()).abs()
            moved, codes = moved + int((apart > 0).sum()), codes + a.numel()
            lines += [f"{name}: codes up to {int(apart.max())} apart"] if apart.max() > 1 else []
        elif name.endswith(".nested_absmax"):
            mean = state_of(theirs[name.replace(".weight.nested_absmax", STATE)])["nested_offset"]
            lines += [f"{name}: {a} against {b}"] if ((a - b).abs() > PLACES * a.clamp(min=mean)).any() else []
        elif not torch.equal(a, b):
            lines.append(f"{name}: {int((a != b).sum())} of {a.numel()} differ")
    print(f"{len(theirs)} tensors; {moved} of {codes} scales have the neighbouring code")
    return lines + (["too many of them"] if moved > NEIGHBOURS * codes else [])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--skip", default="model.visual,lm_head")
    parser.add_argument("--compare", type=Path)
    a = parser.parse_args()
    export(a.checkpoint, a.out, None if a.skip == "none" else a.skip.split(","))
    if a.compare:
        theirs, ours = ({canonical(n): t for n, t in read_tensors(f).items()} for f in (a.out, a.compare))
        lines = compare(theirs, ours)
        print(*lines, sep="\n")
        sys.exit(bool(lines))


if __name__ == "__main__":
    main()
