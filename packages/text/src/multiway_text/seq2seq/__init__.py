"""Writing with masked models: decoding behind a key-value cache, and the rules of beam search.

    texts = decode(model, settings, tokenizer, sources, Decoding(num_beams=5))

Read `decode.py` first.
"""
