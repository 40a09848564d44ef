"""What `lmlib.recipes.review_bert` is compared with: logistic regression on what is not learned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmlib.datasets import Review, Splits
from lmlib.recipes._e5 import embed, load_e5

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Score(NamedTuple):
    """Accuracies, 0 … 1.

    Attributes:
        validation: on the validation part, by which settings are chosen.
        test: on the test part.
    """

    validation: float
    test: float


def tfidf(reviews: Splits[Review]) -> Score:
    """TF-IDF of the runs of 1 to 3 characters, and logistic regression.

    Args:
        reviews: whose training part holds the labels that are known.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    features = [vectorizer.fit_transform(review.text for review in reviews.train)]
    features += [
        vectorizer.transform(review.text for review in part)
        for part in (reviews.validation, reviews.test)
    ]
    return logistic_regression(features, reviews)


def logistic_on(vectors: dict[str, Tensor], reviews: Splits[Review]) -> Score:
    """Logistic regression on vectors that stay as they are.

    Args:
        vectors: text → (d_model,).
        reviews: whose training part holds the labels that are known.
    """
    features = [
        torch.stack([vectors[review.text] for review in part]).numpy()
        for part in (reviews.train, reviews.validation, reviews.test)
    ]
    return logistic_regression(features, reviews)


def logistic_regression(features: list[Any], reviews: Splits[Review]) -> Score:
    """Of all strengths of regularisation the one that is best on the validation part.

    Args:
        features: of the training, validation and test part, (reviews, features) each.
        reviews: with their labels.
    """
    from sklearn.linear_model import LogisticRegression

    train, validation, test = (
        [review.label for review in part]
        for part in (reviews.train, reviews.validation, reviews.test)
    )
    scores = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000).fit(features[0], train)
        scores.append(
            Score(
                float(model.score(features[1], validation)), float(model.score(features[2], test))
            )
        )
    # The first of several equals is the most regularised.
    return max(scores, key=lambda score: score.validation)


def e5_vectors(path: Path, reviews: Splits[Review], block: int = 1024) -> dict[str, Tensor]:
    """The vector of each review, kept in a file as far as they are computed.

    In bfloat16, which takes half the time: their cosines with those in float32 are above 0.999.

    Args:
        path: of the file.
        reviews: all of them.
        block: how many are computed before the file is written again.
    """
    texts = [
        review.text for part in (reviews.test, reviews.validation, reviews.train) for review in part
    ]
    vectors = torch.zeros(0, 0)
    if path.exists():
        kept = torch.load(path)
        if kept["texts"] == texts[: len(kept["texts"])]:
            vectors = kept["vectors"]
    if len(vectors) < len(texts):
        model, tokenizer = load_e5()
        path.parent.mkdir(parents=True, exist_ok=True)
        while len(vectors) < len(texts):
            with torch.autocast("cpu", torch.bfloat16):
                part = embed(model, tokenizer, texts[len(vectors) :][:block])
            vectors = torch.cat([vectors, part]) if len(vectors) else part
            kept = {"texts": texts[: len(vectors)], "vectors": vectors}
            torch.save(kept, path.with_suffix(".new"))
            os.replace(path.with_suffix(".new"), path)
            print(f"e5: {len(vectors)} of {len(texts)} reviews", flush=True)
    return dict(zip(texts, vectors, strict=True))
