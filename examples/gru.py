"""A GRU as an arm of your own: `cvfp run quickstart --arms cvfp lstm examples/gru.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cvfp.arms.sequence import SequenceArm
from cvfp.models.sequence import SequenceModel, normalised
from cvfp.records.training_config import SequenceTraining


class GruLanguageModel(SequenceModel):
    """One layer of `nn.GRU` as wide as the token table."""

    has_state = True

    def __init__(self, table, output_bias=None):
        super().__init__(table, output_bias)
        width = table.shape[1]
        self.layer = nn.GRU(width, width, batch_first=True)

    @property
    def core_madds(self):
        return 6 * self.embedding.shape[1] ** 2

    def hidden(self, vectors, state, dropout=0.0):
        u, after = self.layer(F.dropout(normalised(vectors), dropout), state)
        return F.dropout(u, dropout), after.detach()

    @torch.no_grad()
    def stream(self, tokens, parallel=False):
        state = None
        for part in tokens.split(4096):
            hidden, state = self.hidden(self.read(part[None]), state)
            yield hidden[0]


def make_arm(config, vocab_size):
    """`--set own.settings.lr=0.002` and the like change its training."""
    chosen = {"lr": 1e-3, "dropout": 0.3, "num_layers": 1} | config.own.settings
    settings = SequenceTraining.parse(chosen, "own.settings")
    return SequenceArm(config, vocab_size, settings, GruLanguageModel)
