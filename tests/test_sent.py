"""What a worker was sent, until all is answered."""

from __future__ import annotations

from thread_chunks._calls.blocks import Batch, Block
from thread_chunks._calls.functions import Function, Parcel
from thread_chunks._ray.sent import Sent, SentBlocks


def block_of(count):
    return Block(Function(None, Parcel(b"stored")), Batch([None] * count), 0, [()] * count)


def test_what_is_handed_over_may_come_after_the_answer_of_the_block():
    sent, block = SentBlocks(), block_of(2)
    sent.add(Sent(block, 1, {}, 0.0, []))
    assert sent.ask_back(block) is not None
    assert sent.pop(1) is not None, "the worker's last answer"
    assert sent.given_back(1).block is block, "and what another of its threads had handed over before"
    assert sent.given_back(1) is None
    assert sent.ask_back(block) is None


def test_how_far_a_dead_worker_was():
    sent, blocks = SentBlocks(), [block_of(3) for _ in range(4)]
    for number, block in enumerate(blocks, 1):
        sent.add(Sent(block, number, {}, 0.0, []))
    sent.pop(1)
    assert sent.begun((3, 1)) == {blocks[2]: 2, blocks[3]: 0}, "of the second, all had begun"
    assert sent.begun((1, 0)) == dict.fromkeys(blocks[1:], 0)
    assert sent.begun(None) == {}, "the worker could not say"
