#!/usr/bin/env python3
"""Writes a tiny random Qwen2-VL checkpoint with the values that quantizers stumble over.
usage: make_tiny.py FOLDER [--seed N] [--hidden N] [--inter N] [--heads N] [--kv N] [--layers N] [--vocab N]
                    [--dtype bfloat16|float16|float32] [--tied] [--shard-kib N] [--outlier X] [--faint] [--nan] [--plain]

Rows and columns of zeros, subnormals, outliers, ties, rows of equal values. --faint: the keys' matrices are subnormal as a
whole. --nan: one weight of down_proj is no number. --inter 1 makes layers of one row and of one column.
"""
import argparse
from pathlib import Path

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration


def damage(weight, outlier, generator):
    """In place: what no well-behaved matrix has. Small matrices get less of it."""
    rows, cols = weight.shape
    if min(rows, cols) < 8:
        weight[0, cols // 2] = 0
        return
    weight[rows // 3] = 0
    weight[:, cols // 2] = 0
    weight[rows // 2, : cols // 2] *= 1e-38
    weight[rows // 5, 1] = outlier
    weight[rows - 1, cols - 1] = -min(7.5, outlier / 5)
    weight[rows // 4] = torch.arange(cols) % 16 / 16 - 0.5
    weight[rows // 7] = 0.0625
    weight[:, 3] *= 8 * torch.rand(1, generator=generator)


def configuration(a):
    half = a.hidden // a.heads // 2
    time, height = half // 4, half // 4 * 3 // 2
    return Qwen2VLConfig(
        text_config=dict(
            hidden_size=a.hidden, intermediate_size=a.inter, num_hidden_layers=a.layers, num_attention_heads=a.heads,
            num_key_value_heads=a.kv, vocab_size=a.vocab, max_position_embeddings=512, tie_word_embeddings=a.tied,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
            rope_parameters=dict(rope_type="default", mrope_section=[time, height, half - time - height], rope_theta=10000.0),
        ),
        vision_config=dict(depth=1, embed_dim=32, hidden_size=a.hidden, num_heads=2, mlp_ratio=2, patch_size=4),
        vision_start_token_id=9, vision_end_token_id=10, image_token_id=12, video_token_id=13, tie_word_embeddings=a.tied,
    )


def fill(model, a):
    generator = torch.Generator().manual_seed(a.seed)
    for name, p in model.named_parameters():
        spread, middle = 0.03 if p.dim() > 1 else 0.1, 1 if "norm" in name and p.dim() == 1 else 0
        p.copy_(torch.randn(p.shape, generator=generator) * spread + middle)
        if ".layers." in name and p.dim() == 2 and not a.plain:
            damage(p, a.outlier, generator)
        if a.faint and "k_proj.weight" in name:
            p.copy_(p.float() * (2.0**-20 if p.dtype == torch.float16 else 2.0**-128))
        if a.nan and "layers.0.mlp.down_proj" in name:
            p[p.shape[0] // 2, 0] = float("nan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, value in dict(seed=1, hidden=128, inter=384, heads=2, kv=1, layers=2, vocab=320).items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("--shard-kib", type=int, default=0, help="several files of at most so much; 0: one file")
    parser.add_argument("--outlier", type=float, default=40.0)
    parser.add_argument("--faint", action="store_true")
    parser.add_argument("--nan", action="store_true")
    parser.add_argument("--plain", action="store_true", help="no damaged matrices")
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    model = Qwen2VLForConditionalGeneration(configuration(a)).to(getattr(torch, a.dtype)).eval()
    with torch.no_grad():
        fill(model, a)
    model.save_pretrained(a.folder, max_shard_size=f"{a.shard_kib}KB" if a.shard_kib else "5GB")


if __name__ == "__main__":
    main()
