"""The world model (RSSM), and actor and critic learnt in its imagination."""
