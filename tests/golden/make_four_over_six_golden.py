#!/usr/bin/env python3
"""Writes four_over_six.safetensors: weights and their NVFP4 codes by four over six.  usage: make_four_over_six_golden.py [TARGET]

Two programs make the same bytes, or this fails. One is ModelOpt's: its MseCalibrator chooses (with the arithmetic of its
Triton kernel in PyTorch, since that needs a GPU) and its NVFP4QTensor exports. The other one is written here from the
paper's definition in double precision. Tensors CASE.weight (f32), CASE.mo.payload, .scales, .global, and CASE.ct.* by
compressed-tensors' conventions (a divisor in bfloat16), which has no four over six of its own: the definition alone.
"""
import sys
import types
from pathlib import Path

import numpy as np
import torch
from modelopt.torch.quantization.calib.mse import MseCalibrator
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from modelopt.torch.quantization.tensor_quant import scaled_e4m3_impl
from safetensors.torch import save_file

LEVELS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
OUT = {}


def nearest(magnitude):
    """Codes of E2M1, ties to the even code."""
    codes = torch.zeros(magnitude.shape, dtype=torch.uint8)
    for code, middle in enumerate((LEVELS[1:] + LEVELS[:-1]) / 2):
        codes += ((magnitude > middle) if code % 2 == 0 else (magnitude >= middle)).to(torch.uint8)
    return codes


def fake_quant(x, amax, global_amax):
    """static_blockwise_fp4_fake_quant with a normalizer of 256."""
    scale = scaled_e4m3_impl(amax.float() / 6.0, global_amax.float() * (448.0 / 256.0) / 6.0).reshape(-1, 1)
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    y = LEVELS[nearest(x.abs() / safe).long()] * safe * torch.where(x >= 0, 1.0, -1.0)
    return torch.where(scale == 0, torch.zeros_like(y), y)


def modelopt(w):
    blocks = w.reshape(-1, 16)
    amax, global_amax = blocks.abs().amax(-1), w.abs().amax()
    search = MseCalibrator(amax, axis=0, step_size=0.5, start_multiplier=1.0, stop_multiplier=1.5,
                           quant_func=lambda x, a: fake_quant(x, a, global_amax))
    search.collect(blocks)
    quantizer = types.SimpleNamespace(block_sizes={-1: 16, "four_over_six": True}, global_amax=global_amax,
                                      _amax=search.compute_amax())
    scales, second = NVFP4QTensor.get_weights_scaling_factor_from_quantizer(quantizer, w)
    q, _, _ = NVFP4QTensor.quantize(w.clone(), 16, scales, second)
    return q._quantized_data, scales, second.reshape(1)


def e4m3(x):
    return x.clamp(2**-9, 448).to(torch.float8_e4m3fn)


def pack(codes):
    return codes[:, 0::2] | codes[:, 1::2] << 4


def definition(w, block_scale, step):
    """block_scale(amax) -> E4M3; step(scale) -> what multiplies a code."""
    payload, scales = torch.empty(w.shape, dtype=torch.uint8), []
    for r, row in enumerate(w.reshape(w.shape[0], -1, 16)):
        for b, x in enumerate(row):
            best = None
            for stretch in (1.0, 1.5):
                scale = block_scale(x.abs().amax() * stretch)
                codes = nearest(x.abs() / step(scale))
                y = np.float64(LEVELS[codes.long()] * step(scale))
                error = np.square(np.abs(np.float64(x)) - y).sum()
                if best is None or error < best[0]:
                    best = error, scale, codes
            scales.append(best[1])
            payload[r, b * 16:b * 16 + 16] = best[2] | (x < 0).to(torch.uint8) << 3
    return pack(payload), torch.stack(scales).reshape(w.shape[0], -1)


def by_modelopt_conventions(w):
    global_amax = w.abs().amax()
    second = global_amax / (6 * 256)

    def block_scale(amax):
        return e4m3((torch.tensor(1.0) if amax == 0 else amax / 6) * 256 / (global_amax / 6))
    payload, scales = definition(w, block_scale, lambda s: s.float() * second)
    return payload, scales, second.reshape(1)


def by_compressed_tensors_conventions(w):
    divisor = (1536 * (1 / w.abs().amax()).bfloat16().float()).bfloat16().float()

    def block_scale(amax):
        scale = (divisor * (amax / 6).bfloat16().float()).clamp(max=448).to(torch.float8_e4m3fn)
        return torch.tensor(0.125).to(torch.float8_e4m3fn) if scale.float() == 0 else scale
    payload, scales = definition(w, block_scale, lambda s: s.float() / divisor)
    return payload, scales, divisor.reshape(1)


def cases():
    g = torch.Generator().manual_seed(46)
    normal = (torch.randn(12, 128, generator=g) * 0.03).bfloat16().float()
    yield "normal", normal
    outliers = normal.clone()
    outliers[0, 5], outliers[2, 100], outliers[3, :16] = 300.0, -5000.0, 0
    yield "outliers", outliers
    yield "ties", (torch.arange(-384, 384).reshape(6, 128) / 64).contiguous()
    yield "f32", torch.randn(4, 64, generator=g)


def main(target):
    for name, w in cases():
        OUT[f"{name}.weight"] = w
        ours, theirs = by_modelopt_conventions(w), modelopt(w)
        assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(ours, theirs)), name
        for tool, parts in (("mo", theirs), ("ct", by_compressed_tensors_conventions(w))):
            OUT.update({f"{name}.{tool}.{k}": v for k, v in zip(("payload", "scales", "global"), parts)})
        chosen = (ours[1].float() * ours[2] * 6 / w.reshape(w.shape[0], -1, 16).abs().amax(-1) > 1.2)
        print(f"{name}: 4 in {chosen.float().mean():.0%} of the blocks")
    save_file({k: v.contiguous().clone() for k, v in OUT.items()}, target)
    print(len(OUT), "tensors,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("four_over_six.safetensors"))
