"""Several models distilled into one: it learns their mean probabilities beside the next tokens.

Hinton et al. 2015, at temperature 1 and on the training text. The loss of a position is

    (1 - s) * -ln p[y] - s * sum_v q[v] ln p[v]

with p the student's probabilities and q the mean of the teachers'. Teachers are fixed, so their hidden states
are computed once for the whole text; their probabilities are made again, row by row, in every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.records.schema import Precision
from cvfp.training.context_store import ContextStore
from cvfp.training.devices import computing_in, operand_dtype
from cvfp.training.evaluation import Segments
from cvfp.training.head import Head, SoftTargets


class Teachers:
    """Trained models on the text that a student learns.

    Args:
        models: of one vocabulary.
        segments: the contexts of the text by each of them, a model's after the other's.
        tokens: the text, (N,).
        share: s, the weight of their probabilities in the student's loss.
        precision: of the products with their tables.
    """

    def __init__(
        self,
        models: Sequence[CVFPModel],
        segments: Sequence[Segments],
        tokens: Int[Tensor, " N"],
        share: float,
        precision: Precision,
    ) -> None:
        self.share, self.hidden = share, []
        self.heads = [
            Head(model.embedding, model.output_bias, operand_dtype(precision, model.embedding))
            for model in models
        ]
        for model, parts in zip(models, segments, strict=True):
            # Half the memory of float32, more digits than bf16: hidden states are far below its 65,504.
            kept = torch.float16 if model.embedding.dtype == torch.float32 else model.embedding.dtype
            store = ContextStore((len(tokens), model.embedding.shape[1]), kept, tokens.device)
            with torch.no_grad(), computing_in("float32", tokens.device):
                for positions, contexts in parts:
                    store.write(int(positions[0]), model.hidden(contexts, tokens, positions).to(kept))
            self.hidden.append(store)

    def targets(self, rows: int) -> SoftTargets:
        """Room for the hidden states of so many positions."""
        rooms = [
            torch.zeros(rows, store.shape[1], dtype=store.dtype, device=store.device) for store in self.hidden
        ]
        return SoftTargets(self.heads, rooms, self.share)

    def load(self, positions: Int[Tensor, " B"], targets: SoftTargets) -> None:
        """Put the hidden states at these positions there."""
        for store, room in zip(self.hidden, targets.hidden, strict=True):
            store.take(positions, room)
