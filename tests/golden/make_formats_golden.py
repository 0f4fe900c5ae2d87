#!/usr/bin/env python3
"""Writes formats.bin: the values of all codes of each element format, and the codes of many numbers. usage: make_formats_golden.py [TARGET]

Needs torch and ml_dtypes. E4M3, E5M2, E8M0: torch; E2M1, E2M3, E3M2: ml_dtypes. (NF4: make_nf4_golden.py.)
A format is: name (16 bytes), number of codes, number of samples (u32 each), values (f32), samples (f32), their codes (u8).
"""
import struct
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import torch


def samples(values, generator):
    """All values, the middles between neighbours and what lies beside them, and random numbers of every size."""
    finite = np.unique(values[np.isfinite(values)].astype(np.float64))
    middles = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    near = np.concatenate([np.nextafter(middles, np.float32(-np.inf)), np.nextafter(middles, np.float32(np.inf))])
    sizes = np.exp2(generator.uniform(-18, 18, 300)) * generator.choice([-1, 1], 300)
    limits = finite[-1] * np.array([1.01, 1.03, 1.05, 1.1, 2, 1e6, -1.02, -1.07, -1e9])
    return np.concatenate([finite, middles, near, sizes, limits]).astype(np.float32)


def torch_format(name, dtype, codes=256):
    values = torch.arange(codes, dtype=torch.uint8).view(dtype).float().numpy()
    return name, values, lambda x: torch.from_numpy(x).to(dtype).view(torch.uint8).numpy()


def ml_format(name, dtype, codes):
    values = np.arange(codes, dtype=np.uint8).view(dtype).astype(np.float32)
    return name, values, lambda x: x.astype(dtype).view(np.uint8) & (codes - 1)


def formats():
    yield torch_format("e4m3", torch.float8_e4m3fn)
    yield torch_format("e5m2", torch.float8_e5m2)
    yield ml_format("e2m1", ml_dtypes.float4_e2m1fn, 16)
    yield ml_format("e2m3", ml_dtypes.float6_e2m3fn, 64)
    yield ml_format("e3m2", ml_dtypes.float6_e3m2fn, 64)
    # a scale: only its own values are encoded
    name, values, _ = torch_format("e8m0", torch.float8_e8m0fnu)
    yield name, values, None


def main(target):
    generator = np.random.default_rng(4)
    out = b""
    for name, values, encode in formats():
        x = values[:255] if encode is None else samples(values, generator)
        x = x[~((x == 0) & np.signbit(x))]
        codes = np.arange(255, dtype=np.uint8) if encode is None else encode(x)
        out += struct.pack("16sII", name.encode(), len(values), len(x))
        out += values.astype("<f4").tobytes() + x.astype("<f4").tobytes() + codes.astype(np.uint8).tobytes()
        print(name, len(values), "codes", len(x), "samples")
    Path(target).write_bytes(out)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("formats.bin"))
