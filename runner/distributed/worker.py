"""`python -m runner.distributed.worker FD`: a rank other than 0 of a model split over several devices."""

import gc
import logging
import os
import socket
import sys

from models.files import LocalModel
from models.language.distributed.wire import MessageSocket
from runner import logs
from runner.distributed.launch import WorkerConfig
from runner.engine import device
from runner.errors import DiptychError
from runner.process.parent import die_with_parent
from runner.sources import ModelMode, find

log = logging.getLogger("diptych.rank")


def main(arguments: list[str]) -> int:
    die_with_parent()
    logs.setup()
    wire = MessageSocket(socket.socket(fileno=int(arguments[0])))
    config = wire.receive(WorkerConfig)
    if config is None:  # rank 0 gave up
        return 0
    try:
        _serve(config, wire)
    except (DiptychError, ValueError, ImportError, OSError, RuntimeError) as error:
        log.debug("this rank ends", exc_info=True)
        log.error("%s", " ".join(_explain(error).split()))
        return 1
    return 0


def _explain(error: Exception) -> str:
    if isinstance(error, ImportError):
        return device.explain_import_error(error)
    if isinstance(error, OSError) and error.strerror:  # "Too many open files" while importing, for example
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _serve(config: WorkerConfig, wire: MessageSocket) -> None:
    os.environ.update(config.environment)
    log.info("%s", device.prepare(texts=True))
    local = find(config.model).fetch(ModelMode.TEXT)
    _follow(config, local, wire)


def _follow(config: WorkerConfig, local: LocalModel, wire: MessageSocket) -> None:
    device.leave_torch_out()
    # MLX reads the environment as it is imported.
    from models.language.distributed.coordinator import Follower
    from models.language.embedding.model import embedder_of
    from models.language.load import load
    from models.language.worker_loop import worker_loop

    ranks = Follower(config.backend, wire)
    model = load(
        local, float32=config.float32, kv_bits=config.kv_bits, context=config.context, group=ranks.group
    )
    gc.freeze()  # what has been loaded stays
    embedder = embedder_of(model.model, model.folder, model.tokenizer, ranks)
    worker_loop(model, ranks, config.rows, config.cache_bytes, embedder, device.leave_a_core())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    # MLX's teardown would wait for results of other ranks that may still be on their way.
    os._exit(code)
