#!/usr/bin/env python3
"""Writes quant.safetensors: weights, and what compressed-tensors and ModelOpt make of them. usage: make_quant_golden.py [TARGET]

Needs torch, safetensors, compressed-tensors and nvidia-modelopt. Both tools run as they are; a weight goes in as float32,
because compressed-tensors divides in float32 on a GPU but in the weight's type on a CPU.
Tensors: CASE.weight (f32), CASE.FORMAT.payload, .scales, .global (ModelOpt's second level).
"""
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams
from modelopt.torch.export.quant_utils import QUANTIZATION_FP8, to_quantized_weight
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from safetensors.torch import save_file

OUT = {}


def cases():
    g = torch.Generator().manual_seed(20)
    normal = torch.randn(6, 256, generator=g) * 0.03
    zeros = normal.clone()
    zeros[1] = 0
    zeros[2, 128:] = 0
    zeros[3, :16] = 0
    outliers = normal.clone()
    outliers[0, 5], outliers[2, 200], outliers[4, 17] = 300.0, -5000.0, 2e30
    small = normal.clone()
    small[0] *= 1e-38
    small[1] *= 1e-42
    small[2, :128] *= 1e-36
    ties = torch.arange(-768, 768).view(6, 256) / 256 * 7.5          # many quotients lie half way between codes
    yield "normal", normal.bfloat16().float()
    yield "f32", torch.randn(3, 128, generator=g)                     # not representable in bf16
    yield "zero_rows", zeros.bfloat16().float()
    yield "all_zero", torch.zeros(2, 128)
    yield "outliers", outliers.bfloat16().float()
    yield "subnormal", small.bfloat16().float()
    yield "ties", ties
    yield "one_row", (torch.randn(1, 384, generator=g) * 0.5).bfloat16().float()


def nibbles(codes):
    """Two a byte, the even column low."""
    codes = codes.to(torch.int16) & 0xf
    return (codes[:, 0::2] | (codes[:, 1::2] << 4)).to(torch.uint8)


def compressed_tensors(case, w):
    for scale_dtype, tag in ((torch.bfloat16, "bf16"), (torch.float16, "f16"), (torch.float32, "f32")):
        for bits, group in ((8, None), (4, 128), (4, 32)):
            args = QuantizationArgs(num_bits=bits, symmetric=True, strategy="group" if group else "channel", group_size=group)
            blocks = w.view(w.shape[0], -1, group or w.shape[1])
            # observers see the weight, so the division is in the scale's type: one rounding of the quotient
            low, high = blocks.amin(-1).to(scale_dtype), blocks.amax(-1).to(scale_dtype)
            if not torch.equal(low.float(), blocks.amin(-1)) or not torch.equal(high.float(), blocks.amax(-1)):
                continue                                              # this weight is none of a checkpoint of that type
            scale, zero = calculate_qparams(low, high, args)
            codes = quantize(w, scale, None, args, dtype=torch.int8)
            name = f"{case}.int{bits}_{'group' + str(group) if group else 'channel'}_{tag}"
            OUT[name + ".scales"] = scale if group else scale.view(-1)
            OUT[name + ".payload"] = codes if bits == 8 else nibbles(codes)
            scheme = QuantizationScheme(targets=["Linear"], weights=args)
            packed = PackedQuantizationCompressor.compress({"weight": w, "weight_scale": scale}, scheme)
            assert torch.equal(unpack_from_int32(packed["weight_packed"], bits, w.shape), codes)


def clean(amax, maxbound):
    """TensorQuantizer.export_amax, which needs a calibrated module."""
    amax = torch.where(amax == 0, torch.full_like(amax, maxbound), amax)
    return amax.clamp(torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max)


def modelopt(case, w):
    scale = (clean(w.abs().amax(), 448.0) / 448).view(1)
    OUT[f"{case}.e4m3_tensor.scales"] = scale
    OUT[f"{case}.e4m3_tensor.payload"] = to_quantized_weight(w, scale, QUANTIZATION_FP8)
    for block, largest in ((16, 6 * 448.0), (32, 448.0)):
        for share, tag in ((1.0, ""), (3.7, "_shared")):              # _shared: another matrix of the group is larger
            s2 = clean(w.abs().amax() * share, 6.0) / largest
            scales, _ = NVFP4QTensor.get_weights_scaling_factor(w, block, s2)
            q, _, _ = NVFP4QTensor.quantize(w.clone(), block, scales, s2)
            name = f"{case}.nvfp4_block{block}{tag}"
            OUT[name + ".payload"], OUT[name + ".scales"], OUT[name + ".global"] = q._quantized_data, scales, s2.view(1)


def main(target):
    for case, w in cases():
        OUT[f"{case}.weight"] = w
        compressed_tensors(case, w)
        modelopt(case, w)
    save_file({k: v.contiguous().clone() for k, v in OUT.items()}, target)
    print(len(OUT), "tensors,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("quant.safetensors"))
