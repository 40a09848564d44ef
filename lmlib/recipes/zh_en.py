"""Chinese to English: a Transformer against an LSTM, `python -m lmlib.recipes.zh_en`.

Both read Chinese character by character and write English in pieces of words. They learn from one
mixture: dates and the sentences of a grammar (`lmlib.datasets.load_date_pairs`,
`load_grammar_pairs`), where there is one right answer and as much data as one wants, and everyday
sentences (`load_sentence_pairs`), where there is far too little. They are of the same size, read
the same batches in as many steps, and what both reach stands on the card. Shipped is the
Transformer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lmlib import seed_everything
from lmlib.datasets import Pair
from lmlib.generation import greedy_search
from lmlib.metrics import bleu
from lmlib.recipes._run import Card, Check, Metric, arguments, as_shipped, fit, publish
from lmlib.recipes._zh_en_data import (
    SEED,
    VOCAB_SIZE,
    Mixture,
    encode_pair,
    held_out_pairs,
    make_tokenizer,
    padded,
    training_pairs,
    validation_pairs,
)
from lmlib.recurrent import LSTMSeq2Seq, Seq2SeqConfig
from lmlib.tokenizers import Tokenizer
from lmlib.training import TrainConfig, evaluate, seq2seq_loss
from lmlib.transformer import Transformer, TransformerConfig

NAME = "zh_en"
"""The recipe, and the folder of the model."""

TRANSFORMER = TransformerConfig(
    vocab_size=VOCAB_SIZE,
    d_model=128,
    num_heads=4,
    d_ff=384,
    num_encoder_layers=2,
    num_decoder_layers=2,
    max_seq_len=128,
    dropout=0.1,
    norm_first=True,
)
"""Encoder and decoder of two layers: 1.3 million parameters, 1.5 MB for the page."""

LSTM = Seq2SeqConfig(
    vocab_size=VOCAB_SIZE,
    d_model=148,
    d_hidden=148,
    num_layers=2,
    dropout=0.1,
    tie_embeddings=True,
)
"""Encoder and decoder of two layers, as large."""

TRAINING = TrainConfig(
    max_steps=4800,
    learning_rate=2e-3,
    warmup_steps=300,
    weight_decay=0.05,
    betas=(0.9, 0.98),
    label_smoothing=0.1,
    log_every=50,
    eval_every=400,
    save_every=200,
    seed=SEED,
)
"""The same for both."""

MAX_NEW_TOKENS = 60
"""The longest translation; the longest right one has 38 tokens."""

EXAMPLES = (
    "二〇二六年十一月二十一日，星期六",
    "她昨天没在图书馆借三本旧书。",
    "你现在正在画一把漂亮的雨伞吗？",
    "我的朋友每天都喝两杯热咖啡。",
    "我喜欢喝茶。",
    "今天天气很好。",
)
"""What is translated on the way."""


# ------------------------------------------------------------------ measuring


def translated(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """What the model writes for each text, by greedy search.

    Args:
        model, tokenizer: as this recipe makes them.
        texts: Chinese.
    """
    found: dict[str, str] = {}
    ordered = sorted(set(texts), key=lambda text: (len(text), text))
    for i in range(0, len(ordered), 100):
        some = ordered[i : i + 100]
        sources = [tokenizer.encode(text) for text in some]
        written = greedy_search(model, max_new_tokens=MAX_NEW_TOKENS, source=sources)
        for text, ids in zip(some, written.texts, strict=True):
            found[text] = tokenizer.decode(ids)
    return [found[text] for text in texts]


def exact_rate(model: Any, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> float:
    """The share of pairs that are translated without a mistake.

    Args:
        model, tokenizer: as this recipe makes them.
        pairs: Chinese, and the one right translation.
    """
    written = translated(model, tokenizer, [pair.zh for pair in pairs])
    return sum(text == pair.en for text, pair in zip(written, pairs, strict=True)) / len(pairs)


def measured(
    model: Any, tokenizer: Tokenizer, parts: Mapping[str, Sequence[Pair]], who: str
) -> list[Metric]:
    """BLEU of each part, and the share that is exact, where just one translation is right.

    Args:
        model, tokenizer: as this recipe makes them.
        parts: pairs by the part's name.
        who: the model's name.
    """
    metrics = []
    for part, pairs in parts.items():
        written = translated(model, tokenizer, [pair.zh for pair in pairs])
        right = [pair.en for pair in pairs]
        how = f"{len(pairs)} held-out pairs, greedy search"
        score = bleu(written, right).score
        metrics.append(Metric(f"{who}: BLEU, {part}", round(score, 2), how))
        if part != "everyday sentences":
            exact = sum(map(str.__eq__, written, right)) / len(right)
            metrics.append(Metric(f"{who}: exact, {part}", exact, how))
    return metrics


def check(model: Any, tokenizer: Tokenizer) -> float:
    """The share that is exact of 100 held-out dates and 100 held-out sentences of the grammar.

    Args:
        model, tokenizer: as this recipe makes them.
    """
    held_out = held_out_pairs()
    return exact_rate(model, tokenizer, [*held_out["dates"][:100], *held_out["grammar"][:100]])


def validation_losses(tokenizer: Tokenizer) -> Any:
    """A function from the model to its loss on the validation part of each corpus."""
    batches = {}
    for name, pairs in validation_pairs().items():
        ordered = sorted(pairs, key=lambda pair: len(pair.zh))
        rows = [encode_pair(tokenizer, pair) for pair in ordered]
        batches[name] = [padded(rows[i : i + 100]) for i in range(0, len(rows), 100)]

    def losses(model: Any) -> dict[str, float]:
        return {
            f"loss_{name}": evaluate(model, some, seq2seq_loss)["loss"]
            for name, some in batches.items()
        }

    return losses


def examples(model: Any, tokenizer: Tokenizer) -> list[tuple[Tensor, Tensor]]:
    """Twenty held-out pairs of each part, as source (1, n_source) and decoder input (1, n).

    Args:
        model, tokenizer: as this recipe makes them.
    """
    found = []
    for pairs in held_out_pairs().values():
        for pair in pairs[:20]:
            source, target = padded([encode_pair(tokenizer, pair)])
            found.append((source, model.shift_right(target)))
    return found


# ------------------------------------------------------------------ the run


def make_transformer() -> Transformer:
    """The untrained Transformer, its embeddings drawn from N(0, 1 / d_model).

    Multiplied by √d_model they are as large as the positions that are added. From the N(0, 0.02²)
    that `Transformer` itself draws from they would be a third of that here, and it takes several
    times as many steps until attention finds the characters behind the positions.
    """
    model = Transformer(TRANSFORMER)
    torch.nn.init.normal_(model.embedding.weight, std=TRANSFORMER.d_model**-0.5)
    return model


def main(argv: Sequence[str] | None = None) -> None:
    """Train both models, measure them, and write the Transformer."""
    options = arguments(NAME, argv, summary="Train the Chinese–English Transformer, and an LSTM.")
    pairs = training_pairs()
    tokenizer = make_tokenizer(pairs)
    fits, metrics, models = [], [], {}
    for name in ("transformer", "lstm"):
        seed_everything(SEED)
        network = make_transformer() if name == "transformer" else LSTMSeq2Seq(LSTM)
        model = network.to(options.device)
        fitted = fit(
            options,
            model,
            Mixture(pairs, tokenizer),
            TRAINING,
            loss_fn=seq2seq_loss,
            evaluate_on=validation_losses(tokenizer),
            sample=lambda trained: translated(trained, tokenizer, EXAMPLES),
            stage=name,
        )
        fits.append(fitted)
        models[name] = as_shipped(model)
        who = {"transformer": "Transformer", "lstm": "LSTM"}[name]
        metrics += measured(models[name], tokenizer, held_out_pairs(), who)
    found = {metric.name: metric.value for metric in metrics}
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    card = Card(
        title="zh_en: Chinese to English",
        summary=(
            "An encoder–decoder Transformer that translates dates, the sentences of a grammar and "
            "simple everyday sentences. It reads characters and writes pieces of words, so that "
            "its cross-attention can be read as an alignment. Beside it on this card: an LSTM "
            f"encoder–decoder of the same size ({sizes['lstm']:,} parameters against "
            f"{sizes['transformer']:,}), trained on the same batches."
        ),
        data=(
            "Dates from 1950 to 2049 in five forms (`load_date_pairs`), 60 000 sentences of a "
            "grammar (`load_grammar_pairs`) and the 3 565 training pairs of `load_sentence_pairs` "
            "(PyPI package hsk-sentences-audio 1.0.0, <https://github.com/no7z/hsk-sentences-audio>"
            ", CC BY-SA 4.0), mixed 2 : 4 : 4. Dates are held out by date; sentences of the "
            "grammar so that none occurs twice, those with unseen pairs of adjective and noun and "
            "the longer ones by kind; everyday sentences in groups of near-duplicates."
        ),
        licence="MIT, like the code; the everyday sentences it learnt from are CC BY-SA 4.0.",
        metrics=metrics,
        limits=[
            "3 565 everyday sentences are far too few to learn to translate from: BLEU there is "
            f"{found['Transformer: BLEU, everyday sentences']:.0f}.",
            "Longer sentences than it learnt from are beyond it: "
            f"{found['Transformer: exact, longer sentences']:.0%} of the grammar's longer ones are "
            "right.",
            "It knows the words of its training text, the years 1950 to 2049, and a sentence or "
            "two at a time.",
        ],
        check=Check(
            "exact translations",
            0.02,
            "the share of 100 held-out dates and 100 held-out sentences of the grammar without a "
            "mistake, by greedy search",
        ),
        notes=[
            "Learning rate, schedule and dropout were chosen for neither of the two and are the "
            "same for both; the LSTM, which has no attention, was still learning slowly at the "
            "end, and with more steps it would do better.",
            "How large the embeddings begin, in a trial of a small sibling (d_model 96, two layers "
            "each, 100 steps): drawn from N(0, 0.02²) the loss on the grammar was 3.3 nats, from "
            "N(0, 0.08²) 1.7; from N(0, 0.02²) with rotary positions 2.6.",
        ],
        usage=(
            "from lmlib.assets import path\n"
            "from lmlib.generation import greedy_search\n"
            "from lmlib.pretrained import load_pretrained, load_tokenizer\n\n"
            f'model = load_pretrained(path("models", "{NAME}"))\n'
            f'tokenizer = load_tokenizer(path("models", "{NAME}"))\n'
            'source = [tokenizer.encode("二〇二六年十一月二十一日")]\n'
            "written = greedy_search(model, max_new_tokens=60, source=source)\n"
            "print(tokenizer.decode(written.texts[0]))"
        ),
    )
    publish(
        options,
        models["transformer"],
        tokenizer,
        card,
        fits,
        check,
        examples=examples(models["transformer"], tokenizer),
    )


if __name__ == "__main__":
    main()
