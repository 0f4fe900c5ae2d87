"""Makes tests/golden/gguf.safetensors: rows of weights and what ggml's reference quantizers make of them.

  python tests/golden/make_gguf_golden.py LIBGGML_BASE.so gguf.safetensors

The library is built from the source of llama.cpp inside llama-cpp-python 0.3.36 (PyPI) without instruction sets beyond
x86-64, so that no sum is contracted. Values are decoded by gguf-py's own NumPy code, which shares nothing with ggml's.
"""

import ctypes
import sys

import gguf
import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import save_file

COLUMNS = 512
TYPES = [gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "Q4_K", "Q6_K")]


def bf16(x):
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def make_rows():
    random = np.random.default_rng(20261121)
    normal = lambda scale: random.normal(0, scale, COLUMNS).astype(np.float32)
    rows = [bf16(normal(0.02)) for _ in range(6)]
    rows += [normal(10.0**e) for e in (-30, -12, -5, -3, 0, 2, 4)]
    rows.append(np.zeros(COLUMNS, np.float32))
    rows.append(np.full(COLUMNS, 0.375, np.float32))
    rows.append(np.full(COLUMNS, -0.375, np.float32))
    rows.append(np.abs(normal(1)))
    rows.append(-np.abs(normal(1)))
    outlier = bf16(normal(0.01))
    outlier[[3, 200, 300]] = [40, -55, 9]
    rows.append(outlier)
    sparse = np.zeros(COLUMNS, np.float32)
    sparse[[0, 40, 255, 256, 511]] = [1, -2, 3e-6, -1e-38, 4]
    rows.append(sparse)
    rows.append(np.full(COLUMNS, 1e-44, np.float32) * random.integers(-3, 4, COLUMNS).astype(np.float32))
    rows.append(random.integers(-127, 128, COLUMNS).astype(np.float32) / 2)  # ties of Q8_0
    rows.append(random.integers(-16, 17, COLUMNS).astype(np.float32) / 2)  # ties of Q4_0
    rows.append(np.linspace(-1, 1, COLUMNS, dtype=np.float32))
    return np.stack(rows)


def main():
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    x = make_rows()
    tensors = {"weights": x}
    for kind in TYPES:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.zeros((x.shape[0], COLUMNS // block * size), np.uint8)
        written = ggml.ggml_quantize_chunk(int(kind), x.ctypes.data, blocks.ctypes.data, 0, x.shape[0], COLUMNS, None)
        assert written == blocks.size, (kind, written)
        tensors[kind.name] = blocks
        tensors[kind.name + ".values"] = dequantize(blocks, kind).astype(np.float32)
    save_file(tensors, sys.argv[2])


main()
