"""MinHash against exact Jaccard similarity, against brute force, and against datasketch."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmlib.datasets import duplicate_groups, jaccard, minhash, near_duplicates, shingles
from lmlib.datasets._near_duplicates import linked

TEXTS = st.lists(st.text(alphabet="春夏秋冬，ab 。\n", max_size=12), max_size=12)


def similar(count: int, length: int = 40, seed: int = 0) -> list[str]:
    """Random texts, each with a copy in which some characters, up to all, are replaced."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        text = [chr(0x4E00 + rng.randrange(3000)) for _ in range(length)]
        changed = rng.sample(range(length), rng.randrange(length // 2))
        copy = [
            chr(0x6000 + rng.randrange(3000)) if i in changed else text[i] for i in range(length)
        ]
        texts += ["".join(text), "".join(copy)]
    return texts


def brute_force(texts: list[str], threshold: float, n: int) -> list[tuple[int, int]]:
    sets = [shingles(text, n) for text in texts]
    pairs = itertools.combinations(range(len(texts)), 2)
    return [(i, j) for i, j in pairs if jaccard(sets[i], sets[j]) >= threshold]


def test_shingles_by_hand() -> None:
    assert shingles("床前，明月。", 2) == {"床前", "前明", "明月"}
    assert shingles("床前，明月。", 3) == {"床前明", "前明月"}
    assert shingles("a_B 1!", 2) == {"aB", "B1"}
    assert shingles("，月。", 2) == {"月"}
    assert shingles("，。", 2) == shingles("", 1) == set()
    assert jaccard({1, 2, 3}, {2, 3, 4, 5}) == 2 / 5
    assert jaccard({1}, set()) == 0
    assert jaccard(set(), set()) == 1


def test_the_estimate_is_unbiased_within_its_standard_error() -> None:
    texts = similar(400)
    num_hashes = 256
    signatures = minhash(texts, num_hashes)
    assert signatures.shape == (800, num_hashes)
    assert signatures.dtype == np.uint32
    estimate = (signatures[::2] == signatures[1::2]).mean(axis=1)
    exact = np.array(
        [jaccard(shingles(a), shingles(b)) for a, b in zip(texts[::2], texts[1::2], strict=True)]
    )
    assert exact.min() < 0.2
    assert exact.max() == 1
    error = np.sqrt(exact * (1 - exact) / num_hashes)
    inner = error > 0
    assert np.array_equal(estimate[~inner], exact[~inner])
    z = (estimate - exact)[inner] / error[inner]
    # Of independent texts: mean 0, standard deviation 1.
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert 0.85 < z.std() < 1.15
    # And each hash function alone is as good as the others.
    per_hash = (signatures[::2] == signatures[1::2]).mean(axis=0)
    assert abs(per_hash - exact.mean()).max() < 6 * np.sqrt(0.25 / len(texts))


def test_signatures_depend_on_the_set_of_shingles_alone() -> None:
    a, b, empty, short = minhash(["春眠春眠春", "春眠春，眠春！", "，", "春"])
    assert np.array_equal(a, b)
    assert set(empty.tolist()) == {0xFFFFFFFF}
    assert not np.array_equal(short, empty)
    # Whatever stands beside a text.
    texts = ["x" * 3000, "", "春眠不觉晓", "", "处处闻啼鸟"] * 1000
    together = minhash(texts, 8)
    for i in (0, 2, 4, 2500, 4997, 4999):
        assert np.array_equal(together[i], minhash([texts[i]], 8)[0])
    assert minhash([]).shape == (0, 128)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.sampled_from([0.6, 0.8, 1.0]), st.integers(1, 3))
def test_short_texts_as_by_brute_force(texts: list[str], threshold: float, n: int) -> None:
    found = near_duplicates(texts, threshold, n)
    exact = brute_force(texts, threshold, n)
    assert set(found) <= set(exact)
    # Nothing that is equal is ever missed; of the rest less than one in 10 000.
    assert found == exact


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.9])
def test_a_corpus_as_by_brute_force(threshold: float) -> None:
    texts = similar(150, seed=1)
    random.Random(2).shuffle(texts)
    exact = brute_force(texts, threshold, 2)
    assert len(exact) > 5
    assert near_duplicates(texts, threshold) == exact


def test_many_equal_texts_are_all_found() -> None:
    texts = ["春眠不觉晓", "处处闻啼鸟", "春眠，不觉晓。"] * 7
    pairs = near_duplicates(texts)
    assert len(pairs) == 14 * 13 // 2 + 7 * 6 // 2
    assert duplicate_groups(texts) == [0, 1, 0] * 7


def test_groups_go_through_others() -> None:
    assert linked(7, [(5, 3), (3, 1), (6, 4), (0, 0)]) == [0, 1, 2, 1, 4, 1, 4]
    text = "".join(chr(0x4E00 + i) for i in range(60))
    chain = [text[:40], text[8:48], text[16:56]]  # the first and the last are not alike
    assert near_duplicates(chain) == [(0, 1), (1, 2)]
    assert duplicate_groups(chain) == [0, 0, 0]


def test_as_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch")
    texts = similar(60, seed=3)
    theirs = []
    for text in texts:
        signature = datasketch.MinHash(num_perm=128)
        signature.update_batch([shingle.encode() for shingle in shingles(text)])
        theirs.append(signature)
    ours = minhash(texts)
    difference = [
        (ours[i] == ours[i + 1]).mean() - theirs[i].jaccard(theirs[i + 1])
        for i in range(0, len(texts), 2)
    ]
    assert abs(np.mean(difference)) < 0.03
    assert np.abs(difference).max() < 0.3


def test_errors() -> None:
    with pytest.raises(ValueError, match="threshold must be above 0 and at most 1, got 0"):
        near_duplicates(["a"], 0)
    with pytest.raises(ValueError, match=r"at most 1, got 1\.5"):
        near_duplicates(["a"], 1.5)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        shingles("春", 0)
    with pytest.raises(TypeError, match="texts must be a list of several, got str"):
        minhash("春眠")
    with pytest.raises(ValueError, match="num_hashes must be at least 1"):
        minhash(["春眠"], 0)
