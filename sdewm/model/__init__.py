"""The world model (RSSM) and the behaviour learnt in its imagination."""
