#!/usr/bin/env python3
"""Writes tests/golden/text/: strings with the ids that Hugging Face tokenizers gives them, two small tokenizers of other
kinds than the demo's, and prompts by transformers' apply_chat_template.

    python3 tests/golden/make_text_golden.py

strings.bin          u32 count, then for each string u16 length and its bytes (little-endian), broken UTF-8 included
NAME.tokenizer.json  a tokenizer trained on the sentences of text_strings.py
NAME.ids.bin         for each string the first 4 bytes of the SHA-256 of its ids (int32), then 32 bytes: the SHA-256 of all
                     decodings, each with a zero byte behind it, for each string first without special tokens, then with them
chat.json            conversations and their prompts
"""

import hashlib
import itertools
import json
import pathlib
import struct

from text_strings import SENTENCES, make_strings
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(__file__).resolve().parent / "text"
COUNT, SEED = 20500, 20240229

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(tokenizer, size):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 2, trainer)
    tokenizer.decoder = decoders.ByteLevel()


def llama3_like():
    """Patterns with counts, whole words before merges, no normalizer, special tokens behind the vocabulary."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    train(tokenizer, 700)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_special_tokens([AddedToken("<|image_pad|>", lstrip=True), AddedToken("<|vision_end|>", rstrip=True)])
    tokenizer.add_tokens([AddedToken("dog", single_word=True), AddedToken("the", single_word=True, lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing("<|begin_of_text|> $A", None, [("<|begin_of_text|>", 700)])
    return json.loads(tokenizer.to_str())


def gpt2_like():
    """ByteLevel with its own pattern and a space before the text, a chain of normalizers, merges as strings, a token that is
    looked for in normalized text, and a vocabulary that lacks some bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    digits = pre_tokenizers.Digits(individual_digits=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=True)])
    train(tokenizer, 500)
    model = json.loads(tokenizer.to_str())["model"]
    unused = [t for t in "àáâãäåæçèéêëìíîïð" if not any(t in a + b for a, b in model["merges"])]
    missing = [*unused[:6], "ÿ", "þ", "ý"]
    kept = [t for t in sorted(model["vocab"], key=model["vocab"].get) if t not in missing]
    tokenizer.model = models.BPE({t: i for i, t in enumerate(kept)}, [tuple(m) for m in model["merges"]])
    tokenizer.add_tokens([AddedToken("Straße", normalized=True), AddedToken("É", normalized=True, rstrip=True)])
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_end|>"])
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"] = [" ".join(m) for m in file["model"]["merges"]]
    return file


def write_ids(name, path, strings):
    tokenizer = Tokenizer.from_file(str(path))
    encodings = tokenizer.encode_batch([s.decode("utf-8", "replace") for s in strings], add_special_tokens=False)
    digests, decodings = b"", hashlib.sha256()
    for encoding in encodings:
        ids = encoding.ids
        digests += hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).digest()[:4]
        for skip in (True, False):
            decodings.update(tokenizer.decode(ids, skip_special_tokens=skip).encode() + b"\0")
    (OUT / f"{name}.ids.bin").write_bytes(digests + decodings.digest())


def conversations():
    """Every order of up to four roles that a chat can have, with texts and pictures drawn in turn."""
    text = {"type": "text", "text": "What is this? <|im_end|>\n"}
    contents = itertools.cycle(
        [
            "Hello, wörld!\n\nline 2 ",
            [{"type": "image"}, {"type": "text", "text": "Is it red? Please answer yes or no."}],
            [text],
            [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "  Compare. "}],
            "",
            [{"type": "text", "text": "First:"}, {"type": "image"}, {"type": "text", "text": "then"}, {"type": "image"}],
            [{"type": "image"}],
            "答え：はい。",
        ]
    )
    for length in range(1, 5):
        for roles in itertools.product(("system", "user", "assistant"), repeat=length):
            if all(a != b for a, b in zip(roles, roles[1:])) and "system" not in roles[1:]:
                for _ in range(6):
                    yield [{"role": role, "content": next(contents)} for role in roles]


def write_chats():
    tokenizer = AutoTokenizer.from_pretrained(str(ROOT / "demo" / "model"))
    template = json.loads((ROOT / "demo" / "model" / "chat_template.json").read_text())["chat_template"]
    chats = []
    for messages in conversations():
        prompts = [
            tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=add)
            for add in (False, True)
        ]
        chats.append({"messages": messages, "prompt": prompts[0], "generation_prompt": prompts[1]})
    (OUT / "chat.json").write_text(json.dumps(chats, ensure_ascii=False, indent=0) + "\n")


def main():
    OUT.mkdir(exist_ok=True)
    strings = make_strings(COUNT, SEED)
    packed = b"".join(struct.pack("<H", len(s)) + s for s in strings)
    (OUT / "strings.bin").write_bytes(struct.pack("<I", len(strings)) + packed)
    for name, make in (("llama3_like", llama3_like), ("gpt2_like", gpt2_like)):
        path = OUT / f"{name}.tokenizer.json"
        path.write_text(json.dumps(make(), ensure_ascii=False, indent=0) + "\n")
        write_ids(name, path, strings)
    write_ids("demo", ROOT / "demo" / "model" / "tokenizer.json", strings)
    write_chats()


if __name__ == "__main__":
    main()
