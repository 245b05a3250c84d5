"""Trains with TRL what `lopper heal` would train: the same tokens, masks, batches, schedule and optimiser.

Written by Lopper @VERSION@; README.md says what is needed and what differs.
"""

import math
import pathlib

import torch
from datasets import load_dataset
@PEFT_IMPORT@from transformers import @IMPORTS@
from trl import SFTConfig, SFTTrainer

HERE = pathlib.Path(__file__).resolve().parent
MODEL = @MODEL@
REVISION = @REVISION@
SEED = @SEED@
WARMUP_STEPS = @WARMUP@
DECAY = @DECAY@  # the fraction of the steps, at the end, over which the learning rate falls to zero
COSINE = @COSINE@  # whether it falls in half a cosine wave; otherwise in a straight line


def rate(step, steps):
    """The factor of the learning rate at a step, counted from 0."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    falling = min(DECAY * steps, max(steps - WARMUP_STEPS, 0))
    left = max(steps - step, 0)
    if left >= falling:
        return 1.0
    return (1 - math.cos(math.pi * left / falling)) / 2 if COSINE else left / falling


class FileOrder(torch.utils.data.Sampler):
    """The order of the file in the first epoch, which is Lopper's, and another permutation in every later one."""

    def __init__(self, examples):
        self.examples, self.epoch = examples, 0

    def __iter__(self):
        order = list(range(self.examples))
        if self.epoch:
            order = torch.randperm(self.examples, generator=torch.Generator().manual_seed(SEED + self.epoch)).tolist()
        self.epoch += 1
        return iter(order)

    def __len__(self):
        return self.examples


class Trainer(SFTTrainer):
    def _get_train_sampler(self, train_dataset=None):
        return FileOrder(len(self.train_dataset if train_dataset is None else train_dataset))

    def create_scheduler(self, num_training_steps, optimizer=None):
        optimizer = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, num_training_steps))
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_decay_parameter_names(self, model):
        # The Trainer would leave norms and biases out.
        return [name for name, _ in model.named_parameters()]


def examples(name):
    """Token ids and labels; a label is -100 where a token is not learned."""
    return load_dataset("json", data_files=str(HERE / name), split="train")


def main():
    model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype=@DTYPE@@QUANTIZATION@)
    tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so any token does
    args = SFTConfig(
        output_dir=str(HERE / "checkpoints"),
        num_train_epochs=@EPOCHS@,
        per_device_train_batch_size=@MICRO@,
        gradient_accumulation_steps=@ACCUMULATION@,  # @BATCH@ examples per step on one device
        per_device_eval_batch_size=@MICRO@,
        learning_rate=@RATE@,
        optim="adamw_torch",
        adam_beta1=@BETA1@,
        adam_beta2=@BETA2@,
        adam_epsilon=@EPS@,
        weight_decay=@WEIGHT_DECAY@,
        max_grad_norm=@CLIP@,
        max_length=None,  # longer examples than @MAX_LENGTH@ tokens are not in the file
        packing=False,
        bf16=@BF16@,
        gradient_checkpointing=@CHECKPOINTING@,
        seed=SEED,
        logging_steps=1,
        report_to="none",
@EVALUATION@    )
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=examples("train.jsonl"),
@TRAINER@    )
@BEFORE@    trainer.train()
@AFTER@    trainer.save_model(str(HERE / @OUTPUT@))
    tokenizer.save_pretrained(str(HERE / @OUTPUT@))


if __name__ == "__main__":
    main()
