"""What config.yaml takes besides torchtune's own parts: the examples, the schedule and the padding.

Written by Lopper @VERSION@.
"""

import json
import math
import pathlib

import torch

HERE = pathlib.Path(__file__).resolve().parent


class Examples(torch.utils.data.Dataset):
    """Token ids and labels of a file; a label is -100 where a token is not learned."""

    def __init__(self, tokenizer, file):
        with open(HERE / file) as lines:
            self.rows = [json.loads(line) for line in lines]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return {"tokens": row["input_ids"], "labels": row["labels"]}


class Padding:
    """Stands for the tokenizer: the examples are in tokens already, and padding is masked."""

    def __init__(self, pad_id):
        self.pad_id = pad_id


def schedule(optimizer, warmup_steps, decay, cosine, num_training_steps, last_epoch=-1):
    """Linear warm-up, a constant rate, and over the fraction `decay` of the steps, at the end, a fall to zero."""

    def rate(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        falling = min(decay * num_training_steps, max(num_training_steps - warmup_steps, 0))
        left = max(num_training_steps - step, 0)
        if left >= falling:
            return 1.0
        return (1 - math.cos(math.pi * left / falling)) / 2 if cosine else left / falling

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate, last_epoch)
