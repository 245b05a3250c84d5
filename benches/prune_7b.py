"""Prunes 8 of 32 layers of a checkpoint of 7 billion parameters, against `cp` and mergekit.

    pip install torch safetensors mergekit
    cargo build --release && python benches/prune_7b.py DIRECTORY [--lopper target/release/lopper] [--mergekit mergekit-yaml]

Writes a checkpoint of Mistral-7B's shape (random bf16 weights, 4 shards, 14.5 GB) into DIRECTORY unless it is
there, then in one run, in turn and `--rounds` times: `cp` of the files that Lopper writes, `lopper prune` without
and with the comparison of logits, and mergekit's passthrough of the same layers. With `--cold` what a program reads is taken
out of the file cache before it: that is the disk's speed, and `cp` copies the source. Every output is removed again;
DIRECTORY needs 37 GB. Prints seconds, peak resident memory (of the process, as the kernel accounts it) and the
ratio of each to `cp`, and checks that mergekit's tensors are Lopper's.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

LAYERS, HIDDEN, MLP, HEADS, KEY_VALUE, VOCAB = 32, 4096, 14336, 32, 8, 32768
DROPPED = list(range(21, 29))
SHARDS = 4


def write_model(directory):
    import safetensors.torch
    import torch

    generator = torch.Generator().manual_seed(0)
    block = (0.02 * torch.randn(1 << 25, generator=generator)).to(torch.bfloat16)

    def weight(*shape):
        # Windows into one block of random values: random enough, and fast to make.
        count = 1
        for size in shape:
            count *= size
        start = torch.randint(0, 1 << 20, (1,), generator=generator).item()
        repeats = (start + count) // block.numel() + 1
        return block.repeat(repeats)[start:start + count].reshape(shape).contiguous()

    head = HIDDEN // HEADS
    directory.mkdir(parents=True)
    names, index = [], {}
    per_shard = LAYERS // SHARDS
    total = 0
    for shard in range(SHARDS):
        tensors = {}
        if shard == 0:
            tensors["model.embed_tokens.weight"] = weight(VOCAB, HIDDEN)
        for layer in range(shard * per_shard, (shard + 1) * per_shard):
            prefix = f"model.layers.{layer}."
            for name, shape in {
                "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KEY_VALUE * head, HIDDEN),
                "self_attn.v_proj": (KEY_VALUE * head, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
                "mlp.gate_proj": (MLP, HIDDEN), "mlp.up_proj": (MLP, HIDDEN), "mlp.down_proj": (HIDDEN, MLP),
            }.items():
                tensors[f"{prefix}{name}.weight"] = weight(*shape)
            for name in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"{prefix}{name}.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
        if shard == SHARDS - 1:
            tensors["model.norm.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
            tensors["lm_head.weight"] = weight(VOCAB, HIDDEN)
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        safetensors.torch.save_file(tensors, directory / file, metadata={"format": "pt"})
        index.update({name: file for name in tensors})
        total += sum(tensor.numel() * 2 for tensor in tensors.values())
        names.append(file)
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1))
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE, "head_dim": head, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"}, indent=1))


def timed(command, **options):
    """Seconds and peak resident megabytes of a command."""
    began = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.sync()
    seconds = time.monotonic() - began
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} ended with status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def forget(*directories):
    """Takes files out of the system's file cache, so that they are read from the disk again."""
    os.sync()
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def same_tensors(ours, theirs):
    import safetensors

    def read(directory):
        found = {}
        for file in sorted(directory.glob("*.safetensors")):
            opened = safetensors.safe_open(file, "pt")
            found.update({name: opened for name in opened.keys()})
        return found

    ours, theirs = read(ours), read(theirs)
    if ours.keys() != theirs.keys():
        return f"other names: {sorted(ours.keys() ^ theirs.keys())[:4]}"
    for name, opened in ours.items():
        if not opened.get_tensor(name).equal(theirs[name].get_tensor(name)):
            return f"{name} differs"
    return "the same tensors, bit for bit"


def compare(ours, theirs):
    code = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import pathlib, prune_7b; " \
           f"print(prune_7b.same_tensors(pathlib.Path({str(ours)!r}), pathlib.Path({str(theirs)!r})))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--lopper", default="target/release/lopper")
    parser.add_argument("--mergekit", default="mergekit-yaml")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cold", action="store_true", help="read from the disk, not from the file cache; no mergekit")
    parser.add_argument("--write", action="store_true", help="only write the checkpoint")
    args = parser.parse_args()
    source, out = args.directory / "model", args.directory / "out"
    if args.write:
        return write_model(source)
    if not source.exists():
        # In a process of its own: the kernel counts a parent's memory as its children's peak.
        subprocess.run([sys.executable, __file__, args.directory, "--write"], check=True)
    drop = ",".join(map(str, DROPPED))
    kept = [(0, DROPPED[0]), (DROPPED[-1] + 1, LAYERS)]
    recipe = args.directory / "merge.yaml"
    recipe.write_text(
        "slices:\n" + "".join(
            f"- sources:\n  - model: {source}\n    layer_range: [{first}, {last}]\n" for first, last in kept)
        + "merge_method: passthrough\ndtype: bfloat16\n")
    rows = {}

    def record(name, figures):
        rows.setdefault(name, []).append(figures)
        print(f"{name:32} {figures[0]:7.1f} s {figures[1]:8.0f} MB", flush=True)

    copy = args.directory / "copy"
    if args.cold:
        for _ in range(args.rounds):
            for name, command, made in (
                ("cp of the source", ["cp", "-r", source, copy], copy),
                ("lopper prune --no-verify", [args.lopper, "prune", source, "--drop", drop, "-o", out, "--no-verify"], out),
                ("lopper prune", [args.lopper, "prune", source, "--drop", drop, "-o", out], out),
            ):
                shutil.rmtree(made, ignore_errors=True)
                forget(args.directory)
                record(name, timed(command))
                shutil.rmtree(made)
        base = min(seconds for seconds, _ in rows["cp of the source"])
        for name, figures in rows.items():
            print(f"{name:32} {min(figure[0] for figure in figures) / base:6.2f} x cp of the source")
        return
    agreed = None
    for _ in range(args.rounds):
        for name, options in (("lopper prune --no-verify", ["--no-verify"]), ("lopper prune", [])):
            shutil.rmtree(out, ignore_errors=True)
            record(name, timed([args.lopper, "prune", source, "--drop", drop, "-o", out, *options]))
        record("cp", timed(["cp", "-r", out, copy]))
        shutil.rmtree(copy)
        merged = args.directory / "merged"
        record("mergekit passthrough", timed([args.mergekit, recipe, merged, "--lazy-unpickle", "--no-copy-tokenizer"]))
        # In a process of its own, for the same reason.
        agreed = agreed or compare(out, merged)
        shutil.rmtree(merged)
        shutil.rmtree(out)
    base = min(seconds for seconds, _ in rows["cp"])
    print(f"\nbest of {args.rounds}; Lopper's and mergekit's outputs: {agreed}")
    for name, figures in rows.items():
        seconds = min(figure[0] for figure in figures)
        memory = max(figure[1] for figure in figures)
        print(f"{name:32} {seconds:7.1f} s {seconds / base:6.2f} x cp {memory:8.0f} MB")


if __name__ == "__main__":
    main()
