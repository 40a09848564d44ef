"""Answers to the exercises of chapters 7 to 9, as `exercise_answers` has those of 4 to 6."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from lmlib.bert import BertConfig, BertModel
from lmlib.generation import repetition_penalty_filter, top_p_filter
from lmlib.gpt import GPT, GPTConfig


def _bert_embedding(ids, segments, W_e, W_s, W_p):
    place = torch.arange(ids.shape[1]).expand_as(ids)
    x = F.embedding(ids, W_e) + F.embedding(segments, W_s) + F.embedding(place, W_p)
    return F.layer_norm(x, (x.shape[-1],), eps=1e-12)


def _join_pair(first, second, cls_id, sep_id):
    a, b = [cls_id, *first, sep_id], [*second, sep_id]
    return torch.stack(
        [torch.tensor(a + b), torch.cat([torch.zeros(len(a)), torch.ones(len(b))]).long()]
    )


def _apply_masks(ids, chosen, fate, drawn, mask_id):
    read, labels = [], []
    for i, hit, f, other in zip(
        ids.tolist(), chosen.tolist(), fate.tolist(), drawn.tolist(), strict=True
    ):
        read.append(i if not hit or f >= 0.9 else mask_id if f < 0.8 else other)
        labels.append(i if hit else -100)
    return torch.tensor([read, labels])


def _pseudo_log_likelihood(ids, score, mask_id):
    rows = [ids.index_fill(0, torch.tensor([i]), mask_id) for i in range(len(ids))]
    return sum(score(rows[i])[i][ids[i]] for i in range(1, len(ids) - 1))


def _bert_parameters(vocab_size, d, num_layers, d_ff, max_seq_len):
    with torch.device("meta"):
        model = BertModel(BertConfig(vocab_size, d, num_layers, 2, d_ff, max_seq_len))
    return sum(p.numel() for p in model.parameters())


def _precision_recall_f1(confusion):
    (_, false_positive), (false_negative, hit) = confusion.tolist()
    return torch.tensor(
        [
            hit / (hit + false_positive),
            hit / (hit + false_negative),
            2 * hit / (2 * hit + false_positive + false_negative),
        ]
    )


def _causal_lm_loss(logits, ids, pad_id):
    targets = ids.roll(-1, dims=1).clone()
    targets[targets == pad_id] = -100
    targets[:, -1] = -100
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _gpt_parameters(vocab_size, max_seq_len, d_model, num_layers):
    config = GPTConfig.gpt2(
        vocab_size=vocab_size,
        max_seq_len=max_seq_len,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=1,
    )
    with torch.device("meta"):
        return sum(p.numel() for p in GPT(config).parameters())


def _grouped_query_attention(Q, K, V):
    return F.scaled_dot_product_attention(
        Q[None], K[None], V[None], is_causal=True, enable_gqa=True
    )[0]


def _power_law(N, L, E):
    X = torch.stack([torch.ones_like(N), N.log()], dim=1)
    start, slope = torch.linalg.lstsq(X, (L - E).log()[:, None]).solution[:, 0]
    return torch.stack([start.exp(), -slope])


def _nucleus_probs(probs, p):
    logits = top_p_filter(probs.log(), p)
    return logits.softmax(-1)


def _beam_step_by_hand(totals, log_P):
    ways = [
        (float(totals[i] + log_P[i, j]), i, j)
        for i in range(log_P.shape[0])
        for j in range(log_P.shape[1])
    ]
    ways.sort(reverse=True)
    return torch.tensor([(i, j, total) for total, i, j in ways[: len(totals)]])


def _left_padded_by_hand(rows, pad_id):
    n = max(map(len, rows))
    out = torch.zeros(3, len(rows), n, dtype=torch.long)
    out[0] = pad_id
    for i, row in enumerate(rows):
        out[0, i, n - len(row) :] = torch.tensor(row)
        out[1, i, n - len(row) :] = 1
        out[2, i, n - len(row) :] = torch.arange(len(row))
    return out


def _group_rounded_by_int8(W, bits, group):
    top = 2 ** (bits - 1) - 1
    blocks = []
    for part in W.split(group, dim=1):
        largest = part.abs().max(dim=1).values[:, None]
        blocks.append(torch.round(part * top / largest) * largest / top)
    return torch.cat(blocks, dim=1)


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("07.bert_embedding", _bert_embedding),
    ("07.join_pair", _join_pair),
    ("07.apply_masks", _apply_masks),
    ("07.mlm_loss", lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten())),
    ("07.pseudo_log_likelihood", _pseudo_log_likelihood),
    ("07.bert_parameters", _bert_parameters),
    ("07.precision_recall_f1", _precision_recall_f1),
    ("08.causal_lm_loss", _causal_lm_loss),
    ("08.gpt_parameters", _gpt_parameters),
    ("08.rms_norm", lambda x, weight, eps: F.rms_norm(x, (x.shape[-1],), weight, eps)),
    (
        "08.swiglu",
        lambda x, W_gate, W_up, W_down: torch.einsum(
            "...f,...f,fd->...d", F.silu(x @ W_gate), x @ W_up, W_down
        ),
    ),
    ("08.grouped_query_attention", _grouped_query_attention),
    (
        "08.kv_cache_bytes",
        lambda layers, heads, d, n, size: math.prod((2, layers, heads, d, n, size)),
    ),
    ("08.power_law", _power_law),
    ("09.nucleus_probs", _nucleus_probs),
    ("09.penalised", repetition_penalty_filter),
    ("09.beam_step", _beam_step_by_hand),
    (
        "09.cache_size",
        lambda layers, heads, kv_heads, d_k, n, batch, width: sum(
            torch.empty(batch, kv_heads, n, d_k, device="meta").numel() * width
            for _ in range(2 * layers)
        ),
    ),
    ("09.left_padded", _left_padded_by_hand),
    ("09.group_rounded", _group_rounded_by_int8),
    (
        "09.remaining",
        lambda p, q: F.normalize(torch.relu(p - q), p=1, dim=0) if not torch.equal(p, q) else q,
    ),
]
"""(exercise, answer)."""

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    (
        "07.bert_embedding",
        lambda ids, segments, W_e, W_s, W_p: F.layer_norm(
            W_e[ids] + W_p[: ids.shape[1]], (W_e.shape[1],), eps=1e-12
        ),
        "少了段嵌入",
    ),
    (
        "07.join_pair",
        lambda first, second, cls_id, sep_id: _join_pair(first, second, cls_id, sep_id)[:, :-1],
        "少了最后一个",
    ),
    (
        "07.apply_masks",
        lambda ids, chosen, fate, drawn, mask_id: torch.stack(
            [
                ids.masked_fill(chosen, mask_id),
                ids.masked_fill(~chosen, -100),
            ]
        ),
        "全换成了",
    ),
    (
        "07.mlm_loss",
        lambda logits, labels: F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="sum"
        ),
        "总和",
    ),
    (
        "07.pseudo_log_likelihood",
        lambda ids, score, mask_id: score(ids)[range(len(ids)), ids][1:-1].sum(),
        "没有挖掉",
    ),
    (
        "07.bert_parameters",
        lambda V, d, layers, d_ff, n: _bert_parameters(V, d, layers, d_ff, n) - d * (d + 1),
        "少了池化层",
    ),
    (
        "07.precision_recall_f1",
        lambda confusion: _precision_recall_f1(confusion.mT),
        "换了位置",
    ),
    (
        "08.causal_lm_loss",
        lambda logits, ids, pad_id: F.cross_entropy(
            logits.flatten(0, 1), ids.flatten(), ignore_index=pad_id
        ),
        "没有移位",
    ),
    ("08.gpt_parameters", lambda V, n, d, layers: layers * 12 * d * d, "应当是"),
    (
        "08.gpt_parameters",
        lambda V, n, d, layers: (V + n) * d + layers * 12 * d * d,
        "只数了矩阵",
    ),
    ("08.rms_norm", lambda x, w, eps: x * (x.square().mean() + eps).rsqrt() * w, "一行一个"),
    (
        "08.rms_norm",
        lambda x, weight, eps: F.layer_norm(
            x, (x.shape[-1],), weight, torch.zeros_like(weight), eps
        ),
        "那是层归一化",
    ),
    ("08.swiglu", lambda x, a, b, c: (F.silu(x @ b) * (x @ a)) @ c, "换了位置"),
    (
        "08.grouped_query_attention",
        lambda Q, K, V: F.scaled_dot_product_attention(Q[None], K[None], V[None], enable_gqa=True)[
            0
        ],
        "没有因果掩码",
    ),
    (
        "08.kv_cache_bytes",
        lambda layers, heads, d, n, size: layers * heads * d * n * size,
        "少了一半",
    ),
    ("08.power_law", lambda N, L, E: _power_law(N, L, 0 * E), "没有减去 E"),
    (
        "09.nucleus_probs",
        lambda probs, p: F.normalize(
            torch.where(probs.log() >= probs.max().log() + math.log(p), probs, 0.0), p=1, dim=0
        ),
        "min-p",
    ),
    (
        "09.penalised",
        lambda logits, token_ids, r: logits.index_put((token_ids,), logits[token_ids] / r),
        "一律除了",
    ),
    ("09.beam_step", lambda totals, log_P: _beam_step_by_hand(totals * 0, log_P), "没有加上"),
    (
        "09.cache_size",
        lambda layers, heads, kv_heads, d_k, n, batch, width: (
            2 * layers * heads * d_k * n * batch * width
        ),
        "头数",
    ),
    (
        "09.left_padded",
        lambda rows, pad_id: torch.stack(
            [
                t := _left_padded_by_hand(rows, pad_id)[0],
                (t != pad_id).long(),
                ((t != pad_id).long().cumsum(1) - 1).clamp(min=0),
            ]
        ),
        "猜的",
    ),
    (
        "09.group_rounded",
        lambda W, bits, group: _group_rounded_by_int8(W, bits, W.shape[1]),
        "整行",
    ),
    ("09.remaining", lambda p, q: p.clone(), "重抽"),
]
"""(exercise, answer, part of what is said)."""
