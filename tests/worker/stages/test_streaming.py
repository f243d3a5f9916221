"""A stream through the stages: its numbers told when they are known."""

from tests.worker.stages.attempts import a_job

# Twelve rows, two held out, in batches of two: the rows come round after five batches, which are two updates and a half.
TRAINING = {"max_steps": 8, "gradient_accumulation_steps": 2, "save_steps": 2, "logging_steps": 1}
STREAMED = {"streaming": True, "buffer_size": 4}


def test_how_much_was_read_is_told_when_it_is_known(host):
    attempt = host.done(a_job(data=STREAMED, training=TRAINING, measures={"names": ""}))
    before, after = attempt.events("data_loaded")
    assert "rows are streamed" in before["text"]
    assert before["data"] == {"step": "sft", "measured_split": "validation"}
    assert after["data"]["rows"] in range(8 * 4, 8 * 4 + 4)  # the trainer makes a batch ahead
    assert after["data"]["trained_tokens"] < after["data"]["tokens"]
    assert f"this attempt read {after['data']['rows']} rows of the stream, trained on" in after["text"]


def test_a_bad_row_ends_the_job_where_the_stream_comes_to_it(host):
    rows = [{"instruction": "a", "output": "b"}] * 6 + [{"instruction": "a"}]
    host.add_dataset("broken", rows)
    data = STREAMED | {"dataset": "broken", "val_size": 1, "buffer_size": 1}
    attempt = host.attempt(a_job(data=data, training={"max_steps": 9, "save_steps": 9}, measures={"names": ""}))
    assert attempt.error.where == {"file": "broken.json", "row": 7, "column": "output"}
    assert attempt.losses(), "the rows before it were trained on"


def test_the_order_is_data_seeds(host):
    def losses(**values):
        return host.done(a_job(data=STREAMED, training={"max_steps": 3, **values}, measures={"names": ""})).losses()

    assert losses(data_seed=7) == losses(data_seed=7) != losses(data_seed=8)
    assert losses(seed=42, data_seed=42) == losses(seed=42)
