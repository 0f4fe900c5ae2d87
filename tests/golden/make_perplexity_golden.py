#!/usr/bin/env python3
"""Negative log-likelihoods of the demo's held-out text by Hugging Face transformers in float32, for tests/eval/engine_test.cpp.

usage: make_perplexity_golden.py      writes perplexity.json beside itself

Of the first conversations (tokens of the answers, up to and with <|im_end|>) and the first window of 256 tokens: how many tokens
are predicted, the sum of their negative log-likelihoods, and the largest absolute logit, which the test's tolerance is relative to.
"""
import json
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).parent
DEMO = HERE / "../../demo"
CONVERSATIONS = 3
WINDOW = 256


def main():
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(DEMO / "model", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO / "model")
    head = tokenizer("<|im_start|>assistant\n").input_ids
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    text = (DEMO / "suite/text/heldout.txt").read_text(encoding="utf8")

    @torch.inference_mode()
    def row(name, ids, predicted):
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
        losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
        return dict(id=name, tokens=len(predicted), nll=sum(losses[t - 1].item() for t in predicted), largest_logit=logits.abs().max().item())

    rows, begin = [], "<|im_start|>system\n"
    for number, talk in enumerate(text.split(begin)[1 : 1 + CONVERSATIONS]):
        ids = tokenizer(begin + talk).input_ids
        predicted = [t for k in range(len(ids)) if ids[k : k + len(head)] == head for t in range(k + len(head), ids.index(end, k + len(head)) + 1)]
        rows.append(row(f"perplexity/answers/{number:04}", ids, predicted))
    rows.append(row("perplexity/windows/0000", tokenizer(text).input_ids[:WINDOW], range(1, WINDOW)))
    (HERE / "perplexity.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
