"""The engine against PyTorch on the same processor: scoring, decoding, and many candidates at once.

    pip install torch transformers safetensors
    cargo build --release -p lopper-infer --example engine_speed && python benches/engine.py DIRECTORY [--only mid,tiny]

Writes two checkpoints with random weights into DIRECTORY unless they are there: `mid`, of Qwen2.5-0.5B's shape in
bf16, and `tiny`, a Llama of 12.6M parameters in f32. `--only NAME` takes any other directory in DIRECTORY that holds a
checkpoint, and also measures long texts. Runs Lopper's example `engine_speed` and transformers on
each in turn, in one run, and prints tokens per second and Lopper's as a multiple of PyTorch's. The peer's best
setting counts: f32 with oneDNN switched on (on AMD processors MKL leaves AVX-512 alone) and without, and bf16.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

MID = dict(model_type="qwen2", hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
           num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True, max_position_embeddings=32768,
           rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False, bos_token_id=0, eos_token_id=0)
TINY = dict(model_type="llama", hidden_size=320, intermediate_size=864, num_hidden_layers=8, num_attention_heads=10,
            num_key_value_heads=5, vocab_size=4096, tie_word_embeddings=True, max_position_embeddings=2048,
            rope_theta=10000.0, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0)


# Count and length of the texts of each measurement, as in `engine_speed.rs`.
LENGTHS = (("scoring1024", 2, 1024), ("scoring4096", 1, 4096), ("scoring8000", 1, 8000))
# Sequences decoded at once and new tokens of each, likewise.
DECODING = (("decode1", 1, 32), ("decode8", 8, 32), ("decode32", 32, 128), ("decode64", 64, 64), ("decode128", 128, 64))
# Settings of the peer: label, dtype, f32 products through oneDNN or not.
PEERS = {"f32": ("float32", "plain"), "onednn": ("float32", "onednn"), "bf16": ("bfloat16", "plain")}


def write(directory, config, dtype):
    import torch
    import transformers

    if (directory / "config.json").exists():
        return
    torch.manual_seed(0)
    config = dict(config)
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    model = transformers.AutoModelForCausalLM.from_config(made).to(dtype)
    model.save_pretrained(directory)


def best(calls, f):
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        f()
        times.append(time.perf_counter() - begun)
    return min(times)


def texts(count, length, vocab):
    return [[(s * 7919 + t * 104_729 + 13) % (vocab - 10) for t in range(length)] for s in range(count)]


def peer(directory, dtype, onednn, small, lengths):
    import torch
    import transformers

    if onednn:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
    vocab = model.config.vocab_size
    result = {}
    with torch.inference_mode():
        ids = torch.tensor(texts(8, 256, vocab))

        def score():
            for part in ids.split(4):
                logits = model(part, use_cache=False).logits[:, :-1].float()
                torch.log_softmax(logits, -1).gather(2, part[:, 1:, None]).sum()

        result["scoring"] = 8 * 256 / best(3, score)
        for name, count, length in LENGTHS if lengths else ():
            long = torch.tensor(texts(count, length, vocab))

            def score_long():
                for part in long.split(max(1, 2048 // length)):
                    logits = model(part, use_cache=False).logits[:, :-1]
                    for rows, targets in zip(logits.split(512, 1), part[:, 1:].split(512, 1)):
                        torch.log_softmax(rows.float(), -1).gather(2, targets[..., None]).sum()

            result[name] = count * length / best(2, score_long)
        for name, batch, new in DECODING:
            if batch >= 32 and not small:
                continue
            prompts = torch.tensor(texts(batch, 16, vocab))
            run = lambda: model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False,
                                         min_new_tokens=new, max_new_tokens=new, pad_token_id=0)
            result[name] = batch * new / best(3, run)
    print(json.dumps(result))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--example", default="target/release/examples/engine_speed")
    parser.add_argument("--only", default="mid,tiny")
    parser.add_argument("--no-candidates", action="store_true", help="leave out many candidates, which take minutes")
    parser.add_argument("--peers", default=",".join(PEERS), help="settings of PyTorch to measure")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        dtype, onednn, parts = args.peer
        return peer(args.directory, dtype, onednn == "onednn", "small" in parts, "lengths" in parts)
    import torch

    made = {"mid": (MID, torch.bfloat16), "tiny": (TINY, torch.float32)}
    for name in args.only.split(","):
        directory = args.directory / name
        if name in made:
            write(directory, *made[name])
        small = {"tiny": "small", "mid": "large"}.get(name, "small,lengths")
        rows = {}

        def run(label, command):
            out = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout
            rows[label] = json.loads(out.strip().splitlines()[-1])
            print(label, rows[label], flush=True)

        parts = "scoring,decode," + small
        run("Lopper f32", [args.example, directory, parts])
        run("Lopper bf16", [args.example, directory, parts, "bf16"])
        me = [sys.executable, __file__, directory, "--peer"]
        for peer_name in args.peers.split(","):
            run(f"PyTorch {peer_name}", [*me, *PEERS[peer_name], small])
        if not args.no_candidates:
            run("Lopper, candidates", [args.example, directory, "candidates"])
        print(f"\n{name}: best of each")
        for key in ("scoring", *(name for name, _, _ in LENGTHS + DECODING)):
            ours = max((row.get(key, 0) for label, row in rows.items() if label.startswith("Lopper")), default=0)
            theirs = max((row.get(key, 0) for label, row in rows.items() if label.startswith("PyTorch")), default=0)
            if theirs:
                print(f"{key:11} {ours:9.1f} tokens/s  {theirs:9.1f} PyTorch  {ours / theirs:5.2f} x")


if __name__ == "__main__":
    main()
