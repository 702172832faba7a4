"""A CVFP model as a causal language model of transformers: the native modules over batches with padding.

Its config is the config of a checkpoint, its cache what is left of the tokens that a batch has read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from cvfp.models.checkpoint import FORMAT, MODEL_TYPE, CheckpointConfig, check_format
from cvfp.models.cvfp import BEFORE, CVFPModel, read_rows
from cvfp.records.errors import InputError

# --- The config of a checkpoint as transformers holds it.


class CvfpConfig(PretrainedConfig):
    """The fields of `cvfp.models.checkpoint.CheckpointConfig`, and those of every config of transformers.

    Args:
        vocab_size: number of token ids, V.
        num_layers, num_input_tokens, context_dim, embed_dim, cell, rounds, rank, token_layers: as in
            `cvfp.records.config.ModelConfig`.
        output_bias: whether logits get a trained bias.
        use_context: False: a model without a context block.
        frozen_table: whether contexts are computed from a table of their own.
        tie_word_embeddings: the head is the embedding; anything else is refused.
        format: version of the checkpoint.

    Raises:
        InputError: a value out of its range, or another format version.
    """

    model_type = MODEL_TYPE
    attribute_map = {"hidden_size": "embed_dim", "num_hidden_layers": "num_layers"}
    keys_to_ignore_at_inference = ["cache"]

    def __init__(
        self,
        vocab_size: int = 50257,
        num_layers: int = 1,
        num_input_tokens: int = 1,
        context_dim: int = 768,
        embed_dim: int = 768,
        output_bias: bool = True,
        use_context: bool = True,
        frozen_table: bool = True,
        cell: str = "residual",
        rounds: int = 4,
        rank: int = 64,
        token_layers: bool = True,
        tie_word_embeddings: bool = True,
        format: int = FORMAT,
        **kwargs: Any,
    ) -> None:
        self.format = format
        self.vocab_size, self.embed_dim, self.context_dim = vocab_size, embed_dim, context_dim
        self.num_layers, self.num_input_tokens = num_layers, num_input_tokens
        self.output_bias, self.use_context, self.frozen_table = output_bias, use_context, frozen_table
        self.cell, self.rounds, self.rank, self.token_layers = cell, rounds, rank, token_layers
        super().__init__(**kwargs)
        self.tie_word_embeddings = tie_word_embeddings
        self.checked()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The config in a `config.json`, as in transformers. Raises `InputError` as the class does."""
        check_format(config_dict, "config.json")
        return super().from_dict(config_dict, **kwargs)

    def checked(self) -> CheckpointConfig:
        """The same as cvfp's own config. Raises `InputError` as the class does."""
        fields = {name: getattr(self, name) for name in CheckpointConfig.model_fields}
        check_format(fields, "config")
        return CheckpointConfig.parse(fields, "config")


# --- What is left of the tokens that a batch has read: a cache of constant size.


@dataclass(eq=False)
class CvfpState:
    """The cell's state and the latest n tokens of every row; a forward pass makes a new one.

    `length` counts the positions that were given, padding included, as transformers counts them.
    """

    state: Float[Tensor, "B d_s"]
    window: Int[Tensor, "B n"]
    """`BEFORE` stands for a token before the start."""
    length: int = 0

    is_compileable = False
    is_linear = (False,)
    """Transformers is to give it only what it has not read."""

    @classmethod
    def start(cls, model: CVFPModel, rows: int) -> CvfpState:
        """The cache of a batch that has read nothing."""
        state = model.read_table.new_zeros(rows, model.state_dim)
        shape = (rows, model.config.num_input_tokens)
        return cls(state, torch.full(shape, BEFORE, device=model.device))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions given so far."""
        return self.length

    def select(self, rows: Int[Tensor, " B2"]) -> CvfpState:
        """The state of these rows, in this order."""
        rows = rows.to(self.window.device)
        return CvfpState(self.state[rows], self.window[rows], self.length)


# --- The model.


INITIAL_STD = 0.02
"""Of a table that nothing was loaded into."""
IGNORED = -100
"""The label that transformers does not count."""


def _predicted(mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """Which tokens have another one before them in their row: what a loss is of."""
    return mask & (mask.cumsum(dim=1) > 1)


@dataclass
class CvfpOutput(ModelOutput):
    """`loss` in nats per label, `logits` (B, T, V), `cache`: the state after the tokens."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache: CvfpState | None = None


class CvfpForCausalLM(PreTrainedModel, GenerationMixin):
    """`model` is the native `CVFPModel`; everything is computed by its modules.

    Contexts are solved without gradients, as in phase 2: a loss trains the token block, the embedding and
    the output bias. The context block does not require gradients, and `context_table`, which it reads, is a
    buffer that stays as it is. The head is the embedding.
    """

    config_class = CvfpConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    _is_stateful = True
    """Tokens that were read cannot be taken back, so transformers refuses assisted generation."""

    def __init__(self, config: CvfpConfig) -> None:
        super().__init__(config)
        table = INITIAL_STD * torch.randn(config.vocab_size, config.embed_dim)
        self.model = config.checked().build(table)
        self._freeze_contexts()
        self.post_init()

    def _freeze_contexts(self) -> None:
        if self.model.context_block is not None:
            self.model.context_block.requires_grad_(False)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the native modules draw theirs when they are made."""

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """The model in a directory, as in transformers. Raises `InputError` when the weights are not
        those of the config."""
        # What does not fit is looked at here; transformers would draw it anew, or raise without a name.
        kwargs["ignore_mismatched_sizes"] = True
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[what]:
                first = sorted(map(str, info[what]))[0]
                raise InputError(
                    f"{model.name_or_path}: weights do not fit the config: {what.replace('_', ' ')}: {first}"
                )
        model._require_precision()
        model._freeze_contexts()  # loading has put new parameters in their place
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Embedding:
        """The trained table, as a module that shares it."""
        vocab_size, width = self.model.embedding.shape
        embedding = nn.Embedding(vocab_size, width, device="meta")
        embedding.weight = self.model.embedding
        return embedding

    def get_output_embeddings(self) -> nn.Linear:
        """The head, as a module that shares its parameters: the weight is the embedding's."""
        vocab_size, width = self.model.embedding.shape
        head = nn.Linear(width, vocab_size, bias=self.model.output_bias is not None, device="meta")
        head.weight = self.model.embedding
        if self.model.output_bias is not None:
            head.bias = self.model.output_bias
        return head

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Refused: the context block was trained on the table that is there."""
        raise InputError("the embedding of a CVFP model cannot be exchanged: its contexts depend on it")

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Refused likewise: the head is the embedding."""
        self.set_input_embeddings(new_embeddings)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        **_: Any,
    ) -> nn.Embedding:
        """The embedding where the size stays. Raises `InputError` for any other: contexts depend on it."""
        size = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        size += -size % (pad_to_multiple_of or 1)
        if size != self.config.vocab_size:
            raise InputError(
                f"a CVFP model keeps the {self.config.vocab_size} tokens it was trained with, {size} were "
                "asked for; a padding token needs no row, the attention mask takes it out"
            )
        return self.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: CvfpState | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CvfpOutput | tuple:
        """Logits of the token after each position, (B, T, V).

        Args:
            input_ids: (B, T) token ids, of the tokens that `cache` has not read.
            attention_mask: (B, T), or with the positions before: 0 at padding, wherever it is. It is taken
                out of the text: it changes no state, and its logits are those of the token before it.
            cache: the state that an earlier call gave; None: texts begin here.
            labels: (B, T): token ids, -100 where none is to be predicted; position t predicts label t + 1.
                Labels at padding count for nothing, nor does that of the first token of a row, so that the
                loss is that of the texts wherever the padding is.
            logits_to_keep: compute those of so many last positions; 0: all.

        Raises:
            InputError: ids outside the vocabulary, a row without tokens, shapes that do not fit each other,
                weights that are not float32 or float64, outputs that this model does not have.
        """
        self._refuse_outputs(self.config, output_attentions, output_hidden_states)
        if input_ids.dim() != 2 or input_ids.numel() == 0:
            raise InputError(f"input_ids is {tuple(input_ids.shape)}: it must be (batch, length), not empty")
        state = CvfpState.start(self.model, len(input_ids)) if cache is None else cache
        mask = self._mask(input_ids, attention_mask)
        self._check(input_ids, mask, state, labels, logits_to_keep)
        hidden, last, window = read_rows(self.model, input_ids, mask, state.state, state.window)
        logits = self.model.logits(hidden[:, -logits_to_keep:].flatten(0, 1)).unflatten(0, (len(hidden), -1))
        loss = None
        if labels is not None:
            labels = labels.masked_fill(~_predicted(mask).to(labels.device), IGNORED)
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        after = CvfpState(last, window, state.length + input_ids.shape[1])
        output = CvfpOutput(loss, logits, after if use_cache is not False else None)
        return output if return_dict is not False else output.to_tuple()

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Tokens that follow a prompt, as in transformers. Raises `InputError` where hidden states or
        attentions are to be returned."""
        options = self.generation_config if generation_config is None else generation_config
        asked = (kwargs.get(name) for name in ("output_attentions", "output_hidden_states"))
        self._refuse_outputs(options, *asked)
        mixin: Any = super()
        return mixin.generate(inputs, generation_config, *args, **kwargs)

    @staticmethod
    def _refuse_outputs(defaults: Any, attentions: bool | None, hidden_states: bool | None) -> None:
        """Raise `InputError` where either is asked for: by the caller, or where he says nothing, by a
        config."""
        given = {"output_attentions": attentions, "output_hidden_states": hidden_states}
        for name, asked in given.items():
            if getattr(defaults, name, None) if asked is None else asked:
                raise InputError(f"{name}: a CVFP model gives neither attentions nor hidden states")

    def _mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> Bool[Tensor, "B T"]:
        """True at tokens of `input_ids`."""
        if attention_mask is None:
            return torch.ones_like(input_ids, dtype=torch.bool)
        if attention_mask.dim() != 2:
            raise InputError(
                f"attention_mask has {attention_mask.dim()} dimensions: it must be (batch, length)"
            )
        return attention_mask[:, -input_ids.shape[1] :].to(input_ids.device) != 0

    def _check(
        self, ids: Tensor, mask: Tensor, state: CvfpState, labels: Tensor | None, logits_to_keep: int
    ) -> None:
        self._require_precision()
        if mask.shape != ids.shape:
            raise InputError(f"attention_mask is {tuple(mask.shape)} for input_ids of {tuple(ids.shape)}")
        if len(state.window) != len(ids):
            raise InputError(f"the cache has {len(state.window)} rows, input_ids {len(ids)}")
        if labels is not None and labels.shape != ids.shape:
            raise InputError(f"labels is {tuple(labels.shape)} for input_ids of {tuple(ids.shape)}")
        if labels is not None and logits_to_keep:
            raise InputError("a loss needs the logits of all positions: give no logits_to_keep with labels")
        empty = (~mask.any(dim=1)).nonzero()
        if len(empty):
            raise InputError(f"attention_mask: row {int(empty[0])} holds no token")
        low, high = (int(end) for end in torch.aminmax(ids[mask]))
        if low < 0 or high >= self.config.vocab_size:
            wrong = low if low < 0 else high
            raise InputError(
                f"token {wrong} is not in the vocabulary: 0 to {self.config.vocab_size - 1}; padding is told "
                "by an attention_mask"
            )

    def _require_precision(self) -> None:
        if self.model.embedding.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"weights are {self.model.embedding.dtype}: a CVFP model computes in torch.float32 or "
                "torch.float64 (from_pretrained(..., dtype=torch.float32))"
            )

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Whether `generate` is to make a cache of keys and values: there are none."""
        return False

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        cache: Any = None,
        attention_mask: Tensor | None = None,
        *_: Any,
        use_cache: bool | None = None,
        logits_to_keep: int = 1,
        **__: Any,
    ) -> dict[str, Any]:
        """Arguments of `forward`: of the tokens only those that the cache has not read.

        A cache of the user's own may come with all tokens, or with the new ones and the mask of all.
        """
        if cache is not None:
            given = input_ids.shape[1]
            new = given if next_sequence_length is None else next_sequence_length
            if not 0 < new <= given:
                raise InputError(
                    f"the cache has read {cache.length} positions, {given} are given: give all tokens, or "
                    "new ones and the attention_mask of all"
                )
            # A row that has ended is filled up with padding, which may have no row in the table.
            input_ids = input_ids[:, -new:].clamp(max=self.config.vocab_size - 1)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "cache": cache,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep,
        }

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], *args: Any, **options: Any
    ) -> dict[str, Any]:
        assert isinstance(outputs, CvfpOutput)
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **options)
        if outputs.cache is not None:
            model_kwargs["cache"] = outputs.cache
        return model_kwargs

    def _reorder_cache(self, cache: CvfpState, beam_idx: Int[Tensor, " B"]) -> CvfpState:
        return cache.select(beam_idx)
