#!/usr/bin/env python3
"""Writes quant.safetensors: weights, and what compressed-tensors, ModelOpt and gguf make of them. usage: make_quant_golden.py [TARGET]

Needs torch, safetensors, compressed-tensors, nvidia-modelopt and gguf. All tools run as they are.
Tensors: CASE.weight (f32), CASE.TOOL.FORMAT.DTYPE[.shared|.native].payload, .scales, .zeros, .global (the second level).
TOOL: ct, mo, gguf. DTYPE: of compressed-tensors' scales. A weight goes into compressed-tensors as float32, whose quotients
then are float32 as on a GPU; native: in its own type, in which a CPU divides. shared: another matrix is 3.7 times larger.
"""
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor
from compressed_tensors.compressors.mxfp6.base import MXFP6PackedCompressor
from compressed_tensors.compressors.mxfp6.helpers import kE2M3ToFloat, unpack_fp6_from_uint8
from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from modelopt.torch.export.quant_utils import (
    QUANTIZATION_FP8, QUANTIZATION_FP8_PC_PT, QUANTIZATION_INT4_AWQ, QUANTIZATION_INT8_WO, to_quantized_weight)
from modelopt.torch.quantization.qtensor import FP8QTensor, MXFP4QTensor, MXFP8QTensor, NVFP4QTensor
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
    yield "tiles", (torch.randn(130, 160, generator=g) * torch.rand(130, 1, generator=g)).bfloat16().float()
    yield "one_row", (torch.randn(1, 384, generator=g) * 0.5).bfloat16().float()


def nibbles(codes):
    """Two a byte, the even column low."""
    codes = codes.to(torch.int16) & 0xf
    return (codes[:, 0::2] | (codes[:, 1::2] << 4)).to(torch.uint8)


def put(name, payload, scales, zeros=None, second=None):
    for part, tensor in (("payload", payload), ("scales", scales), ("zeros", zeros), ("global", second)):
        if tensor is not None:
            OUT[f"{name}.{part}"] = tensor


def compressed_integers(case, w, dtype, tag, native, bits, group, symmetric):
    args = QuantizationArgs(num_bits=bits, symmetric=symmetric, strategy="group" if group else "channel", group_size=group)
    blocks = w.to(dtype).view(w.shape[0], -1, group or w.shape[1])
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args)
    x = w.to(dtype) if native else w
    codes = quantize(x, scale, None if symmetric else zero, args, dtype=torch.int8)
    name = f"{case}.ct.int{bits}_{'group' + str(group) if group else 'channel'}{'' if symmetric else '_asym'}.{tag}"
    put(name + (".native" if native else ""), codes if bits == 8 else nibbles(codes), scale if group else scale.view(-1),
        None if symmetric else zero if group else zero.view(-1))
    if native and symmetric:
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        packed = PackedQuantizationCompressor.compress({"weight": x, "weight_scale": scale}, scheme)
        assert torch.equal(unpack_from_int32(packed["weight_packed"], bits, w.shape), codes)


def compressed_e4m3(case, w, dtype, tag):
    x = w.to(dtype)
    for strategy, dims in (("tensor", (0, 1)), ("channel", (1,)), ("block", None)):
        args = QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy=strategy,
                                block_structure=[128, 128] if strategy == "block" else None)
        blocks = x
        if strategy == "block":
            rows, cols = -(-x.shape[0] // 128), -(-x.shape[1] // 128)
            padded = torch.zeros(rows * 128, cols * 128, dtype=dtype)
            padded[: x.shape[0], : x.shape[1]] = x
            blocks, dims = padded.view(rows, 128, cols, 128), (1, 3)
        scale, _ = calculate_qparams(blocks.amin(dims, keepdim=strategy == "channel"),
                                     blocks.amax(dims, keepdim=strategy == "channel"), args)
        codes = quantize(x, scale, None, args, dtype=torch.float8_e4m3fn)
        name = {"tensor": "e4m3_tensor", "channel": "e4m3_channel", "block": "e4m3_tile128"}[strategy]
        put(f"{case}.ct.{name}.{tag}.native", codes, scale.view(-1) if strategy != "block" else scale)


def compressed_blocks(case, w, dtype, tag):
    x = w.to(dtype)
    b = x.view(x.shape[0], -1, 16)
    args = QuantizationArgs(num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16,
                            scale_dtype=torch.float8_e4m3fn)
    second = generate_gparam(x.amin(), x.amax())
    scale, _ = calculate_qparams(b.amin(-1), b.amax(-1), args, global_scale=second)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    packed = NVFP4PackedCompressor.compress(
        {"weight": x, "weight_scale": scale, "weight_global_scale": second}, scheme)
    put(f"{case}.ct.nvfp4_block16.{tag}.native", packed["weight_packed"], packed["weight_scale"], second=second)

    b = x.view(x.shape[0], -1, 32)
    for bits, name in ((4, "mxfp4"), (6, "mxfp6_e2m3"), (8, "mxfp8")):
        args = QuantizationArgs(num_bits=bits, type="float", symmetric=True, strategy="group", group_size=32,
                                scale_dtype=torch.uint8)
        scale, _ = calculate_qparams(b.amin(-1), b.amax(-1), args)
        state = {"weight": x, "weight_scale": scale}
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        if bits == 4:
            packed = MXFP4PackedCompressor.compress(state, scheme)
            payload, scales = packed["weight_packed"], packed["weight_scale"]
        elif bits == 6:
            packed = MXFP6PackedCompressor.compress(state, scheme)
            values = unpack_fp6_from_uint8(packed["weight_packed"], *x.shape, dtype=torch.float32)
            signs = torch.signbit(quantize(x=x, scale=scale, zero_point=None, args=args)).to(torch.uint8) << 5
            payload = torch.searchsorted(kE2M3ToFloat, values.abs()).to(torch.uint8) | signs
            scales = packed["weight_scale"]
        else:
            payload = quantize(x, scale, None, args, dtype=torch.float8_e4m3fn)
            scales = (127 + torch.floor(torch.log2(scale.float()))).to(torch.uint8)
        put(f"{case}.ct.{name}.{tag}.native", payload, scales)


def compressed_tensors(case, w):
    for dtype, tag in ((torch.bfloat16, "bf16"), (torch.float16, "f16"), (torch.float32, "f32")):
        if not torch.equal(w.to(dtype).float(), w):
            continue                                                  # this weight is none of a checkpoint of that type
        if case == "tiles":
            if tag == "bf16":
                compressed_e4m3(case, w, dtype, tag)
            continue
        for bits, group in ((8, None), (4, 128), (4, 32)):
            compressed_integers(case, w, dtype, tag, False, bits, group, True)
        if case in ("ties", "all_zero", "f32"):
            continue
        for bits, group, symmetric in ((8, None, True), (8, None, False), (4, 32, True), (4, 32, False)):
            compressed_integers(case, w, dtype, tag, True, bits, group, symmetric)
        if tag == "bf16":
            compressed_e4m3(case, w, dtype, tag)
            compressed_blocks(case, w, dtype, tag)


def clean(amax, maxbound):
    """TensorQuantizer.export_amax, which needs a calibrated module."""
    amax = torch.where(amax == 0, torch.full_like(amax, maxbound), amax)
    return amax.clamp(torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max)


def modelopt_integers(case, w):
    scale = clean(w.abs().amax(1), 127.0) / 127
    put(f"{case}.mo.int8_channel.f32", to_quantized_weight(w, scale, QUANTIZATION_INT8_WO), scale)
    scale = clean(w.view(w.shape[0], -1, 32).abs().amax(2), 7.0) / 7
    packed = to_quantized_weight(w, scale, QUANTIZATION_INT4_AWQ, block_size=32).to(torch.int16)    # pairs of outputs
    codes = torch.stack([packed & 0xf, packed >> 4], 1).reshape(w.shape)
    put(f"{case}.mo.int4_group32.f32", nibbles(codes), scale)


def modelopt_e4m3(case, w):
    scale = (clean(w.abs().amax(), 448.0) / 448).view(1)
    put(f"{case}.mo.e4m3_tensor.f32", to_quantized_weight(w, scale, QUANTIZATION_FP8), scale)
    scale = clean(w.abs().amax(1), 448.0) / 448
    put(f"{case}.mo.e4m3_channel.f32", to_quantized_weight(w, scale, QUANTIZATION_FP8_PC_PT), scale)
    sizes = {-1: 128, -2: 128}
    _, scale = FP8QTensor.quantize(w, None, block_sizes=sizes)
    scale = clean(scale * 448, 448.0) / 448
    q, _ = FP8QTensor.quantize(w, scale, block_sizes=sizes)
    put(f"{case}.mo.e4m3_tile128.f32", q._quantized_data, scale)


def modelopt_blocks(case, w):
    for block, largest in ((16, 6 * 448.0), (32, 448.0)):
        for share, tag in ((1.0, ""), (3.7, ".shared")):
            s2 = clean(w.abs().amax() * share, 6.0) / largest
            scales, _ = NVFP4QTensor.get_weights_scaling_factor(w, block, s2)
            q, _, _ = NVFP4QTensor.quantize(w.clone(), block, scales, s2)
            put(f"{case}.mo.nvfp4_block{block}.f32{tag}", q._quantized_data, scales, second=s2.view(1))
    if case == "all_zero":
        return                                                        # ModelOpt fails on log2(0) in places
    q, scale = MXFP4QTensor.quantize(w, 32)
    put(f"{case}.mo.mxfp4.f32", q._quantized_data, scale.view(w.shape[0], -1))
    q, scale = MXFP8QTensor.quantize(w)
    put(f"{case}.mo.mxfp8.f32", q._quantized_data, scale)


def llama_cpp(case, w):
    for kind, name in ((gguf.GGMLQuantizationType.Q8_0, "int8_group32"), (gguf.GGMLQuantizationType.Q4_0, "int4_group32")):
        blocks = gguf.quants.quantize(w.numpy(), kind).reshape(w.shape[0], w.shape[1] // 32, -1)
        scales = torch.from_numpy(np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].copy())
        codes = torch.from_numpy(np.ascontiguousarray(blocks[..., 2:]).copy())
        if name == "int8_group32":
            payload = codes.view(torch.int8).reshape(w.shape)
        else:                                                         # 0 .. 15, a block's halves in the two nibbles
            payload = nibbles(torch.cat([codes & 0xf, codes >> 4], -1).reshape(w.shape).to(torch.int8) - 8)
        put(f"{case}.gguf.{name}.f16", payload, scales)


def main(target):
    for case, w in cases():
        OUT[f"{case}.weight"] = w
        compressed_tensors(case, w)
        modelopt_e4m3(case, w)
        if case != "tiles":
            modelopt_blocks(case, w)
        if case not in ("ties", "all_zero", "one_row", "f32", "tiles"):
            modelopt_integers(case, w)
        if case in ("normal", "zero_rows", "ties"):
            llama_cpp(case, w)
    save_file({k: v.contiguous().clone() for k, v in OUT.items()}, target)
    print(len(OUT), "tensors,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("quant.safetensors"))
