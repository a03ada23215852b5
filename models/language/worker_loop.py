"""What every rank but the first does: the steps that the first one tells, on its own share of the model."""

from collections.abc import Callable

from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.distributed.coordinator import Add, Decided, Embed, Follower, Forget, Remove, Step
from models.language.distributed.wire import RankDesync
from models.language.embedding.model import Embedder
from models.language.embedding.sentence_transformers import EmbeddingError
from models.language.load import LanguageModel


def worker_loop(
    model: LanguageModel,
    ranks: Follower,
    rows: int,
    cache_bytes: int,
    embedder: Embedder | EmbeddingError,
    all_cores: Callable[[bool], None],
) -> None:
    """Until the first rank leaves. `rows` and `cache_bytes` as it has them: what is kept and dropped follows from both."""
    prefix = PrefixCache(cache_bytes)
    batch = Batch(model.model, model.vocab, model.new_cache, prefix, rows, all_cores, ranks)
    while (told := ranks.receive()) is not None:
        match told:
            case Add(number, prompt, max_tokens, stop_tokens):
                ends = frozenset(stop_tokens)
                batch.add(Sequence(number, prompt, max_tokens, stop_tokens=ends, number=number))
            case Remove(number):
                batch.remove_number(number)
            case Forget():
                prefix.clear()
            case Step():
                batch.step()
            case Embed(texts):
                if isinstance(embedder, EmbeddingError):
                    raise embedder
                embedder.together(texts)
            case Decided(what):
                raise RankDesync(f"the first rank decided {what!r} where nothing was to be decided")
