#!/usr/bin/env python3
"""Writes observers.json: what ModelOpt's HistogramCalibrator finds on batches that the C++ test makes again."""

import json
import pathlib

import numpy as np
import torch
from modelopt.torch.quantization import tensor_quant
from modelopt.torch.quantization.calib import histogram

# 0.47 leaves out an argument of its own functions, the bias: the numbers of bits would be taken for it
histogram.scaled_e4m3 = lambda x, amax, e, m: tensor_quant.scaled_e4m3(x, amax, None, e, m)
histogram.fake_tensor_quant = lambda x, amax, bits, unsigned: tensor_quant.fake_tensor_quant(
    x, amax, None, bits, unsigned
)

CASES = [
    # name, seed, sizes of the batches, largest magnitude of each
    ("one batch", 1, [20000], [8.0]),
    ("later batches reach further", 2, [5000, 5000, 5000], [1.0, 3.7, 0.5]),
    ("one outlier", 3, [8000, 8], [2.0, 11.0]),
]
MASK = (1 << 64) - 1


def batch(seed, size, most):
    """Heavy tails: cubes of evenly spread numbers, from SplitMix64, exact in double and rounded once to f32."""
    values = []
    state = seed
    for _ in range(size):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        u = ((z >> 48) - 32768) / 32768
        values.append(u * u * u * most)
    return torch.tensor(np.array(values, dtype=np.float32))


def observe(batches, num_bits, method, **options):
    calibrator = histogram.HistogramCalibrator(num_bits=num_bits)
    for values in batches:
        calibrator.collect(values)
    return calibrator, float(calibrator.compute_amax(method, **options))


def main():
    cases = []
    for name, seed, sizes, mosts in CASES:
        batches = [batch(seed * 1000 + i, size, most) for i, (size, most) in enumerate(zip(sizes, mosts))]
        case = {"name": name, "seed": seed, "sizes": sizes, "mosts": mosts, "percentile": {}}
        for p in (90.0, 99.0, 99.9, 99.99):
            calibrator, amax = observe(batches, 8, "percentile", percentile=p)
            case["percentile"][str(p)] = amax
        counts = calibrator._calib_hist.int().tolist()
        case["bins"] = len(counts)
        case["counts"] = counts[:: max(1, len(counts) // 64)]
        case["entropy"] = observe(batches, 8, "entropy")[1]
        case["mse_int8"] = observe(batches, 8, "mse")[1]
        case["mse_e4m3"] = observe(batches, (4, 3), "mse")[1]
        cases.append(case)
    path = pathlib.Path(__file__).with_name("observers.json")
    path.write_text(json.dumps(cases, indent=1) + "\n")


main()
