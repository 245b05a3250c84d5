"""A training step (forward, backward, clipping, AdamW), of all weights or an adapter, Lopper against PyTorch, in one run.

    cargo build --release -p lopper-heal --example train_step
    python benches/train_step.py --python PYTHON_WITH_TORCH

By default the model has the shape of the pocket model (Qwen3-style, 12 layers, width 128, 4 query and 2 key/value heads
of 32, MLP 512, 640 tokens, tied head), and the batch is 64 sequences of 128 tokens; `--shape tiny` is a Llama of 12.6
million parameters with 32 x 128 tokens, `--shape mid` has Qwen2.5-0.5B's shape with 4 x 256, `--shape small`
SmolLM2-135M's with 8 x 256; `--batch` gives other texts. `--lora` trains an adapter
(r = 16 on all seven projections; PEFT on the other side). Both sides start from the same weights and
see the same batch; that they did the same work is checked by their losses. Both sides run with f32 products and with
bf16 ones (f32 weights, optimiser and sums; PyTorch through autocast), and each precision has its own ratio. Every measurement is a fresh process;
the sides take turns for a few rounds, and the figure of a side is its median. Nothing is asserted about time.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# glibc returns large blocks to the system when they are freed and takes page faults when they are needed again;
# keeping them is often the largest single gain for PyTorch's training on a CPU.
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 28)}
# Name: precision, flags, environment.
LOPPER = {"lopper, f32": ("f32", [], {}), "lopper, bf16": ("bf16", ["--bf16"], {})}
PEERS = {
    "torch": ("f32", [], {}),
    "torch, memory kept": ("f32", [], KEEP),
    "torch, oneDNN, memory kept": ("f32", ["--onednn"], KEEP),
    "torch, bf16": ("bf16", ["--autocast"], {}),
    "torch, bf16, memory kept": ("bf16", ["--autocast"], KEEP),
}
LORA_PEERS = {
    "torch": ("f32", [], {}),
    "torch, oneDNN, memory kept": ("f32", ["--onednn"], KEEP),
    "torch, autocast, memory kept": ("bf16", ["--autocast"], KEEP),
    "torch, bf16 weights, memory kept": ("bf16", ["--autocast", "--bf16-weights"], KEEP),
}
COMPILED = {
    "torch, compiled": ("f32", ["--compile"], {}),
    "torch, compiled, memory kept": ("f32", ["--compile"], KEEP),
    "torch, bf16, compiled, memory kept": ("bf16", ["--autocast", "--compile"], KEEP),
}


def measure(command, environment, threads):
    threads = {name: str(threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env={**os.environ, **threads, **quiet, **environment}, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=HERE.parent / "target/release/examples/train_step", type=pathlib.Path)
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each process")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro-tokens", type=int, help="Lopper's tokens per worker and pass; the default is the trainer's")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well; needs a C++ compiler")
    parser.add_argument("--shape", default="pocket", choices=["pocket", "tiny", "mid", "small"])
    parser.add_argument("--batch", help="texts and tokens of each, as 4x2048, or `chat`: 8 texts of 50 to 200 tokens")
    parser.add_argument("--lora", action="store_true", help="train an adapter; needs peft on PyTorch's side")
    parser.add_argument("--checkpointing", action="store_true", help="on both sides")
    parser.add_argument("--precisions", default="f32,bf16", help="of the matrix products: f32, bf16, or both")
    parser.add_argument("--only", help="peers to run, separated by semicolons, to save time")
    args = parser.parse_args()
    peers = dict(LORA_PEERS if args.lora else PEERS, **(COMPILED if args.compile else {}))
    if args.only:
        chosen = [name.strip() for name in args.only.split(";")]
        unknown = [name for name in chosen if name not in peers]
        if unknown:
            sys.exit(f"--only: no peer is called {unknown[0]!r}; there are: {'; '.join(peers)}")
        peers = {name: peers[name] for name in chosen}
    if not args.binary.exists():
        sys.exit(f"{args.binary} is missing: cargo build --release -p lopper-heal --example train_step")

    sides = {name: side for name, side in LOPPER.items() if side[0] in args.precisions.split(",")}
    sides |= {name: side for name, side in peers.items() if side[0] in args.precisions.split(",")}
    if not sides:
        sys.exit("nothing to run: --precisions is f32, bf16 or f32,bf16")
    results = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as directory:
        batch = ["--batch", args.batch] if args.batch else []
        subprocess.run([args.binary, "write", directory, "--shape", args.shape, *batch], check=True)
        counts = ["--steps", str(args.steps), "--warmup", str(args.warmup)]
        counts += [flag for flag, given in (("--lora", args.lora), ("--checkpointing", args.checkpointing)) if given]
        micro = ["--micro-tokens", str(args.micro_tokens)] if args.micro_tokens else []
        for round_ in range(args.rounds):
            for name, (_, flags, environment) in sides.items():
                if name in LOPPER:
                    command = [args.binary, "run", directory, "--workers", str(args.threads), *micro]
                else:
                    command = [args.python, HERE / "train_step_torch.py", directory, "--threads", str(args.threads)]
                results[name].append(measure([*command, *counts, *flags], environment, args.threads))
            rates = ", ".join(f"{name} {runs[-1]['tokens_per_second']:.0f}" for name, runs in results.items())
            print(f"round {round_ + 1}: {rates} tokens/s", file=sys.stderr)

    rate = {name: statistics.median(run["tokens_per_second"] for run in runs) for name, runs in results.items()}
    peak = {name: statistics.median(run["peak_mb"] or float("nan") for run in runs) for name, runs in results.items()}
    reference = results[next(iter(results))][0]["losses"]
    print(f"\n{'':36}{'tokens/s':>10}{'lowest':>10}{'highest':>10}{'peak MB':>10}{'loss differs by':>18}")
    for name, runs in results.items():
        rates = [run["tokens_per_second"] for run in runs]
        differs = max(abs(a - b) for run in runs for a, b in zip(run["losses"], reference, strict=True))
        print(f"{name:36}{rate[name]:>10.0f}{min(rates):>10.0f}{max(rates):>10.0f}{peak[name]:>10.0f}{differs:>18.1e}")
    torch = next((runs[0] for name, runs in results.items() if name not in LOPPER), None)
    if torch:
        print(f"\n{torch['versions']}; of its peak, about {torch['libraries_mb']:.0f} MB are Python and its libraries.")
    print(f"loss of {next(iter(results))}: {reference[0]:.4f} to {reference[-1]:.4f} in {len(reference)} steps")
    for precision in args.precisions.split(","):
        compare(rate, peak, {name for name, side in sides.items() if side[0] == precision}, precision)
    compare(rate, peak, set(sides), "best of either side")


def compare(rate, peak, names, label):
    """One line: the fastest of Lopper's settings against the fastest of PyTorch's."""
    ours, theirs = names & LOPPER.keys(), names - LOPPER.keys()
    if not ours or not theirs:
        return
    ours, theirs = max(ours, key=rate.get), max(theirs, key=rate.get)
    print(f"{label}: {ours} / {theirs}: {rate[ours] / rate[theirs]:.2f} x tokens/s, "
          f"{peak[ours] / peak[theirs]:.2f} x peak memory")


if __name__ == "__main__":
    main()
