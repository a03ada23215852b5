"""`python -m runner.distributed.worker FD`: one of the other ranks of a model that is spread over several devices (ranks.py)."""

import gc
import logging
import os
import socket
import sys

from models.files import LocalModel
from models.language.distributed.wire import MessageSocket
from runner import logs
from runner.distributed.launch import Begin
from runner.engine import device
from runner.errors import DiptychError
from runner.process.parent import end_with_parent
from runner.sources import ModelMode, find

log = logging.getLogger("diptych.rank")


def main(arguments: list[str]) -> int:
    end_with_parent()
    logs.setup()
    wire = MessageSocket(socket.socket(fileno=int(arguments[0])))
    begin = wire.receive(Begin)
    if begin is None:  # the first rank has changed its mind
        return 0
    try:
        _serve(begin, wire)
    except (DiptychError, ValueError, ImportError, RuntimeError) as error:
        log.debug("this rank ends", exc_info=True)
        message = device.explain_import_error(error) if isinstance(error, ImportError) else str(error)
        log.error("%s", " ".join(message.split()))
        return 1
    return 0


def _serve(begin: Begin, wire: MessageSocket) -> None:
    os.environ.update(begin.environment)
    log.info("%s", device.prepare())
    local = find(begin.model).fetch(ModelMode.TEXT)
    _follow(begin, local, wire)


def _follow(begin: Begin, local: LocalModel, wire: MessageSocket) -> None:
    device.leave_torch_out()
    # MLX reads the environment as it is imported.
    from models.language.distributed.coordinator import Follower
    from models.language.load import load
    from models.language.worker_loop import worker_loop
    from runner.engine.text.embeddings import embedder_of

    ranks = Follower(begin.backend, wire)
    model = load(
        local, float32=begin.float32, kv_bits=begin.kv_bits, context=begin.context, group=ranks.group
    )
    gc.freeze()  # what has been loaded stays
    worker_loop(model, ranks, begin.rows, begin.cache_bytes, embedder_of(model, ranks), device.leave_a_core())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    # What the other ranks have computed may still be on its way to us; nobody waits for it.
    os._exit(code)
