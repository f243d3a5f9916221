"""ppo: a policy learns from what its own responses are worth, and is held to the model that it began as.

An update has three parts. `explore` lets the policy write to a buffer of prompts, and notes what it, its critic, the reference
and the scorer say of what it wrote. `appraise` makes advantages of that. `learn` passes over the buffer with clipped losses. The
equations are those of worker/ppo/equations.py, in its shapes: B texts of N tokens have T = N − 1 predictions.

Ranks share the batches of `explore` and of `learn`; all have the whole buffer, and appraise it alike. What is drawn, and in which
order texts are passed over, depends on the seed and on a text's number in the run, and not on who draws it.

transformers' Trainer makes the optimiser, the schedule and a checkpoint's files, so that they are as in the other stages. Its
loop is not used; the callbacks are told what it would tell them.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from service.specs import buffers
from service.specs.finetuning import FinetuningArguments
from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from service.specs.training import TrainingArguments
from worker import ranks
from worker.data.load import load_prompts
from worker.data.prepared import Prepared, Streamed
from worker.data.templates import TEMPLATES, stop_ids
from worker.failures import JobFailure
from worker.models import value_head
from worker.models.loading import load_tokenizer
from worker.models.reference import Reference, asked, next_token_log_probs, reference
from worker.models.reward_model import RewardModel
from worker.ppo import equations
from worker.ppo.experience import Experience, joined, texts_of
from worker.ppo.policy import Policy, first_critic, restore_critic
from worker.ppo.progress import Progress
from worker.ppo.prompts import Prompt, endless, sentence, streamed, usable
from worker.ppo.rollout import respond
from worker.rewards.opening import open_scorer
from worker.rewards.scorer import Scorer
from worker.run import Run
from worker.stages.arguments import training_arguments
from worker.stages.series import Series
from worker.stages.step import StepWork
from worker.stages.training import (
    add_template_tokens,
    begin_measuring,
    callbacks,
    draw_pictures,
    keep,
    model_to_train,
    tell_data,
    tell_model,
    tell_stream,
    where_to_begin,
)
from worker.writing.batch import Manner

Scalars = dict[str, torch.Tensor]


def ppo(work: StepWork, run: Run) -> Path:
    """Trains the step's model on its own responses and answers the folder of its last checkpoint."""
    step, fine, training = work.step, work.step.finetuning, work.step.training
    set_seed(training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    data = load_prompts(work.places, work.wanted, tokenizer)
    pool = None if isinstance(data, Streamed) else usable(data, step.generating)
    tell_data(run, work, data, None if isinstance(data, Streamed) else sentence(data, pool or ()))
    model = model_to_train(run, work, tokenizer)
    critic = first_critic(work.start, model)
    tell_model(run, work, RewardModel(model, critic))  # which is what the two are
    policy = Policy(model, critic, autocast=torch.bfloat16 if training.bf16 else None)
    measuring = begin_measuring(run, work, model, tokenizer, data)
    series = Series()
    trainer = _trainer(work, policy, tokenizer, callbacks(run, work, measuring, series), pool)
    last, over = ranks.agreed(partial(where_to_begin, run, work, trainer, measuring))
    if last is not None and over:
        keep(run, work, measuring)
        draw_pictures(run, work, measuring, last)
        return last
    judges = _judges(work, run, policy, tokenizer)
    progress = Progress() if last is None else _restored(last, trainer, policy)
    state, control, tell = trainer.state, trainer.control, trainer.callback_handler
    n_texts = buffers.n_texts(step, ranks.n_ranks())
    prompts = _prompts(data, pool, step, start=state.global_step * n_texts)
    learner = ranks.averaging(policy)

    tell.on_train_begin(trainer.args, state, control)
    if last is not None:
        trainer._load_rng_state(str(last))  # last of all: what comes before may have drawn
    while state.global_step < state.max_steps and not control.should_training_stop:
        tell.on_step_begin(trainer.args, state, control)
        batches = batches_of([*islice(prompts, n_texts)], state.global_step * n_texts, training)
        texts = explore(policy, judges, batches)
        progress = progress.having_seen(texts.scores_B)
        lesson = appraise(texts, fine, progress)
        order = (training.seed, state.global_step)
        learned, loss, grad_norm = learn(learner, trainer.optimizer, lesson, fine.ppo_epochs, training, order)
        written = _statistics(lesson)
        series.add(**learned, **written, kl_coef=torch.tensor(progress.kl_coefficient, device=policy.device))
        progress = progress.steered(float(written["kl"]), fine.ppo_target, n_texts)
        learning_rate = trainer.lr_scheduler.get_last_lr()[0]
        trainer.lr_scheduler.step()

        state.global_step += 1
        state.epoch = state.global_step * n_texts / len(pool) if pool else state.global_step / state.max_steps
        state.num_input_tokens_seen += texts.n_tokens
        tell.on_step_end(trainer.args, state, control)
        trainer.log({"loss": loss, "grad_norm": grad_norm, "learning_rate": learning_rate})
        if control.should_save:
            trainer._save_checkpoint(model, trial=None)
            folder = work.folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            if ranks.is_first():
                value_head.save(policy.critic, folder)
                progress.save(folder)
            tell.on_save(trainer.args, state, control)
    run.check()
    tell_stream(run, work, data, lambda read: f"prompts of {read.tokens} tokens in all, {read.truncated} truncated")
    keep(run, work, measuring)
    last = work.folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    draw_pictures(run, work, measuring, last)
    return last


# -- the three parts of an update --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judges:
    """All that a text is held against beside the policy, and how a response is drawn."""

    reference: Reference
    scorer: Scorer
    tokenizer: PreTrainedTokenizerBase
    manner: Manner


@dataclass(frozen=True)
class Batch:
    """Prompts that go through a model at once, and what the response to each is drawn by."""

    prompts: Sequence[Prompt]
    seeds: Sequence[tuple[int, int]]


def batches_of(prompts: Sequence[Prompt], first: int, training: TrainingArguments) -> list[Batch]:
    """`first` is the number of the first prompt among all that the run has had, from 0."""
    seeds, size = [(training.seed, first + place) for place in range(len(prompts))], training.per_device_train_batch_size
    starts = range(0, len(prompts), size)
    return [Batch(prompts[start : start + size], seeds[start : start + size]) for start in starts]


def explore(policy: Policy, judges: Judges, batches: Sequence[Batch]) -> Experience:
    """A response to each prompt, and what was said of it: of all ranks' batches."""
    own = [_explored(policy, judges, batch).to(torch.device("cpu")) for batch in ranks.own(batches)]
    return joined(ranks.gathered(own)).to(policy.device)


@torch.no_grad()
def _explored(policy: Policy, judges: Judges, batch: Batch) -> Experience:
    """Probabilities are those of the policy itself, at temperature 1 and without dropout, however the response was drawn."""
    prompts = batch.prompts
    with policy.computing():
        responses = respond(policy.model, prompts, batch.seeds, judges.manner)
    input_ids_BN, attention_mask_BN, mask_BT = texts_of(prompts, responses, judges.manner.pad_id, policy.device)
    with asked(policy.model):  # as in `learn`, or the first ratios would not be 1
        logits_BNV, values_BN = policy(input_ids_BN, attention_mask_BN)
    questions, answers = _written(prompts, responses, judges.tokenizer)
    return Experience(
        input_ids_BN=input_ids_BN,
        attention_mask_BN=attention_mask_BN,
        mask_BT=mask_BT,
        logp_BT=next_token_log_probs(logits_BNV, input_ids_BN),
        ref_logp_BT=judges.reference.log_probs(input_ids_BN, attention_mask_BN),
        entropy_BT=equations.token_entropy(logits_BNV[:, :-1]),
        values_BT=values_BN[:, :-1],
        scores_B=_finite(judges.scorer.score(input_ids_BN, attention_mask_BN, questions, answers)),
    )


@dataclass(frozen=True)
class Lesson:
    """A buffer with what each of its tokens turned out to be worth."""

    texts: Experience
    rewards_BT: torch.Tensor
    advantages_BT: torch.Tensor
    returns_BT: torch.Tensor


def appraise(texts: Experience, fine: FinetuningArguments, progress: Progress) -> Lesson:
    """Scores less the penalty, spread over the tokens by how far they surpass what the critic foresaw."""
    scores_B = progress.scores.normalised(texts.scores_B) if fine.ppo_score_norm else texts.scores_B
    kl_BT = equations.kl_penalty(texts.logp_BT, texts.ref_logp_BT, texts.mask_BT)
    rewards_BT = equations.token_rewards(scores_B, kl_BT, texts.mask_BT, progress.kl_coefficient)
    if fine.ppo_whiten_rewards:
        rewards_BT = equations.whiten(rewards_BT, texts.mask_BT, shift_mean=False)
    advantages_BT, returns_BT = equations.advantages_and_returns(rewards_BT, texts.values_BT, texts.mask_BT)
    return Lesson(texts, rewards_BT, equations.whiten(advantages_BT, texts.mask_BT), returns_BT)


def learn(
    learner: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    lesson: Lesson,
    n_passes: int,
    training: TrainingArguments,
    seed: tuple[int, ...],
) -> tuple[Scalars, float, float]:
    """n_passes over the buffer, each in another order, which is drawn by `seed`; the optimiser steps after every
    gradient_accumulation_steps batches of each rank. `learner` is the policy, or what averages its gradients over ranks.

    A step's loss is the mean over all its tokens, in however many batches they came. Answers what the losses were made of and the
    loss itself, as means over the tokens of all passes, and the last gradient's length before it was clipped.
    """
    batch_texts, n_ranks = training.per_device_train_batch_size, ranks.n_ranks()
    draw = np.random.default_rng(seed)
    sums: Scalars = {}
    grad_norm = torch.tensor(0.0)
    n_passed = 0.0
    learner.train()
    for _ in range(n_passes):
        order_B = torch.from_numpy(draw.permutation(len(lesson.texts.scores_B)))
        for rows_of_step in order_B.split(batch_texts * training.gradient_accumulation_steps * n_ranks):
            n_tokens = float(lesson.texts.mask_BT[rows_of_step].sum())
            own = ranks.own(rows_of_step.split(batch_texts))
            for number, rows in enumerate(own, start=1):
                with ranks.to_itself(learner) if number < len(own) else nullcontext():
                    loss, made_of, n_own = _losses(learner, lesson, rows)
                    (loss * n_own / n_tokens * n_ranks).backward()
                for name, scalar in ({"loss": loss} | made_of).items():
                    sums[name] = sums.get(name, torch.tensor(0.0)) + scalar.detach() * n_own
            longest = training.max_grad_norm or math.inf  # 0 leaves them
            trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
            grad_norm = torch.nn.utils.clip_grad_norm_(trained, longest)
            optimizer.step()
            optimizer.zero_grad()
            n_passed += n_tokens
    means = {name: total / n_passed for name, total in _of_all(sums).items()}
    return means, float(means.pop("loss")), float(grad_norm)


def _of_all(sums: Scalars) -> Scalars:
    """The sums of all ranks together."""
    by_rank = ranks.of_all({name: float(total) for name, total in sums.items()})
    return {name: torch.tensor(sum(of_rank[name] for of_rank in by_rank), device=total.device) for name, total in sums.items()}


def _losses(learner: torch.nn.Module, lesson: Lesson, rows_b: torch.Tensor) -> tuple[torch.Tensor, Scalars, float]:
    """(the loss of some of the texts, what it is made of, how many tokens it is a mean over)"""
    texts = lesson.texts.rows(rows_b.to(lesson.rewards_BT.device))
    T = texts.mask_BT.shape[1]
    advantages_BT, returns_BT = lesson.advantages_BT[rows_b, :T], lesson.returns_BT[rows_b, :T]
    logits_BNV, values_BN = learner(texts.input_ids_BN, texts.attention_mask_BN)
    logp_BT, values_BT = next_token_log_probs(logits_BNV, texts.input_ids_BN), values_BN[:, :-1]
    policy_loss = equations.policy_loss(logp_BT, texts.logp_BT, advantages_BT, texts.mask_BT)
    value_loss = equations.value_loss(values_BT, texts.values_BT, returns_BT, texts.mask_BT)
    loss = policy_loss + equations.VALUE_COEFFICIENT * value_loss
    made_of = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "clip_fraction": equations.clip_fraction(logp_BT, texts.logp_BT, texts.mask_BT),
        "approximate_kl": equations.approximate_kl(logp_BT, texts.logp_BT, texts.mask_BT),
    }
    return loss, made_of, float(texts.mask_BT.sum())


# -- what is told ------------------------------------------------------------------------------------------------------


def _statistics(lesson: Lesson) -> Scalars:
    """Of the buffer as it was written: nats and scores a response, nats a token for the entropy."""
    texts, mask_BT = lesson.texts, lesson.texts.mask_BT
    kl_B = equations.kl_penalty(texts.logp_BT, texts.ref_logp_BT, mask_BT).sum(1)
    rewards_B = lesson.rewards_BT.sum(1)
    return {
        "score": texts.scores_B.mean(),
        "score_std": texts.scores_B.std(correction=0),
        "reward": rewards_B.mean(),
        "reward_std": rewards_B.std(correction=0),
        "kl": kl_B.mean(),
        "entropy": equations.masked_mean(texts.entropy_BT, mask_BT),
        "returns": equations.masked_mean(lesson.returns_BT, mask_BT),
        "explained_variance": equations.explained_variance(texts.values_BT, lesson.returns_BT, mask_BT),
        "response_tokens": mask_BT.sum(1).mean(),
    }


def _finite(scores_B: torch.Tensor) -> torch.Tensor:
    if not scores_B.isfinite().all():
        worst = float(scores_B[~scores_B.isfinite()][0])
        raise JobFailure(Reason.DIVERGED, f"The score of a response became {worst}: the reward model cannot be learned from.")
    return scores_B.float()


def _written(
    prompts: Sequence[Prompt], responses: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[str], list[str]]:
    """Prompts and responses as text, without special tokens. A tokenizer may drop the space before a text that it begins with."""
    asked = tokenizer.batch_decode(prompts, skip_special_tokens=True)
    both = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    whole = tokenizer.batch_decode(both, skip_special_tokens=True)
    return asked, [text.removeprefix(prompt) for text, prompt in zip(whole, asked, strict=True)]


# -- what an update needs ----------------------------------------------------------------------------------------------


def _prompts(data: Prepared | Streamed, pool: list[Prompt] | None, step: ResolvedStep, start: int) -> Iterator[Prompt]:
    if isinstance(data, Streamed):
        return streamed(data, step.generating, start)
    assert pool is not None
    seed = step.training.seed if step.training.data_seed is None else step.training.data_seed
    return endless(pool, seed, start)


def _judges(work: StepWork, run: Run, policy: Policy, tokenizer: PreTrainedTokenizerBase) -> Judges:
    step, beside = work.step, work.companions.get("ref")
    named = None if beside is None else (beside.start, beside.step)
    frozen = reference(policy.model, work.start, step, named, tokenizer, policy.device)
    scorer = open_scorer(work, policy.model, tokenizer, policy.device, run.check)
    pad_id = tokenizer.pad_token_id
    assert isinstance(pad_id, int)  # `load_tokenizer` gives it one
    stops = stop_ids(TEMPLATES[step.data.template or "empty"], tokenizer)
    return Judges(frozen, scorer, tokenizer, Manner(step.generating, stops, pad_id))


def _trainer(
    work: StepWork,
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    told: list[TrainerCallback],
    pool: list[Prompt] | None,
) -> Trainer:
    """For its optimiser, over policy and critic; its schedule, of a step an update; its state, its callbacks and its files."""
    training = work.step.training
    trainer = Trainer(
        model=policy.model,
        args=training_arguments(training, work.folder, work.use_cpu),
        processing_class=tokenizer,
        callbacks=told,
    )
    trainer.remove_callback(PrinterCallback)
    n_updates = buffers.n_updates(work.step, len(pool or ()), ranks.n_ranks())  # a stream has max_steps: `streaming_has_an_end`
    trainer.create_optimizer(policy)
    trainer.create_scheduler(n_updates)
    trainer.state.max_steps = n_updates
    trainer.state.compute_steps(trainer.args, n_updates)
    return trainer


def _restored(folder: Path, trainer: Trainer, policy: Policy) -> Progress:
    """All that the next update depends on is as the checkpoint has it, but torch's generators."""
    trainer._load_from_checkpoint(str(folder))
    restore_critic(policy.critic, folder)
    trainer._load_optimizer_and_scheduler(str(folder))
    trainer.state = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
    return Progress.load(folder)
