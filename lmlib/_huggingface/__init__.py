"""Models to and from Hugging Face `transformers`, one file a family: see `lmlib.pretrained`."""
