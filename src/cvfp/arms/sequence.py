"""The arms that are trained through time: LSTM and Transformer, with the table and bias options of CVFP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cvfp.arms.base import Arm, Budget, Facts, Fitted, Tokens, initial_bias, initial_table, on_device
from cvfp.data.embeddings import prior_of
from cvfp.metrics.cost import training_flops
from cvfp.metrics.perplexity import perplexity_of
from cvfp.models.sequence import LstmLanguageModel, SequenceModel, TransformerLanguageModel
from cvfp.records.config import RunConfig, derived_seed
from cvfp.records.training_config import SequenceTraining
from cvfp.training.devices import seeded
from cvfp.training.evaluation import Scores, score_sequence
from cvfp.training.next_token import Learned
from cvfp.training.through_time import learn_through_time, sequence_parameters

Build = Callable[[Tensor, Tensor | None], SequenceModel]
"""A model from its (V, d_e) initial table, and its (V,) initial output bias or None."""


class SequenceArm(Arm):
    """One training, end to end. Weights are drawn from a generator that the run's seed has set.

    Args:
        config: of the run; its embedding settings hold.
        settings: how long, how fast, when to stop, and in which windows.
        build: makes the model.
    """

    def __init__(self, config: RunConfig, vocab_size: int, settings: SequenceTraining, build: Build) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.settings, self.build = settings, build

    def fit(self, train: Tokens, dev: Tokens, budget: Budget, seed: int) -> FittedSequence:
        """Train to the minimum of the dev loss. Raises `CvfpError` when it diverges at once, `InputError` for
        a bad table."""
        model = self._build(train, seed).to(budget.device)
        tokens, dev_tokens = on_device(train, budget.device), on_device(dev, budget.device)
        trained = self.config.embedding.trained
        found = learn_through_time(
            model,
            tokens,
            dev_tokens,
            self.settings,
            train_embedding=trained,
            seed=seed,
            listen=budget.listen,
            savepoint=budget.saves.of("training"),
        )
        return FittedSequence(model, self._facts(model, found))

    def _build(self, train: Tokens, seed: int) -> SequenceModel:
        table = initial_table(self.config, self.vocab_size, seed)
        bias = initial_bias(self.config, train, self.vocab_size)
        with seeded(derived_seed(seed, "weights"), torch.device("cpu")):
            return self.build(table, bias)

    def _facts(self, model: SequenceModel, found: Learned) -> Facts:
        embedding = self.config.embedding
        trained = sequence_parameters(model, embedding.trained)
        head = model.vocab_size * model.embedding.shape[1]
        prior = prior_of(embedding)
        return Facts(
            stop_reason=found.stop_reason,
            total_params=sum(parameter.numel() for parameter in model.parameters()),
            trained_params=sum(parameter.numel() for parameter in trained),
            steps=found.steps,
            tokens_seen=found.tokens_seen,
            best_epoch=found.best_epoch,
            train_ppl=perplexity_of(found.train_loss),
            dev_ppl=perplexity_of(found.dev_loss),
            flops=training_flops(model.core_madds, head, found.tokens_read, embedding.trained),
            prior=(prior,) if prior else (),
            notes={"training": {"seconds": found.seconds, "precision": found.precision}},
        )


def lstm_arm(config: RunConfig, vocab_size: int) -> SequenceArm:
    """The arm `lstm`."""
    settings = config.lstm
    return SequenceArm(config, vocab_size, settings, partial(LstmLanguageModel, settings.num_layers))


def transformer_arm(config: RunConfig, vocab_size: int) -> SequenceArm:
    """The arm `transformer`."""
    settings = config.transformer
    shape = (settings.num_layers, settings.window, settings.head_dim)
    return SequenceArm(config, vocab_size, settings, partial(TransformerLanguageModel, *shape))


class FittedSequence(Fitted):
    """A trained model."""

    def __init__(self, model: SequenceModel, facts: Facts) -> None:
        self.model, self.facts = model, facts

    def score(self, tokens: Tokens) -> Scores:
        return score_sequence(self.model, on_device(tokens, self.model.device))
