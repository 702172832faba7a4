"""The config of a checkpoint as transformers holds it."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from cvfp.models.checkpoint import FORMAT, MODEL_TYPE, CheckpointConfig, check_format


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
        """As in transformers, of a `config.json`. Raises `InputError` as the class does."""
        check_format(config_dict, "config.json")
        return super().from_dict(config_dict, **kwargs)

    def checked(self) -> CheckpointConfig:
        """The same as cvfp's own config. Raises `InputError` as the class does."""
        fields = {name: getattr(self, name) for name in CheckpointConfig.model_fields}
        check_format(fields, "config")
        return CheckpointConfig.parse(fields, "config")
