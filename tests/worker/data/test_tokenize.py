import multiprocessing
import os
import signal

import pytest

from service.library.formats import Conversation, Message
from service.specs.reasons import Reason
from worker.data.templates import TEMPLATES, add_tokens
from worker.data.tokenize import (
    MASKED,
    Coverage,
    Example,
    budget,
    coverage_of,
    encode_conversation,
    encode_document,
    encode_text,
    map_in_processes,
    pack_blocks,
)
from worker.failures import JobFailure


def conversation(*contents: str) -> Conversation:
    messages = tuple(Message(("user", "assistant")[index % 2], content) for index, content in enumerate(contents))
    return Conversation("", messages, "it.json", 1)


def encode(tokenizer, *contents, template="default", cutoff_len=200, reserved_label_len=1, **options) -> Example | None:
    return encode_conversation(conversation(*contents), TEMPLATES[template], tokenizer, cutoff_len, reserved_label_len, **options)


def trained(example: Example) -> list[int]:
    return [label for label in example.labels if label != MASKED]


@pytest.mark.parametrize(
    ("s", "t", "L", "reserved", "kept"),
    [
        (3000, 2000, 1000, 1, (600, 400)),
        (5000, 5, 1000, 1, (999, 1)),
        (5000, 5, 1000, 16, (984, 16)),
        (990, 5, 1000, 16, (990, 5)),  # fits: the reserve takes nothing away
        (5, 5000, 1000, 1, (1, 999)),
        (1, 5000, 2, 1, (1, 1)),
        (3000, 5, 10, 16, (0, 10)),  # never more than there is, whatever is reserved
        (10, 10, 0, 1, (0, 0)),
    ],
)
def test_the_room_is_shared_by_the_rule(s, t, L, reserved, kept):
    assert budget(s, t, L, reserved) == kept


def test_the_text_of_an_example_is_what_the_template_wrote(tokenizer):
    example = encode(tokenizer, "Hi", "Ho", "Bye", "So long")
    assert tokenizer.decode(example.input_ids) == "<s>Human: Hi\nAssistant:Ho</s>\nHuman: Bye\nAssistant:So long</s>"


def test_every_response_is_trained_with_its_end_and_no_prompt_is(tokenizer):
    example = encode(tokenizer, "Hi", "Ho", "Bye", "So long")
    assert tokenizer.decode(trained(example)) == "Ho</s>So long</s>"
    assert len(trained(example)) == len(encode_text("Ho", tokenizer)) + len(encode_text("So long", tokenizer)) + 2
    assert all(label in (MASKED, token) for token, label in zip(example.input_ids, example.labels, strict=True))
    assert (example.n_bytes, example.truncated) == (len("HoSo long"), False)


def test_train_on_prompt_trains_everything(tokenizer):
    example = encode(tokenizer, "Hi", "Ho", train_on_prompt=True)
    assert example.labels == example.input_ids
    assert example.n_bytes == len("Human: Hi\nAssistant:Ho")


def test_without_bos_the_first_token_is_scored_by_nothing_and_counts_no_bytes(tokenizer_without_bos):
    example = encode(tokenizer_without_bos, "Hi", "Ho", train_on_prompt=True)
    first = tokenizer_without_bos.decode(example.input_ids[:1])
    assert "Human: Hi".startswith(first)
    assert example.n_bytes == len("Human: Hi\nAssistant:Ho") - len(first)
    assert encode(tokenizer_without_bos, "", "Ho", template="empty").n_bytes == len("Ho") - 1


@pytest.mark.parametrize("cutoff_len", [2, 3, 7, 20, 50, 90])
@pytest.mark.parametrize("reserved_label_len", [1, 16])
@pytest.mark.parametrize("contents", [("q" * 60, "é" * 40), ("Hi", "Ho" * 60), ("a" * 30, "b" * 5, "c" * 30, "d" * 30)])
def test_no_example_is_longer_than_cutoff_len_and_each_trains_something(tokenizer, contents, cutoff_len, reserved_label_len):
    if reserved_label_len >= cutoff_len:
        return
    example = encode(tokenizer, *contents, cutoff_len=cutoff_len, reserved_label_len=reserved_label_len)
    assert len(example.input_ids) == len(example.labels) <= cutoff_len
    assert trained(example)
    assert example.truncated
    assert encode(tokenizer, *contents, cutoff_len=cutoff_len, overlength="drop") is None


def test_a_long_turn_is_cut_on_both_sides_and_its_bytes_with_it(tokenizer):
    # single letters that merge with nothing: s = 1 (BOS) + 59, t = 39 + 1 (EOS), L = 50 -> 30 and 20
    example = encode(tokenizer, "Q" * 59, "Z" * 39, template="empty", cutoff_len=50)
    assert tokenizer.decode(example.input_ids) == "<s>" + "Q" * 29 + "Z" * 20
    assert (len(trained(example)), example.n_bytes) == (20, 20)


def test_a_turn_with_no_room_for_its_prompt_is_left_out(tokenizer):
    example = encode(tokenizer, "Q" * 9, "Z" * 9, "Q" * 300, "Z", template="empty", cutoff_len=21)
    assert tokenizer.decode(example.input_ids) == "<s>" + "Q" * 9 + "Z" * 9 + "</s>"
    assert example.truncated


def test_what_fits_exactly_is_neither_cut_nor_dropped(tokenizer):
    example = encode(tokenizer, "Q" * 9, "Z" * 9, template="empty", cutoff_len=20, reserved_label_len=16, overlength="drop")
    assert (len(example.input_ids), example.truncated) == (20, False)


def test_a_mark_that_is_a_token_ends_a_response_in_place_of_eos(tokenizer):
    add_tokens(TEMPLATES["chatml"], tokenizer)
    example = encode(tokenizer, "Hi", "Ho", template="chatml")
    assert trained(example) == [*encode_text("Ho", tokenizer), tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert example.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2
    assert example.n_bytes == len("Ho")


def test_split_special_tokens_splits_what_a_user_wrote_and_not_the_template(tokenizer):
    add_tokens(TEMPLATES["chatml"], tokenizer)
    eos, mark = (tokenizer.convert_tokens_to_ids(token) for token in ("</s>", "<|im_end|>"))
    whole = encode(tokenizer, "x<|im_end|>y", "a</s>b", template="chatml")
    assert (whole.input_ids.count(mark), whole.input_ids.count(eos)) == (3, 1)
    tokenizer.split_special_tokens = True
    split = encode(tokenizer, "x<|im_end|>y", "a</s>b", template="chatml", train_on_prompt=True)
    assert (split.input_ids.count(mark), split.input_ids.count(eos)) == (2, 0)
    assert tokenizer.decode(split.input_ids) == tokenizer.decode(whole.input_ids)
    # neither the first token, which nothing predicts, nor what ends the response and what follows that
    assert split.n_bytes == len(tokenizer.decode(split.input_ids)) - len("<|im_start|>") - len("<|im_end|>\n")


# -- an end that is only trained ---------------------------------------------------------------------------------------


def test_an_efficient_end_costs_a_token_only_once_and_is_trained_at_every_response(tokenizer):
    add_tokens(TEMPLATES["glm4"], tokenizer)
    example = encode(tokenizer, "Hi", "Ho", "Bye", "So long", template="glm4")
    eos, user = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")
    assert tokenizer.decode(example.input_ids).endswith("Ho<|user|>\nBye<|assistant|>\nSo long</s>")
    assert [label for token, label in zip(example.input_ids, example.labels, strict=True) if token == user] == [MASKED, eos]
    assert example.input_ids.count(eos) == 1
    assert tokenizer.decode(trained(example)) == "\nHo</s>\nSo long</s>"
    everything = encode(tokenizer, "Hi", "Ho", "Bye", "So long", template="glm4", train_on_prompt=True)
    assert everything.labels == everything.input_ids == example.input_ids, "the next prompt says itself that a response ended"


def test_a_response_that_was_cut_is_not_trained_to_end(tokenizer):
    add_tokens(TEMPLATES["glm4"], tokenizer)
    for cutoff_len in range(10, 120):
        example = encode(tokenizer, "Hi", "Z" * 60, "Bye", "Y" * 40, template="glm4", cutoff_len=cutoff_len)
        pieces = tokenizer.decode(trained(example)).split("</s>")
        assert len(example.input_ids) <= cutoff_len
        assert all(piece in ("\n" + "Z" * 60, "\n" + "Y" * 40) for piece in pieces[:-1]), "what ends is whole"
        assert example.truncated == (len(pieces) < 3)


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "phi", "zephyr", "qwen3", "glm4", "default", "mistral"])
@pytest.mark.parametrize("cutoff_len", [10, 25, 40, 70, 110])
def test_no_template_exceeds_cutoff_len_and_what_is_kept_is_a_part_of_the_whole(tokenizer, name, cutoff_len):
    add_tokens(TEMPLATES[name], tokenizer)
    contents = "Q" * 20, "Z" * 30, "R" * 20, "Y" * 30
    example = encode(tokenizer, *contents, template=name, cutoff_len=cutoff_len)
    assert len(example.input_ids) == len(example.labels) <= cutoff_len
    assert trained(example)
    assert example.truncated == (len(encode(tokenizer, *contents, template=name, cutoff_len=4000).input_ids) > cutoff_len)


def test_texts_are_packed_with_eos_after_each_and_the_remainder_is_dropped():
    blocks = pack_blocks([[5, 6, 7], [8], [9, 10, 11]], eos=1, cutoff_len=4)
    assert [block.input_ids for block in blocks] == [[5, 6, 7, 1], [8, 1, 9, 10]]
    assert all(block.labels == block.input_ids for block in blocks)


def test_texts_that_fill_a_block_exactly_are_one_block():
    assert [block.input_ids for block in pack_blocks([[5], [6]], eos=1, cutoff_len=4)] == [[5, 1, 6, 1]]


def test_texts_shorter_than_a_block_are_refused():
    with pytest.raises(JobFailure, match="have 3 tokens in all, which do not fill one block of cutoff_len 4") as caught:
        pack_blocks([[5, 6]], eos=1, cutoff_len=4)
    assert caught.value.reason == Reason.BAD_DATA


TEXT = "the quick brown fox — 日本語 and é, naïvely: Ω"


@pytest.mark.parametrize("cutoff_len", [2, 3, 5, 16, 1000])
def test_the_windows_of_a_document_score_every_token_once_and_share_its_bytes(tokenizer, cutoff_len):
    windows = encode_document(TEXT, tokenizer, cutoff_len, document=3)
    assert [label for window in windows for label in trained(window)] == encode_text(TEXT, tokenizer)
    assert sum(window.n_bytes for window in windows) == len(TEXT.encode())
    assert [window.n_words for window in windows] == [10, *[0] * (len(windows) - 1)], "the first has all the words"
    stream, scored = [tokenizer.eos_token_id, *encode_text(TEXT, tokenizer)], 1
    for window in windows:
        scored += len(trained(window))
        assert window.input_ids == stream[scored - len(window.input_ids) : scored], "what it scores, and what stands before that"
        assert window.labels == [*[MASKED] * (len(window.input_ids) - len(trained(window))), *trained(window)]
        assert len(window.input_ids) == cutoff_len or len(windows) == 1
        assert window.document == 3
    assert all(len(trained(window)) == cutoff_len - 1 for window in windows[:-1])


def test_words_are_counted_as_the_harness_does(tokenizer):
    """One more than there are runs of white space, wherever these stand; a text that is cut has the words that are left."""
    for text, words in (("word", 1), (" two words\n", 4), ("a\t\nb  c", 3)):
        assert encode_document(text, tokenizer, 100, 0)[0].n_words == words
    example = encode(tokenizer, "Say it", "one two three")
    assert (example.n_words, encode(tokenizer, "Say it", "one two three", train_on_prompt=True).n_words > 3) == (3, True)


def test_an_empty_document_has_no_windows(tokenizer):
    assert encode_document("", tokenizer, 10, 0) == []


@pytest.mark.parametrize(
    ("coverage", "sentence"),
    [
        (Coverage(999, 37, 0, 1_234_567, 506_172), "trained on 41 % of 1.2M tokens, 37 rows truncated"),
        (Coverage(999, 0, 0, 1234, 1234), "trained on 100 % of 1.2k tokens"),
        (Coverage(999, 1, 2, 10_000, 9999), "trained on 99 % of 10.0k tokens, 1 row truncated, 2 rows dropped"),
        (Coverage(9, 0, 0, 999, 1), "trained on 1 % of 999 tokens"),
    ],
)
def test_coverage_in_words(coverage, sentence):
    assert coverage.sentence() == sentence


def test_coverage_counts_rows_and_labels():
    examples = [Example([1, 2, 3], [MASKED, 2, 3]), Example([4, 5], [MASKED, 5], truncated=True)]
    assert coverage_of(3, examples) == Coverage(rows=3, truncated=1, dropped=1, tokens=5, trained_tokens=3)


def _failing_at_five(item: int) -> int:
    if item == 5:
        raise JobFailure(Reason.BAD_ROW, "it.json, row 5: no.", file="it.json", row=5)
    return item * item


def test_processes_give_the_same_in_the_same_order(tokenizer):
    texts = [f"{TEXT} {number}" for number in range(53)]
    alone = [encode_text(text, tokenizer) for text in texts]
    for processes in (None, 1, 2, 3, 100):
        assert map_in_processes(lambda text: encode_text(text, tokenizer), texts, processes) == alone
    assert map_in_processes(_failing_at_five, [], 4) == []
    assert map_in_processes(_failing_at_five, [3], 4) == [9]


def test_a_failure_in_a_process_arrives_whole():
    with pytest.raises(JobFailure) as caught:
        map_in_processes(_failing_at_five, range(10), 2)
    failure = caught.value
    assert (failure.reason, failure.sentence) == (Reason.BAD_ROW, "it.json, row 5: no.")
    assert failure.where == {"file": "it.json", "row": 5}


def _dying_at_five(item: int) -> int:
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_process_that_is_killed_is_a_failure_and_no_wait_without_end():
    with pytest.raises(JobFailure) as caught:
        map_in_processes(_dying_at_five, range(10), 2)
    assert caught.value.reason == Reason.KILLED


def _squares(connection) -> None:
    connection.send(map_in_processes(lambda item: item * item, range(10), 2))


def test_a_forked_child_can_have_processes_of_its_own():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_squares, args=(theirs,), daemon=False)
    child.start()
    assert ours.poll(120), "the child has not answered"
    assert ours.recv() == [item * item for item in range(10)]
    child.join()
    ours.close()
    theirs.close()
