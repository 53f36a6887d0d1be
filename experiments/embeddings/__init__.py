"""The study of sentence embeddings: signed against one-sided SAEs, by reconstruction and by retrieval."""
