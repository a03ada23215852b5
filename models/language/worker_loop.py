"""The loop of every rank except the first: carry out the first rank's messages on this rank's share of the model."""

from collections.abc import Callable

from models.embedding.sentence_transformers import EmbeddingError
from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.distributed.coordinator import Add, Decided, Embed, Follower, Forget, Remove, Step
from models.language.distributed.wire import RankDesync
from models.language.embedding.model import Embedder
from models.language.load import LanguageModel


def worker_loop(
    model: LanguageModel,
    ranks: Follower,
    rows: int,
    cache_bytes: int,
    embedder: Embedder | EmbeddingError,
    all_cores: Callable[[bool], None],
) -> None:
    """Runs until the first rank disconnects. `rows` and `cache_bytes` must equal its own: evictions depend on both."""
    prefix = PrefixCache(cache_bytes)
    batch = Batch(model.model, model.vocab, model.new_cache, prefix, rows, all_cores, ranks)
    while (message := ranks.receive()) is not None:
        match message:
            case Add(number, prompt, max_tokens, stop_tokens, priority):
                stops = frozenset(stop_tokens)
                batch.add(
                    Sequence(number, prompt, max_tokens, stop_tokens=stops, number=number, priority=priority)
                )
            case Remove(number):
                batch.remove_number(number)
            case Forget():
                batch.forget_here()
            case Step():
                batch.step()
            case Embed(texts):
                if isinstance(embedder, EmbeddingError):
                    raise embedder
                embedder.embed_batch(texts, 0)  # the first rank makes the vectors
            case Decided(what):
                raise RankDesync(f"unexpected decision of the first rank about {what}")
