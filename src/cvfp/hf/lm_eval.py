"""The model `cvfp` of lm-evaluation-harness (the extra `cvfp[eval]`).

    python -m cvfp.hf.lm_eval --model cvfp --model_args pretrained=my-model --tasks arc_easy

is `lm_eval` with that model known to it. In Python, importing this module is enough for
`lm_eval.simple_evaluate(model="cvfp", model_args={"pretrained": "my-model"}, ...)`.

CVFP models know no token that begins a text. So where the harness gives nothing to go on from (rolling
log-likelihoods, empty contexts), the first token of a text is given and the others are predicted:
tokens[1:], as `cvfp eval` does. A rolling log-likelihood is one pass over the text with the state carried
on, whatever its length: no windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cvfp.data.extras import require

for _package in ("lm_eval", "accelerate", "transformers"):
    require(_package, "eval")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.registry import register_model  # noqa: E402
from lm_eval.models import huggingface  # noqa: E402

import cvfp.hf  # noqa: E402
from cvfp.records.errors import InputError  # noqa: E402
from cvfp.training.evaluation import score  # noqa: E402

HFLM: Any = huggingface.HFLM  # the decorator that registers it hides from type checkers what it is
UNBOUNDED = 1 << 30
"""Tokens of a context: a state of constant size holds any number of them."""


@register_model("cvfp")
class CvfpLM(HFLM):
    """`HFLM` for a CVFP checkpoint.

    Args:
        pretrained: a checkpoint directory, or a `CvfpForCausalLM`.
        options: those of `HFLM`; `max_length` bounds contexts and generated texts, by default nothing does.
    """

    def __init__(self, pretrained: Any, **options: Any) -> None:
        super().__init__(pretrained, backend="causal", **options)
        if self.config.model_type != cvfp.hf.CvfpConfig.model_type:
            raise InputError(f"{pretrained}: model_type is {self.config.model_type!r}, needed is 'cvfp'")

    @property
    def max_length(self) -> int:
        """The longest context with what follows it, in tokens."""
        return self._max_length or UNBOUNDED

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_: Any,
    ) -> list[int]:
        """The ids of a text; nothing is put before it."""
        ids = self.tokenizer.encode(string, add_special_tokens=False)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str | None:
        """The text of ids; None for the end of text of a tokenizer that has none."""
        return None if tokens is None else super().tok_decode(tokens, skip_special_tokens)

    def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
        """Before generation the harness would try batches of `max_length`: there is no such length."""
        return super()._detect_batch_size(requests, pos) if requests else self.max_batch_size

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The score of continuations, (nats, whether greedy); without a context, of their tokens but the
        first.

        Raises `InputError` for a continuation of one token without a context.
        """
        encoded = [((context, text), *self._pair(context, text)) for context, text in _arguments(requests)]
        return self._loglikelihood_tokens(encoded, disable_tqdm=disable_tqdm)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context:
            return self._encode_pair(context, continuation)
        ids = self.tok_encode(continuation)
        if len(ids) < 2:
            raise InputError(f"{continuation!r} is {len(ids)} token without a context: 2 are needed")
        return ids[:1], ids[1:]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Nats of tokens[1:] of every text, each from all tokens before it; 0 for a text of one token."""
        found = []
        for (text,) in _arguments(requests):
            total = self._nats_of(text)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
            found.append(total)
        return found

    def _nats_of(self, text: str) -> float:
        ids = torch.tensor(self.tok_encode(text), dtype=torch.long, device=self.device)
        if len(ids) < 2:
            return 0.0
        return -float(score(self.model.model, ids).nll.sum(dtype=np.float64))


def _arguments(requests: list[Instance]) -> list[tuple]:
    return [request.args for request in requests]


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
