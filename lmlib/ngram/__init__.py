"""N-gram models: the next token from the last n − 1 tokens, by counting.

Written h for the n − 1 tokens in front of w, h′ for h without its first one, c for counts, • for
any token and V for vocab_size (Chen & Goodman 1999, whose sections are given)::

    "mle"          P(w | h) = c(h w) / c(h •)                                 (§1)
    "add_k"        P(w | h) = (c(h w) + k) / (c(h •) + k V)                   (§2.1)
    "kneser_ney"   P(w | h) = max(c(h w) − D, 0) / c(h •) + γ(h) P(w | h′)    (§2.7)
                   γ(h) = D N1+(h •) / c(h •)

The last is interpolated Kneser–Ney smoothing. N1+(h •) is the number of different tokens seen
behind h. In the models of lower order, which P(w | h′) is, the counts c(h′ w) are replaced by
N1+(• h′ w), the number of different tokens seen in front of h′ w: what counts is not how often a
token was seen but in how many contexts. Below the unigrams stands P(w) = 1 / V.

In front of each sequence stand n − 1 BOS and behind it one EOS. EOS is predicted and counted, BOS
is not. So every k-gram, k ≤ n, is counted at every token of the text and its EOS, once.

>>> model = NGramModel(order=2, vocab_size=5).fit([[3, 4], [3, 3, 4]])
>>> model.count([3, 4]), model.count([3, 3]), model.prob(4, context=[3])
(2, 1, 0.6666666666666666)
>>> model(torch.tensor([[3, 4]])).shape  # as every model of lmlib: logits for what follows
torch.Size([1, 2, 5])
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmlib._checks import check_not_negative
from lmlib._inversion import by_inversion
from lmlib._token_caches import TokenCaches, read_windows
from lmlib.ngram._counts import Array, NGramCounts, token_array
from lmlib.ngram._smoothing import NGramConfig, Smoothing

__all__ = ["NGramConfig", "NGramModel", "TokenCaches"]

# How the file of `save` says what it is.
FORMAT = "lmlib n-grams 1"


class NGramModel:
    """A model of any order, in one of the smoothings of the module's head.

    Where nothing was seen behind h, Kneser–Ney takes P(w | h) = P(w | h′), and "mle", for which
    the formula says 0 / 0, takes 1 / V: what "add_k" gives there for every k.

    Args:
        order: n. A bigram model has order 2.
        vocab_size: tokens are integers in [0, vocab_size). V counts all of them, BOS too.
        smoothing: "mle", "add_k" or "kneser_ney".
        k: of "add_k"; 1 is Laplace's.
        discount: D of "kneser_ney", one number in 0 … 1 or one for each order, unigrams first. By
            default (None) each order has its own, estimated as n_1 / (n_1 + 2 n_2) with n_1 and
            n_2 the numbers of n-grams whose count is one and two (Chen & Goodman 1999, §2.6); 0.5
            where either is 0. With D = 0 for the unigrams, unseen tokens have probability 0, and
            the model is the one of ``nltk.lm.KneserNeyInterpolated``.
        bos_id, eos_id: the tokens in front of and behind each sequence, see the module's head.
        pad_id: not used here; told to those who pad.

    Attributes:
        config: the arguments.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    def __init__(
        self,
        order: int,
        vocab_size: int,
        *,
        smoothing: str = "mle",
        k: float = 1.0,
        discount: float | Sequence[float] | None = None,
        bos_id: int = 1,
        eos_id: int = 2,
        pad_id: int = 0,
    ) -> None:
        if isinstance(discount, Sequence):
            discount = tuple(discount)
        self.config = NGramConfig(order, vocab_size, smoothing, k, discount, bos_id, eos_id, pad_id)
        self._counts = NGramCounts(order, vocab_size, bos_id, eos_id)
        self._smoothing: Smoothing | None = None

    def fit(self, sequences: Iterable[Any]) -> NGramModel:
        """Count a text, in place of what was counted before.

        Args:
            sequences: each a list, array or tensor (n,) of token ids, without BOS and EOS; an
                empty one counts as an EOS right behind the BOS.

        Returns:
            the model itself.

        Raises:
            TypeError, ValueError: no sequences, not integers, outside the vocabulary, BOS or EOS
                among them.
        """
        config = self.config  # counts anew: the old ones may be shared, see `replace`
        counts = NGramCounts(config.order, config.vocab_size, config.bos_id, config.eos_id)
        counts.fit(sequences)
        return self._take(counts)

    def replace(self, **changes: Any) -> NGramModel:
        """A model with other arguments, on the same counts: as if fitted anew to the same text.

        Args:
            changes: arguments to differ, e.g. ``smoothing="add_k"``. ``order`` may be lowered.

        Raises:
            TypeError, ValueError: nothing was counted yet, a value is not allowed, or the counts
                do not serve it.
        """
        self._fitted()
        fixed = {"vocab_size", "bos_id", "eos_id"} & set(changes)
        if fixed:
            raise ValueError(f"changes must leave {sorted(fixed)} as the counts have them")
        model = type(self)(**{**dataclasses.asdict(self.config), **changes})
        if model.config.order > self.config.order:
            raise ValueError(
                f"order must be at most {self.config.order}, which was counted, "
                f"got {model.config.order}"
            )
        return model._take(self._counts.shortened(model.config.order))

    def _take(self, counts: NGramCounts) -> NGramModel:
        self._counts, self._smoothing = counts, Smoothing(self.config, counts)
        return self

    @property
    def discounts(self) -> list[float]:
        """D of each order, unigrams first; empty with other smoothings than "kneser_ney"."""
        return list(self._fitted().discounts)

    @property
    def num_ngrams(self) -> list[int]:
        """How many different k-grams were seen, k = 1 … order."""
        return [len(keys) for keys in self._fitted().counts.keys]

    @property
    def num_bytes(self) -> int:
        """The memory that the counts take."""
        tables = self._fitted().counts
        arrays = [*tables.keys, *tables.counts, *tables.continuations, *tables.starts]
        return sum(array.nbytes for array in [*arrays, *self._fitted().totals])

    def count(self, ngram: Sequence[int]) -> int:
        """c(g): how often these 1 … order tokens were seen, the last of them being predicted.

        BOS may stand in front: ``count([bos_id, w])`` is how many sequences begin with w.
        """
        return self._look_up(ngram, self._fitted().counts.counts)

    def continuation_count(self, ngram: Sequence[int]) -> int:
        """N1+(• g): how many different tokens were seen in front of these 1 … order − 1."""
        return self._look_up(ngram, self._fitted().counts.continuations)

    def followers(self, context: Sequence[int]) -> dict[int, int]:
        """c(h w) for every w seen behind these 0 … order − 1 tokens h, the most frequent first.

        They add up to c(h •), and there are N1+(h •) of them.
        """
        tables, longest = self._fitted().counts, self.config.order - 1
        tokens = token_array("context", context, self.config.vocab_size)
        if len(tokens) > longest:
            raise ValueError(f"context must have 0 to {longest} tokens, got {len(tokens)}")
        number = tables.context_numbers(tokens[None])[-1]
        if number[0] < 0:
            return {}
        found, _ = tables.children(len(tokens) + 1, number)
        found = found[np.argsort(-tables.counts[len(tokens)][found], kind="stable")]
        followers = tables.keys[len(tokens)][found] % self.config.vocab_size
        return dict(
            zip(followers.tolist(), tables.counts[len(tokens)][found].tolist(), strict=True)
        )

    def ngrams(self, k: int) -> tuple[Array, Array]:
        """Every k-gram seen, k = 1 … order: the tokens (M_k, k) int64, the counts (M_k,) int32.

        They are sorted by their tokens, the first one first, BOS behind all others.
        """
        counts = self._fitted().counts
        if not 1 <= k <= self.config.order:
            raise ValueError(f"k must lie in 1 … {self.config.order}, got {k}")
        return counts.tokens(k), counts.counts[k - 1].copy()

    def _look_up(self, ngram: Sequence[int], tables: list[Array]) -> int:
        tokens = token_array("ngram", ngram, self.config.vocab_size)
        if not 1 <= len(tokens) <= len(tables):
            raise ValueError(f"ngram must have 1 to {len(tables)} tokens, got {len(tokens)}")
        context = self._counts.context_numbers(tokens[None, :-1])[-1]
        number = int(self._counts.find(len(tokens), context, tokens[-1:])[0])
        return 0 if number < 0 else int(tables[len(tokens) - 1][number])

    # ------------------------------------------------------------------ probabilities

    def prob(self, token: int, context: Sequence[int] = ()) -> float:
        """P(token | context).

        Args:
            token: its id.
            context: the tokens in front. Of more than order − 1 the last ones count. With fewer the
                model of that lower order answers, so () asks for unigrams; at the start of a
                sequence give ``[bos_id] * (order − 1)``.
        """
        wanted = token_array("token", [token], self.config.vocab_size)
        contexts = self._counts.context_numbers(self._context(context))
        grams = [
            self._counts.find(k, numbers, wanted) for k, numbers in enumerate(contexts, start=1)
        ]
        return float(self._fitted().probabilities(contexts, grams)[0])

    def distribution(self, context: Sequence[int] = ()) -> Tensor:
        """P(w | context) for every w: (vocab_size,) float64, which add up to one. See `prob`."""
        return torch.from_numpy(self._fitted().distributions(self._context(context))[0])

    def token_log_probs(self, sequence: Sequence[int]) -> Tensor:
        """log P of each token of a sequence (n,) and of the EOS behind it: (n + 1,), in nats."""
        return torch.from_numpy(self._log_probs([sequence]))

    def log_prob(self, sequence: Sequence[int]) -> float:
        """log P of a sequence and its EOS, in nats; −inf where a token has probability 0."""
        return float(self._log_probs([sequence]).sum())

    def perplexity(self, sequences: Iterable[Any]) -> float:
        """exp of the mean of −log P over all tokens of some sequences, an EOS each included.

        With "mle" it is ``inf`` as soon as one n-gram was not seen in training: what has
        probability 0 did happen. So it may be with "kneser_ney" where D is given as 0.
        """
        return float(np.exp(-self._log_probs(sequences).mean()))

    def _log_probs(self, sequences: Iterable[Any]) -> Array:
        """(T,) for the T predicted tokens of some sequences, one after another."""
        smoothing = self._fitted()
        with np.errstate(divide="ignore"):
            return np.log(smoothing.probabilities(*self._counts.stream_numbers(sequences)))

    def _context(self, context: Sequence[int]) -> Array:
        """The last order − 1 tokens, (1, L)."""
        self._fitted()
        tokens = token_array("context", context, self.config.vocab_size)
        return tokens[max(len(tokens) - self.config.order + 1, 0) :][None]

    def _fitted(self) -> Smoothing:
        if self._smoothing is None:
            raise ValueError("the model has counted nothing yet: call fit or load first")
        return self._smoothing

    # ------------------------------------------------------------------ as a model

    def __call__(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        caches: TokenCaches | None = None,
        num_logits: int | None = None,
    ) -> Tensor:
        """Logits for the token that follows each token, n − 1 BOS in front of the first one.

        They are log-probabilities, −inf where P = 0; their softmax is P.

        Args:
            token_ids: (batch, n) token ids; with ``caches`` those that follow the tokens read. A
                BOS in front changes nothing.
            mask: (batch, n) boolean, False where a token is padding; it is read as BOS, so that
                padding belongs on the left.
            caches: from `new_caches`; extended by ``token_ids``.
            num_logits: give logits for the last so many positions only.

        Returns:
            logits (batch, n, vocab_size), of torch's default dtype, where ``token_ids`` are.

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary; a mask of another shape
                or dtype.
        """
        smoothing, config = self._fitted(), self.config
        windows = read_windows(
            token_ids,
            mask,
            caches,
            size=config.order - 1,
            num_logits=num_logits,
            vocab_size=config.vocab_size,
            bos_id=config.bos_id,
        )
        contexts = windows.flatten(0, 1).cpu().numpy().astype(np.int64)
        with np.errstate(divide="ignore"):
            log_p = np.log(smoothing.distributions(contexts))
        logits = torch.from_numpy(log_p).unflatten(0, windows.shape[:2])
        return logits.to(token_ids.device, torch.get_default_dtype())

    def new_caches(self) -> TokenCaches:
        """Empty caches, for `__call__`."""
        return TokenCaches()

    def sample(
        self,
        prompt: Sequence[int] = (),
        *,
        max_new_tokens: int = 100,
        generator: torch.Generator | None = None,
    ) -> list[int]:
        """Draw token after token from P, from the start of a sequence or from a prompt on.

        Args:
            prompt: token ids.
            max_new_tokens: stop after so many if no EOS comes before.
            generator: of the random numbers, on the CPU; torch's own if not given.

        Returns:
            the prompt and the tokens drawn, without the BOS in front and the EOS behind. (Where
            P gives unseen tokens a chance, BOS and padding, which are never seen, have one too.)
        """
        check_not_negative("max_new_tokens", max_new_tokens)
        tokens = [int(token) for token in prompt]
        start = [self.config.bos_id] * (self.config.order - 1)
        for _ in range(max_new_tokens):
            p = self.distribution(start + tokens)
            token = int(by_inversion(p, torch.rand((), generator=generator, dtype=p.dtype)))
            if token == self.config.eos_id:
                break
            tokens.append(token)
        return tokens

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counts and the config as one compressed npz file, whole or not at all."""
        tables = self._fitted().counts
        header = {"format": FORMAT, "config": dataclasses.asdict(self.config)}
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header))}
        for k, keys in enumerate(tables.keys, start=1):
            # The differences of sorted keys are small, and small numbers compress well.
            arrays[f"keys_{k}"] = np.diff(keys, prepend=0)
            arrays[f"counts_{k}"] = tables.counts[k - 1]
        for k, continuations in enumerate(tables.continuations, start=1):
            arrays[f"continuations_{k}"] = continuations
        path = Path(path)
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)
        unfinished.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **changes: Any) -> NGramModel:
        """The model that `save` wrote.

        Args:
            path: of the file.
            changes: arguments to differ, e.g. ``smoothing="add_k"``; the counts serve them all.

        Raises:
            ValueError: the file is none of `save`, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays["header"]))
            if header["format"] != FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            config = header["config"]
            orders = range(1, config["order"] + 1)
            keys = [np.cumsum(arrays[f"keys_{k}"]) for k in orders]
            counts = [arrays[f"counts_{k}"] for k in orders]
            continuations = [arrays[f"continuations_{k}"] for k in orders[:-1]]
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{path} is no file of NGramModel.save, or damaged: {error}"
            ) from error
        fixed = {"order", "vocab_size", "bos_id", "eos_id"} & set(changes)
        if fixed:
            raise ValueError(f"changes must leave {sorted(fixed)} as the counts have them")
        model = cls(**{**config, **changes})
        tables = model._counts
        tables.keys, tables.counts, tables.continuations = keys, counts, continuations
        tables.set_starts()
        return model._take(tables)
