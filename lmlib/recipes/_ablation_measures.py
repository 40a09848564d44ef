"""What `lmlib.recipes.bert_ablations` measures of a pre-trained model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib.bert import BertForPreTraining, BertModel
from lmlib.recipes._poem_clozes import characters_only
from lmlib.recipes._poem_pairs import CLS, MASK, SEP
from lmlib.tokenizers import CharTokenizer

MARKS = "，。"
"""The punctuation of a poem, which nobody has to guess."""

TYPOS = 100
"""Held-out poems in which a character is exchanged."""

LEARNED_FROM = 1_000
"""Labelled poems that the classifiers learn from, half of each dynasty; the others judge them."""

EPOCHS, TUNED_BATCH, TUNED_RATE = 4, 32, 1e-3
"""Of fine-tuning: how often the labelled poems are read, how many at once, the learning rate."""


@dataclass(frozen=True)
class Corpus:
    """Poems as token ids, all equally long: four lines with their marks.

    Attributes:
        tokenizer: characters.
        read: (n, 24), what pre-training reads.
        held_out: (m, 24), what it does not read.
        asked: (k, 24), Tang and Song in turn, not read either.
        labels: (k,), 0 for Tang and 1 for Song.
    """

    tokenizer: CharTokenizer
    read: Tensor
    held_out: Tensor
    asked: Tensor
    labels: Tensor

    @property
    def is_character(self) -> Tensor:
        """(vocab_size,) boolean: neither special nor a punctuation mark."""
        ordinary = torch.ones(self.tokenizer.vocab_size, dtype=torch.bool)
        ordinary[: MASK + 1] = False
        ordinary[self.tokenizer.encode(MARKS)] = False
        return ordinary


def framed(poems: Tensor) -> tuple[Tensor, Tensor]:
    """[CLS] two lines [SEP] two lines [SEP], (n, 27), and the segments, (n, 27).

    Args:
        poems: (n, 24).
    """
    half = poems.shape[1] // 2
    column = poems.new_ones(len(poems), 1)
    parts = (CLS * column, poems[:, :half], SEP * column, poems[:, half:], SEP * column)
    token_ids = torch.cat(parts, dim=1)
    segments = (torch.arange(token_ids.shape[1]) > half + 1).long()
    return token_ids, segments.expand_as(token_ids)


def measure(
    model: BertForPreTraining, corpus: Corpus, seed: int, *, next_sentence: bool
) -> dict[str, Any]:
    """All numbers of a run.

    "perplexity" and "top1": each character of the held-out poems masked alone. "echo": shown a poem
    without masks, the share of characters that it gives back. "typo" and "typo_masked": in each
    poem one character is exchanged; how often it is the one that the model finds least likely,
    all being shown in one pass, and each masked in turn. "features": of the classifier of
    dynasties on frozen hidden states, "tuned": of that which trains everything; accuracies. With
    ``next_sentence`` "nsp": accuracy on couplets that follow or not, and "order": how often a
    pair in its order looks more like one that follows than the same pair turned round.

    Args:
        model: in evaluation mode.
        corpus: its poems.
        seed: of what is drawn.
        next_sentence: was it trained to tell whether B follows A?
    """
    start = time.process_time()
    found = {**clozes(model, corpus), **typos(model, corpus, seed)}
    if next_sentence:
        found |= pairs(model, corpus, seed)
    found["features"] = frozen(model.bert, corpus)
    found["tuned"] = tuned(model.bert, corpus, seed)
    rounded = {name: round(value, 4) for name, value in found.items()}
    return {**rounded, "measured_seconds": round(time.process_time() - start, 1)}


def log_probs(model: BertForPreTraining, token_ids: Tensor, at: Tensor) -> Iterator[Tensor]:
    """log P of all characters, specials −inf, at the places ``at`` of each row, in blocks.

    Args:
        model: in evaluation mode.
        token_ids: (n, 27).
        at: (n, 27) boolean.
    """
    device = next(model.parameters()).device
    segments = framed(token_ids[:, :24])[1]
    with torch.inference_mode():
        for i in range(0, len(token_ids), 256):
            block = (x[i : i + 256].to(device) for x in (token_ids, segments))
            output: Any = model(*block, predict_at=at[i : i + 256].to(device))
            yield characters_only(output.mlm_logits.float().cpu())


def one_by_one(model: BertForPreTraining, token_ids: Tensor, asked: Tensor) -> Tensor:
    """(n, 27, vocab_size): log P at each place of ``asked``, that place being masked; 0 elsewhere.

    Args:
        model: in evaluation mode.
        token_ids: (n, 27).
        asked: (n, 27) boolean.
    """
    rows, places = asked.nonzero(as_tuple=True)
    masked = token_ids[rows]
    masked[torch.arange(len(rows)), places] = MASK
    only = F.one_hot(places, token_ids.shape[1]).bool()
    found = torch.zeros(*token_ids.shape, model.config.vocab_size)
    found[rows, places] = torch.cat(list(log_probs(model, masked, only)))
    return found


def clozes(model: BertForPreTraining, corpus: Corpus) -> dict[str, float]:
    """Numbers of single characters: "perplexity", "top1" and "echo", see `measure`.

    Args:
        model: in evaluation mode.
        corpus: its poems.
    """
    token_ids, _ = framed(corpus.held_out)
    asked = corpus.is_character[token_ids]
    answers = token_ids[asked]
    guesses = one_by_one(model, token_ids, asked)[asked]
    shown = torch.cat(list(log_probs(model, token_ids, asked)))
    nll = -guesses.gather(1, answers[:, None]).double().mean()
    return {
        "perplexity": float(nll.exp()),
        "top1": float((guesses.argmax(1) == answers).double().mean()),
        "echo": float((shown.argmax(1) == answers).double().mean()),
    }


def typos(model: BertForPreTraining, corpus: Corpus, seed: int) -> dict[str, float]:
    """Wrong characters found: "typo" and "typo_masked", see `measure`.

    The wrong character is one that stands in the same place of another poem: as frequent, and as
    fit for its place, as the right one.

    Args:
        model: in evaluation mode.
        corpus: its poems.
        seed: of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    token_ids, _ = framed(corpus.held_out[:TYPOS])
    asked = corpus.is_character[token_ids]
    numbers = torch.arange(len(token_ids))
    places = torch.multinomial(asked.double(), 1, generator=generator)[:, 0]
    wrong = token_ids.roll(1, dims=0)[numbers, places]
    kept = corpus.is_character[wrong] & (wrong != token_ids[numbers, places])
    token_ids, asked, places, wrong = token_ids[kept], asked[kept], places[kept], wrong[kept]
    token_ids[torch.arange(len(places)), places] = wrong
    shown = torch.zeros(*token_ids.shape)
    visible = torch.cat(list(log_probs(model, token_ids, asked)))
    shown[asked] = visible.gather(1, token_ids[asked][:, None])[:, 0]
    masked = one_by_one(model, token_ids, asked).gather(2, token_ids[:, :, None])[:, :, 0]
    return {
        name: float((values.argmin(dim=1) == places).double().mean())
        for name, values in {"typo": shown, "typo_masked": masked}.items()
    }


def pairs(model: BertForPreTraining, corpus: Corpus, seed: int) -> dict[str, float]:
    """Couplets told apart: "nsp" and "order", see `measure`.

    Args:
        model: in evaluation mode.
        corpus: its poems.
        seed: of what is drawn.
    """
    poems = corpus.held_out
    half = poems.shape[1] // 2
    others = poems.roll(1 + seed, dims=0)
    mixed = torch.cat([poems[:, :half], others[:, half:]], dim=1)
    turned = torch.cat([poems[:, half:], poems[:, :half]], dim=1)
    true, false, reversed_ = (_follows(model, some) for some in (poems, mixed, turned))
    right = (true > 0.5).double().mean() + (false < 0.5).double().mean()
    return {"nsp": float(right / 2), "order": float((true > reversed_).double().mean())}


@torch.inference_mode()
def _follows(model: BertForPreTraining, poems: Tensor) -> Tensor:
    device = next(model.parameters()).device
    token_ids, segments = (x.to(device) for x in framed(poems))
    return model.nsp_head(model.bert.pooled(token_ids, segments)).softmax(-1)[:, 0].cpu()


class Reader(nn.Module):
    """A BERT, [CLS] and the mean of the hidden states side by side, and a linear map of them.

    Args:
        bert: the body.
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(2 * bert.config.d_model, 2)

    def features(self, poems: Tensor) -> Tensor:
        """(n, 2 d_model).

        Args:
            poems: (n, 24).
        """
        token_ids, segments = framed(poems)
        hidden = self.bert(token_ids, segments.to(token_ids.device)).hidden
        return torch.cat([hidden[:, 0], hidden.mean(dim=1)], dim=1)

    def forward(self, poems: Tensor) -> Tensor:
        """Logits (n, 2) of Tang and Song.

        Args:
            poems: (n, 24).
        """
        return self.classifier(self.features(poems))


def frozen(bert: BertModel, corpus: Corpus) -> float:
    """Accuracy of logistic regression on what the network says as it is.

    Args:
        bert: the body.
        corpus: its poems.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    device = next(bert.parameters()).device
    with torch.inference_mode():
        features = Reader(bert).to(device).features(corpus.asked.to(device)).cpu().numpy()
    features = StandardScaler().fit(features[:LEARNED_FROM]).transform(features)
    model = LogisticRegression(C=0.1, max_iter=1000)
    model.fit(features[:LEARNED_FROM], corpus.labels[:LEARNED_FROM])
    return float(model.score(features[LEARNED_FROM:], corpus.labels[LEARNED_FROM:]))


def tuned(bert: BertModel, corpus: Corpus, seed: int) -> float:
    """Accuracy when everything is trained on. ``bert`` is trained in place: measure it last.

    Args:
        bert: the body.
        corpus: its poems.
        seed: of the order.
    """
    device = next(bert.parameters()).device
    torch.manual_seed(seed)
    model = Reader(bert).to(device)
    poems, labels = corpus.asked.to(device), corpus.labels.to(device)
    learned = min(LEARNED_FROM, len(poems) // 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=TUNED_RATE, weight_decay=0.01)
    steps = EPOCHS * -(-learned // TUNED_BATCH)
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), 1 - step / steps)
    )
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(learned).split(TUNED_BATCH):
            loss = F.cross_entropy(model(poems[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            falling.step()
    model.eval()
    with torch.inference_mode():
        guesses = model(poems[learned:]).argmax(dim=1)
    return float((guesses == labels[learned:]).double().mean())
