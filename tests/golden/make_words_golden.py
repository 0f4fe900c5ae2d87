"""Makes tests/golden/words.safetensors: codes, zero points and scales, and the tensors that AutoAWQ and GPTQ hold of them.

  python tests/golden/make_words_golden.py words.safetensors

Packed one code at a time from the layouts' definitions (AutoAWQ awq/modules/linear/gemm.py from_linear, GPTQModel
nn_modules/qlinear pack); no code is shared with the program.
"""

import sys

import numpy as np
from safetensors.numpy import save_file

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
ROWS, COLUMNS, GROUP = 24, 64, 32


def pack(values, bits, order=None):
    """[n, m] -> words [n, m * bits / 32]."""
    per_word = 32 // bits
    words = np.zeros((values.shape[0], values.shape[1] // per_word), np.uint32)
    for n in range(values.shape[0]):
        for w in range(words.shape[1]):
            for k in range(per_word):
                place = order[k] if order else k
                words[n, w] |= np.uint32(int(values[n, w * per_word + place]) << (bits * k))
    return words.view(np.int32)


def main():
    random = np.random.default_rng(4)
    tensors = {}
    for bits in (4, 8):
        codes = random.integers(0, 2**bits, (ROWS, COLUMNS))
        zeros = random.integers(1, 2**bits, (ROWS, COLUMNS // GROUP))
        scales = random.uniform(0.001, 0.1, (ROWS, COLUMNS // GROUP)).astype(np.float16)
        order = random.permutation(COLUMNS)
        name = f"int{bits}."
        tensors[name + "codes"] = codes.astype(np.uint8)
        tensors[name + "zeros"] = zeros.astype(np.uint8)
        tensors[name + "scales"] = scales
        tensors[name + "stored_scales"] = np.ascontiguousarray(scales.T)
        tensors[name + "gptq.qweight"] = np.ascontiguousarray(pack(codes, bits).T)
        tensors[name + "gptq.qzeros"] = pack(zeros.T - 1, bits)
        tensors[name + "gptq_v2.qzeros"] = pack(zeros.T, bits)
        # with act order input i lies in group g_idx[i]
        g_idx = np.empty(COLUMNS, np.int32)
        g_idx[order] = np.arange(COLUMNS) // GROUP
        tensors[name + "g_idx"] = g_idx
        step = scales.astype(np.float32)[:, g_idx]
        tensors[name + "ordered_values"] = (codes - zeros[:, g_idx]).astype(np.float32) * step
    tensors["awq.qweight"] = pack(tensors["int4.codes"].T, 4, AWQ_ORDER)
    tensors["awq.qzeros"] = pack(tensors["int4.zeros"].T, 4, AWQ_ORDER)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, sys.argv[1])


main()
