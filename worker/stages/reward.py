"""rm: the better of two answers learns to score higher."""

from pathlib import Path

from transformers import set_seed

from worker.data.collate import PairCollator
from worker.data.load import load_pairs
from worker.models.loading import load_tokenizer
from worker.models.reward_model import RewardModel, head_to_train
from worker.run import Run
from worker.stages.arguments import training_arguments
from worker.stages.reward_trainer import RewardCollator, RewardTrainer
from worker.stages.series import Series
from worker.stages.step import StepWork
from worker.stages.training import (
    add_template_tokens,
    begin_measuring,
    callbacks,
    collator,
    fillable,
    model_to_train,
    tell_data,
    tell_model,
    tell_stream,
    train,
    train_dataset,
)


def reward(work: StepWork, run: Run) -> Path:
    """Trains the step's model and a value head on pairs of answers and answers the folder of the last checkpoint of both."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    data = load_pairs(work.places, work.wanted, tokenizer)
    tell_data(run, work, data)
    backbone = model_to_train(run, work, tokenizer)
    model = RewardModel(backbone, head_to_train(backbone, work.start))
    tell_model(run, work, model)
    measuring = begin_measuring(run, work, model, tokenizer, data)
    series = Series()
    trainer = RewardTrainer(
        series,
        model=model,
        # the language model's head scores nothing
        args=training_arguments(step.training, work.folder, work.use_cpu, leaves_some_out=True),
        train_dataset=fillable(train_dataset(data)),
        data_collator=RewardCollator(PairCollator(collator(work, tokenizer))),
        processing_class=tokenizer,
        callbacks=callbacks(run, work, measuring, series),
    )
    output = train(run, work, trainer, measuring)
    tell_stream(run, work, data)
    return output
