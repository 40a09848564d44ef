"""Live figures: ipywidgets in a kernel, plain JavaScript in the published page.

`AttentionHeatmap`: attention weights by layer and head, with mask, temperature and √d_k.
`BPEStepper`: the reader's own text, merged pair by pair.
`FillMask`: mask characters of a sentence, see the candidates and where the model looks.
`ForwardPass`: one sentence through an encoder–decoder, tensor by tensor.
`NGramExplorer`: type a prefix, see what may follow and how its probability is multiplied.
`PoemWriter`: a poem is written character by character, and each draw is laid open.
`TrainingCurve`: scrub through the steps of training runs, and read what was written then.
`Translator`: a Chinese sentence becomes English, piece by piece, with its alignment.
"""

from lmlib.widgets.attention_heatmap import AttentionHeatmap
from lmlib.widgets.bpe_stepper import BPEStepper
from lmlib.widgets.fill_mask import FillMask
from lmlib.widgets.forward_pass import ForwardPass
from lmlib.widgets.ngram_explorer import NGramExplorer
from lmlib.widgets.poem_writer import PoemWriter
from lmlib.widgets.training_curve import TrainingCurve
from lmlib.widgets.translator import Translator

__all__ = [
    "AttentionHeatmap",
    "BPEStepper",
    "FillMask",
    "ForwardPass",
    "NGramExplorer",
    "PoemWriter",
    "TrainingCurve",
    "Translator",
]
