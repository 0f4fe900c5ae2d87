#!/usr/bin/env python3
"""Writes a tiny random Qwen2-VL checkpoint with the values that quantizers stumble over.
usage: make_tiny.py FOLDER [--seed N] [--hidden N] [--inter N] [--heads N] [--kv N] [--layers N] [--dtype bfloat16]

Rows and columns of zeros, subnormals, huge outliers, ties, a matrix of equal values.
"""
import argparse
from pathlib import Path

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration


def damage(weight, generator):
    """In place: what no well-behaved matrix has."""
    rows, cols = weight.shape
    weight[rows // 3] = 0
    weight[:, cols // 2] = 0
    weight[rows // 2, : cols // 2] *= 1e-38
    weight[rows // 5, 1] = 40.0
    weight[rows - 1, cols - 1] = -7.5
    weight[rows // 4] = torch.arange(cols) % 16 / 16 - 0.5
    weight[rows // 7] = 0.0625
    weight[:, 3] *= 8 * torch.rand(1, generator=generator)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, value in dict(seed=1, hidden=128, inter=384, heads=2, kv=1, layers=2, vocab=320).items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("--plain", action="store_true", help="no damaged matrices")
    a = parser.parse_args()
    config = Qwen2VLConfig(
        text_config=dict(
            hidden_size=a.hidden, intermediate_size=a.inter, num_hidden_layers=a.layers, num_attention_heads=a.heads,
            num_key_value_heads=a.kv, vocab_size=a.vocab, max_position_embeddings=512, tie_word_embeddings=a.tied,
            rope_parameters=dict(rope_type="default", mrope_section=[a.hidden // a.heads // 8, a.hidden // a.heads // 8 * 3 // 2,
                                                a.hidden // a.heads // 2 - a.hidden // a.heads // 8 - a.hidden // a.heads // 8 * 3 // 2],
                              rope_theta=10000.0),
        ),
        vision_config=dict(depth=1, embed_dim=32, hidden_size=a.hidden, num_heads=2, mlp_ratio=2, patch_size=4),
        vision_start_token_id=9, vision_end_token_id=10, image_token_id=12, video_token_id=13, tie_word_embeddings=a.tied,
    )
    torch.manual_seed(a.seed)
    generator = torch.Generator().manual_seed(a.seed)
    model = Qwen2VLForConditionalGeneration(config).to(getattr(torch, a.dtype)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.03 if p.dim() > 1 else 0.1) + (1 if "norm" in name and p.dim() == 1 else 0))
            if ".layers." in name and p.dim() == 2 and not a.plain:
                damage(p, generator)
    model.save_pretrained(a.folder)


if __name__ == "__main__":
    main()
