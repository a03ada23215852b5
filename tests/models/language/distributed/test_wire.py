"""Messages between ranks arrive whole, in their order, and an end is an end."""

import socket
import threading

import pytest
from msgspec import Struct, msgpack

from models.language.distributed.wire import MessageSocket, RankDesync


class Note(Struct):
    text: str


def pair() -> tuple[MessageSocket, MessageSocket]:
    ours, theirs = socket.socketpair()
    return MessageSocket(ours), MessageSocket(theirs)


def test_messages_of_any_size_arrive_in_their_order() -> None:
    ours, theirs = pair()
    notes = [Note("a"), Note("ä" * 3_000_000), Note("")]
    sending = threading.Thread(target=lambda: [ours.send(msgpack.encode(note)) for note in notes])
    sending.start()
    assert [theirs.receive(Note) for _ in notes] == notes
    sending.join()


def test_an_end_that_is_closed_says_nothing_more() -> None:
    ours, theirs = pair()
    ours.send(msgpack.encode(Note("last")))
    ours.close()
    assert theirs.receive(Note) == Note("last")
    assert theirs.receive(Note) is None


def test_a_message_that_is_cut_off_is_an_end() -> None:
    one, other = socket.socketpair()
    one.sendall(b"\x10\x00\x00\x00half")
    one.close()
    assert MessageSocket(other).receive(Note) is None


def test_nobody_listening_is_an_error() -> None:
    ours, theirs = pair()
    theirs.close()
    with pytest.raises(RankDesync, match="has closed the connection"):
        ours.send(msgpack.encode(Note("x" * 3_000_000)))
