"""Merges: learning them from words, as BPE and WordPiece do, and applying them, as BPE does.

Sennrich et al. 2016 (arXiv:1508.07909), algorithm 1. Counting all pairs anew after each merge would
take vocabulary × corpus steps; here a merge touches only the places where its pair stands.
"""

from __future__ import annotations

import heapq
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise

_BITS = 32  # two numbers as one that sorts like the pair of them
_LOW = (1 << _BITS) - 1


def learn_merges(
    words: Iterable[tuple[Sequence[int], int]],
    tokens: list[str],
    join: Callable[[str, str], str],
    vocab_size: int,
    min_count: int,
    forbidden: Collection[str] = (),
) -> list[tuple[int, int, int, int]]:
    """Merge the most frequent pair of neighbours within the words, again and again.

    Of pairs with the same count the one with the smaller ids goes first, so that the result
    depends on nothing but the counts. Overlapping pairs all count: `aaa` holds `a a` twice.

    Two things make this fast. All pairs with a new token come to be in the very merge that makes
    it (a merge leaves no pair like it behind, so no other pair can give the same token later);
    from then on the count of a pair only falls, and its places are a subset of the first ones.

    Args:
        words: the ids of a word, and how often the word occurs. Pairs lie within words.
        tokens: the token of each id; the new ones are appended.
        join: the token that two neighbours give.
        vocab_size: stop when there are so many tokens.
        min_count: stop when no pair occurs so often.
        forbidden: tokens that must not come out of a merge.

    Returns:
        A row for each merge in the order of their ranks: id of the left token, of the right one,
        of the new one, and the count of the pair when it was merged.
    """
    lengths = [1] * len(tokens)  # how many places of the text a token covers

    # All words lie in one row, with a −1 before, between and after them. A token that covers
    # several places has its id at the first and the last, and −1 between: both neighbours of a
    # place can be read off without a linked list.
    text = array("i", [-1])
    weights = array("q", [0])
    counts: defaultdict[int, int] = defaultdict(int)
    places: defaultdict[int, array[int]] = defaultdict(lambda: array("i"))
    for word, weight in words:
        start = len(text)
        for place, (left, right) in enumerate(pairwise(word), start):
            pair = left << _BITS | right
            counts[pair] += weight
            places[pair].append(place)
        text.extend(word)
        text.append(-1)
        weights.extend([weight] * (len(word) + 1))

    # Counts only fall: an entry whose count is no longer true goes back with the true one when it
    # comes up.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[tuple[int, int, int, int]] = []
    while heap and len(tokens) < vocab_size:
        negative, pair = heapq.heappop(heap)
        count = counts[pair]
        if count != -negative:
            heapq.heappush(heap, (-count, pair))
            continue
        if count < min_count:
            break
        left, right = pair >> _BITS, pair & _LOW
        token = join(tokens[left], tokens[right])
        if token in forbidden:
            continue
        new = len(tokens)
        tokens.append(token)
        lengths.append(lengths[left] + lengths[right])
        merges.append((left, right, new, count))

        length, right_length = lengths[left], lengths[right]
        before: defaultdict[int, int] = defaultdict(int)  # neighbour → how often it stood there
        after: defaultdict[int, int] = defaultdict(int)
        for place in places.pop(pair):
            middle = place + length
            if text[place] != left or text[middle] != right:
                continue  # merged otherwise since
            end = middle + right_length
            weight = weights[place]
            neighbour = text[place - 1]
            if neighbour >= 0:
                before[neighbour] += weight
                places[neighbour << _BITS | new].append(place - lengths[neighbour])
            neighbour = text[end]
            if neighbour >= 0:
                after[neighbour] += weight
                places[new << _BITS | neighbour].append(place)
            text[middle - 1] = text[middle] = -1
            text[place] = text[end - 1] = new
        for neighbour, weight in before.items():
            counts[neighbour << _BITS | left] -= weight
            counts[neighbour << _BITS | new] += weight
        for neighbour, weight in after.items():
            counts[right << _BITS | neighbour] -= weight
            counts[new << _BITS | neighbour] += weight
        fresh = {neighbour << _BITS | new for neighbour in before}
        fresh |= {new << _BITS | neighbour for neighbour in after}
        for pair in fresh:
            heapq.heappush(heap, (-counts[pair], pair))
    return merges


def apply_merges(ids: list[int], ranks: Mapping[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Merge neighbours in `ids`, the lowest rank first and of equal ones the leftmost.

    The places of the pairs wait by rank, the ranks in a heap: n ids take about n steps, and a
    logarithm only of how many different pairs there are.

    Args:
        ids: the tokens of the bytes; overwritten.
        ranks: (left, right) → (rank, id of the new token).

    Returns:
        The ids when no pair is left that `ranks` knows.
    """
    known = ranks.get
    waiting: dict[int, list[int]] = {}  # rank → where such a pair stands
    for place, pair in enumerate(pairwise(ids)):
        if (found := known(pair)) is not None:
            if (rank := found[0]) in waiting:
                waiting[rank].append(place)
            else:
                waiting[rank] = [place]
    heap = list(waiting)
    heapq.heapify(heap)
    # Of each place the one before and the one after that begin a token. A −1 that no pair has
    # stands behind the last id, and so before the first (as index −1) too.
    n = len(ids)
    ids.append(-1)
    following = [*range(1, n + 1), n]
    previous = list(range(-1, n))
    while heap:
        rank = heapq.heappop(heap)
        places = waiting.pop(rank)
        places.sort()
        for number, place in enumerate(places, start=1):
            middle = following[place]
            found = known((ids[place], ids[middle]))
            if found is None or found[0] != rank:
                continue  # one of the two has been merged otherwise since
            ids[place] = new = found[1]
            ids[middle] = -1
            end = following[place] = following[middle]
            previous[end] = place
            if (found := known((new, ids[end]))) is not None:
                if (other := found[0]) in waiting:
                    waiting[other].append(place)
                else:
                    waiting[other] = [place]
                    heapq.heappush(heap, other)
            before = previous[place]
            if (found := known((ids[before], new))) is not None:
                if (other := found[0]) in waiting:
                    waiting[other].append(before)
                else:
                    waiting[other] = [before]
                    heapq.heappush(heap, other)
            if heap and heap[0] < rank and number < len(places):
                # Merges that were not learnt from a text may be in any order.
                waiting[rank] = places[number:]
                heapq.heappush(heap, rank)
                break
    return [token for token in ids if token >= 0]
