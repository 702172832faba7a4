"""Corpora, tokenizers, splits, embeddings and the token store."""
