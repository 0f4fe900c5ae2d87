#!/usr/bin/env python3
"""Writes nf4.safetensors: weights and what bitsandbytes' NF4 with double quantization makes of them.  usage: make_nf4_golden.py [TARGET]

Needs torch, safetensors and bitsandbytes 0.50 (pip install --no-deps bitsandbytes==0.50.2). Tensors CASE.weight, .codes (one a byte), .absmax, .nested_absmax,
.offset, .scales (decoded), and quant_map, nested_quant_map. FOLDER.m.* are the tensors of a module as it is saved, FOLDER.decoded
what it means; the rows of "cut" end within blocks, those of "plain" have scales in F32. Codes of the nested blocks come from bitsandbytes' own kernel in PyTorch,
which takes the nearest value as its GPU kernels do; its CPU library takes a neighbour for about one value in a thousand.
"""
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

OUT = {}


def nearest_blocks(x, code, block):
    op = torch.ops.bitsandbytes.quantize_blockwise.default
    return op._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, x, code, block)


def put(name, w):
    packed, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=True, quant_type="nf4")
    _, plain = bnb.quantize_4bit(w, blocksize=64, compress_statistics=False, quant_type="nf4")
    absmax, nested = nearest_blocks(plain.absmax - state.offset, state.state2.code, 256)
    if name != "zeros":                                                         # 0 / 0, of which the library makes -1
        assert torch.equal(nested, state.state2.absmax) and (absmax.int() - state.absmax.int()).abs().max() <= 1
    state.absmax = absmax
    # the scales decoded as the library decodes them, the weights by their levels
    scales = bnb.dequantize_blockwise(absmax, state.state2) + state.offset
    packed = packed.reshape(-1)
    codes = torch.stack([packed >> 4, packed & 0xf], 1).reshape(-1)[: w.numel()]
    decoded = bnb.dequantize_4bit(packed.reshape(-1, 1), state)
    assert torch.equal(decoded.reshape(-1), state.code[codes.long()] * scales.repeat_interleave(64)[: w.numel()])
    OUT.update({f"{name}.{k}": v for k, v in dict(weight=w.bfloat16() if name == "normal" else w, codes=codes, absmax=absmax, nested_absmax=nested,
                                                  offset=state.offset.reshape(1), scales=scales).items()})
    OUT["quant_map"], OUT["nested_quant_map"] = state.code, state.state2.code


def put_stored(name, w, nested=True):
    packed, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=nested, quant_type="nf4")
    OUT[f"{name}.m.weight"], OUT[f"{name}.decoded"] = packed, bnb.dequantize_4bit(packed, state)
    OUT.update({f"{name}.m.weight.{k}": v for k, v in state.as_dict(packed=True).items()})


def main(target):
    g = torch.Generator().manual_seed(16)
    normal = (torch.randn(40, 448, generator=g) * 0.03).bfloat16().float()      # 280 blocks: the second of scales is short
    outliers = normal[:8].clone()
    outliers[0, 5], outliers[2, 100], outliers[3] = 30.0, -500.0, 0
    put("normal", normal)
    put("outliers", outliers)
    put("odd", torch.randn(3, 50, generator=g))                                 # the last block is short
    put("zeros", torch.zeros(2, 64))
    put_stored("whole", torch.randn(6, 128, generator=g) * 0.1)
    put_stored("cut", torch.randn(6, 96, generator=g) * 0.1)
    put_stored("plain", torch.randn(3, 50, generator=g) * 0.1, nested=False)
    save_file({k: v.contiguous().clone() for k, v in OUT.items()}, target)
    print(len(OUT), "tensors,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("nf4.safetensors"))
