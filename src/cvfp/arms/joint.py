"""The arm `cvfp-joint`: contexts and tokens learned together, with the token loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Int

from cvfp.arms.base import Arm, Budget, Facts, Tokens, initial_bias, initial_table, on_device
from cvfp.arms.cvfp import FittedCvfp, rank_of_contexts
from cvfp.data.embeddings import prior_of
from cvfp.metrics.cost import model_cost, training_flops
from cvfp.metrics.perplexity import perplexity_of
from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import RunConfig, derived_seed
from cvfp.records.training_config import JointConfig
from cvfp.training.devices import seeded
from cvfp.training.diagnosis import diagnose
from cvfp.training.distillation import Teachers
from cvfp.training.events import Event
from cvfp.training.joint import joint_parameters, learn_jointly, training_segments
from cvfp.training.next_token import Learned
from cvfp.training.savepoint import State


@dataclass(frozen=True)
class Lesson:
    """What a model and its teachers learn from: the training text as it came, and the texts on the device."""

    train: Tokens
    tokens: Int[torch.Tensor, " N"]
    dev: Int[torch.Tensor, " M"]
    budget: Budget


class JointArm(Arm):
    """One training of cell, output and table; contexts are computed from the table that is learned."""

    def __init__(self, config: RunConfig, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size

    def fit(self, train: Tokens, dev: Tokens, budget: Budget, seed: int) -> FittedCvfp:
        """Train to the minimum of the dev loss; with teachers these first, from other weights and in another
        order. Raises `CvfpError` when it diverges at once, `InputError` for a bad table."""
        config = self.config.joint
        lesson = Lesson(train, on_device(train, budget.device), on_device(dev, budget.device), budget)
        taught = [self.teacher(lesson, number, seed) for number in range(config.teachers)]
        teachers = None
        if taught:
            models = [model for model, _ in taught]
            segments = [training_segments(model, lesson.tokens) for model in models]
            precision = taught[0][1].precision
            teachers = Teachers(models, segments, lesson.tokens, config.distillation, precision)
            config = config.model_copy(update={"dropout": config.student_dropout, "consistency": 0.0})
        model, found = self._learned(lesson, "joint", config, seed, teachers)
        notes = {
            "training": {"seconds": found.seconds, "precision": found.precision},
            "health": diagnose(model, lesson.dev, seed).model_dump(),
        }
        if taught:
            notes["teachers"] = [
                {
                    "dev_ppl": perplexity_of(one.dev_loss),
                    "tokens_seen": one.tokens_seen,
                    "seconds": one.seconds,
                }
                for _, one in taught
            ]
        train_er = rank_of_contexts(lesson.tokens, training_segments(model, lesson.tokens), seed)
        read = sum(one.tokens_read for _, one in taught) + found.tokens_read
        return FittedCvfp(model, self._facts(model, found, read, train_er, notes))

    def teacher(self, lesson: Lesson, number: int, seed: int) -> tuple[CVFPModel, Learned]:
        """The teacher of that number of the run with that seed; one that has learned is read, not trained."""
        part, own = f"teacher-{number}", derived_seed(seed, "teacher", number)
        budget = lesson.budget
        end = budget.saves.of(f"{part}-end")
        saved = end.load(budget.device)
        if saved is not None:
            model = self._build(lesson.train, own).to(budget.device)
            model.load_state_dict(saved.tensors)
            return model, Learned(**saved.numbers)
        model, found = self._learned(lesson, part, self.config.joint, own)
        end.save(State(dict(model.state_dict()), asdict(found)))
        budget.saves.of(part).drop()
        return model, found

    def _learned(
        self, lesson: Lesson, part: str, config: JointConfig, seed: int, teachers: Teachers | None = None
    ) -> tuple[CVFPModel, Learned]:
        budget = lesson.budget
        model = self._build(lesson.train, seed).to(budget.device)

        def listen(event: Event) -> None:  # a teacher's curve is not the model's
            budget.listen(replace(event, phase=part))

        found = learn_jointly(
            model,
            lesson.tokens,
            lesson.dev,
            config,
            train_embedding=self.config.embedding.trained,
            seed=seed,
            listen=listen,
            savepoint=budget.saves.of(part),
            teachers=teachers,
        )
        return model, found

    def _build(self, train: Tokens, seed: int) -> CVFPModel:
        config = self.config
        table = initial_table(config, self.vocab_size, seed)
        bias = initial_bias(config, train, self.vocab_size)
        with seeded(derived_seed(seed, "weights"), torch.device("cpu")):
            return CVFPModel(config.shape, table, bias, frozen_table=False)

    def _facts(self, model: CVFPModel, found: Learned, read: int, train_er: float, notes: dict) -> Facts:
        """`read` are the tokens that the steps of the model and its teachers read."""
        embedding = self.config.embedding
        cost = model_cost(self.config.shape, self.vocab_size, embedding.output_bias)
        core = cost.context_madds + cost.token_madds
        prior = prior_of(embedding)
        return Facts(
            stop_reason=found.stop_reason,
            total_params=cost.total_params,
            trained_params=sum(p.numel() for p in joint_parameters(model, embedding.trained)),
            context_block_params=cost.context_block_params,
            steps=found.steps,
            tokens_seen=found.tokens_seen,
            best_epoch=found.best_epoch,
            train_er=train_er,
            train_ppl=perplexity_of(found.train_loss),
            dev_ppl=perplexity_of(found.dev_loss),
            flops=training_flops(core, cost.head_madds, read, embedding.trained),
            prior=(prior,) if prior else (),
            notes=notes,
        )
