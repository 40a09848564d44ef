"""Live figures: ipywidgets in a kernel, plain JavaScript in the published page.

`AttentionHeatmap`: attention weights by layer and head, with mask, temperature and √d_k.
`ForwardPass`: one sentence through an encoder–decoder, tensor by tensor.
"""

from lmlib.widgets.attention_heatmap import AttentionHeatmap
from lmlib.widgets.forward_pass import ForwardPass

__all__ = ["AttentionHeatmap", "ForwardPass"]
